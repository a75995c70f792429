"""``FlowprovHandler`` for the engines of PyTorch-Ignite.

Flows in: the events of engines. Flows out: one run for each ``run`` of a trainer: epochs and batches, which
contain their forwards, and the metrics of the trainer and of evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowprov.errors import MissingExtraError
from flowprov.integrations.run import AdapterRun, callback

try:
    from ignite.engine import Events
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "ignite":
        raise  # Ignite is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("pytorch-ignite", "ignite", "follow its engines") from error

_Events: Any = Events


class FlowprovHandler:
    """Record a training: ``FlowprovHandler().attach(trainer, validation=evaluator)``.

    The run is the workflow that is open, else one that is named ``training``. An exception passes through the
    engine as it would without the handler: it attaches nothing to ``EXCEPTION_RAISED``, as that would make
    the engine keep the exception.

    Parameters
    ----------
    output_transform
        Returns numbers by name for the output of an iteration of the trainer; they are recorded as metrics.
        By default the output is not looked at.
    """

    def __init__(self, output_transform: Callable[[Any], Mapping[str, Any]] | None = None) -> None:
        self._run = AdapterRun(is_told=True)
        self._output_transform = output_transform

    def attach(self, trainer: Any, **evaluators: Any) -> None:
        """Follow a trainer, and evaluators by their names, which their metrics begin with.

        Parameters
        ----------
        trainer
            The engine that trains.
        **evaluators
            Engines that it runs meanwhile.
        """
        for event, handler in (
            (_Events.STARTED, self._start),
            (_Events.EPOCH_STARTED, self._begin_epoch),
            (_Events.ITERATION_STARTED, self._begin_iteration),
            (_Events.ITERATION_COMPLETED, self._end_iteration),
            (_Events.EPOCH_COMPLETED, self._end_epoch),
            (_Events.COMPLETED, self._complete),
        ):
            trainer.add_event_handler(event, handler)
        for name, evaluator in evaluators.items():
            batches = _EvaluatedBatches(self._run_now, name)
            evaluator.add_event_handler(_Events.ITERATION_STARTED, batches.begin)
            evaluator.add_event_handler(_Events.ITERATION_COMPLETED, batches.end)
            evaluator.add_event_handler(_Events.COMPLETED, batches.complete, trainer)

    def _run_now(self) -> AdapterRun:
        return self._run

    @callback
    def _start(self, engine: Any) -> None:
        self._run.abandon()  # an exception ended the training before, and nobody said so
        self._run = AdapterRun(is_told=True)
        self._run.open("training")
        self._run.log_params(
            {"max_epochs": engine.state.max_epochs, "epoch_length": engine.state.epoch_length}
        )

    @callback
    def _begin_epoch(self, engine: Any) -> None:
        self._run.epochs.begin(engine.state.epoch - 1, engine.state.epoch - 1)

    @callback
    def _begin_iteration(self, engine: Any) -> None:
        state = engine.state
        position = (state.iteration - 1) % state.epoch_length if state.epoch_length else state.iteration - 1
        self._run.batches().begin(state.batch, position)

    @callback
    def _end_iteration(self, engine: Any) -> None:
        self._run.batches().end()
        if self._output_transform is not None:
            self._run.log_metrics(self._output_transform(engine.state.output), engine.state.iteration)

    @callback
    def _end_epoch(self, engine: Any) -> None:
        """Record the metrics. The epoch ends with the next one: handlers behind this one may evaluate."""
        self._run.batches().finish()
        self._run.log_metrics(engine.state.metrics, engine.state.iteration)

    @callback
    def _complete(self, _engine: Any) -> None:
        self._run.close()


class _EvaluatedBatches:
    """The batches of one evaluator."""

    def __init__(self, run: Callable[[], AdapterRun], name: str) -> None:
        self._run = run
        self._name = name

    @callback
    def begin(self, engine: Any) -> None:
        """Begin a batch."""
        self._run().batches("eval").begin(engine.state.batch, engine.state.iteration - 1)

    @callback
    def end(self, _engine: Any) -> None:
        """End the batch."""
        self._run().batches("eval").end()

    @callback
    def complete(self, engine: Any, trainer: Any) -> None:
        """Record the metrics of the evaluation, at the step of the trainer."""
        self._run().batches("eval").finish()
        metrics = {f"{self._name}/{name}": value for name, value in engine.state.metrics.items()}
        self._run().log_metrics(metrics, trainer.state.iteration)


__all__ = ["FlowprovHandler"]
