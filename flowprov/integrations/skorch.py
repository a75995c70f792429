"""``FlowprovCallback`` for the nets of skorch.

Flows in: the calls of a net. Flows out: one run for each ``fit``: parameters, what its history has of each
epoch, and batches, which contain their forwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowprov.errors import MissingExtraError
from flowprov.integrations.run import AdapterRun, callback

try:
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "skorch":
        raise  # skorch is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("skorch", "skorch", "follow its nets") from error

_Callback: Any = Callback

_NOT_MEASURED = {"epoch", "batches"}
_NO_PARAMS = {"callbacks", "verbose"}


class FlowprovCallback(_Callback):  # type: ignore[misc]
    """Record a training: ``NeuralNet(…, callbacks=[FlowprovCallback()])``.

    The run is the workflow that is open, else one that is named ``fit``.
    """

    def initialize(self) -> FlowprovCallback:
        """Begin anew, as skorch asks before a net is used."""
        # Names that end with an underscore are no parameters: scikit-learn copies those of a callback.
        self.run_ = AdapterRun(is_told=True)
        self.step_ = "train"
        self.counts_: dict[str, int] = {}
        return self

    @callback
    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:  # noqa: ARG002, N803
        """Open the run, with the parameters of the net."""
        self.run_.abandon()  # an exception ended the training before, and nobody said so
        self.run_ = AdapterRun(is_told=True)
        self.run_.open("fit")
        self.run_.log_params(
            {name: value for name, value in net.get_params(deep=False).items() if name not in _NO_PARAMS}
        )

    @callback
    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:  # noqa: ARG002, N803
        """Close the run."""
        self.run_.close()

    @callback
    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        """Begin an epoch."""
        number = len(net.history) - 1  # the history has a row for it already
        self.counts_ = {}
        self.run_.epochs.begin(number, number)

    @callback
    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """Record what the history has of the epoch, and end it."""
        self.run_.batches(self.step_).finish()
        self.run_.log_metrics(_measured(net.history[-1]), len(net.history) - 1)
        self.run_.epochs.end()

    @callback
    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:  # noqa: ARG002, FBT001, FBT002
        """Begin a batch."""
        step = "train" if training else "eval"
        if step != self.step_:
            self.run_.batches(self.step_).finish()
            self.step_ = step
        number = self.counts_.get(step, 0)
        self.counts_[step] = number + 1
        self.run_.batches(step).begin(batch, number)

    @callback
    def on_batch_end(self, *_: Any, **__: Any) -> None:
        """End the batch."""
        self.run_.batches(self.step_).end()


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of an epoch; that one of them is the best so far is no number."""
    return {
        name: value
        for name, value in row.items()
        if name not in _NOT_MEASURED and type(value) is not bool and not name.endswith("_best")
    }


__all__ = ["FlowprovCallback"]
