"""``FlowprovLogger`` and ``FlowprovCallback`` for the Trainer of Lightning.

Flows in: the calls of a Trainer. Flows out: one run for each of ``fit``, ``validate``, ``test`` and
``predict``. The logger records hyperparameters, metrics and checkpoints. The callback records epochs and
batches, which contain their forwards, and from which checkpoint a training goes on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from flowprov.capture.handles import WorkflowHandle, current_workflow
from flowprov.errors import MissingExtraError
from flowprov.integrations.run import AdapterRun, callback

# Two packages have the same content: one belongs to the other's project. A program uses one of them.
_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


class _NotInstalledError(Exception):
    """A package is not installed."""


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise  # it is installed, and something that it needs is not: its own message says what
        raise _NotInstalledError from error


def _import_lightning() -> Any:
    """Return the package that the program uses; without any, the one that is installed."""
    for name in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        with contextlib.suppress(_NotInstalledError):
            return _import(name)
    raise MissingExtraError("pytorch-lightning", "lightning", "follow its Trainer")


_lightning = _import_lightning()
_Callback: Any = _lightning.Callback
_Logger: Any = _lightning.loggers.Logger


class FlowprovLogger(_Logger):  # type: ignore[misc]
    """Record what a Trainer logs: ``Trainer(logger=FlowprovLogger())``, also beside other loggers.

    The run is the workflow that is open, else one that is named ``lightning``. Together with
    :class:`FlowprovCallback` it is one that is named after what the Trainer does: ``fit``, ``test``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.run = AdapterRun()

    @property
    def name(self) -> str:
        """Return the name of the logger."""
        return "flowprov"

    @property
    def version(self) -> str | None:
        """Return the id of the workflow; None before the run begins."""
        return self.run.workflow_id

    @property
    def experiment(self) -> WorkflowHandle | None:
        """Return the workflow; None before the run begins, or if nothing is recorded."""
        return current_workflow()

    @callback
    def log_graph(self, model: Any, input_array: Any = None) -> None:  # noqa: ARG002
        """Open the run: the Trainer calls this in any case, before it begins."""
        self._open()

    @callback
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Record hyperparameters: a mapping, or a namespace."""
        self._open()
        if _is_rank_zero():
            self.run.log_params(params if isinstance(params, Mapping) else vars(params))

    @callback
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics."""
        self._open()
        if _is_rank_zero():
            self.run.log_metrics(metrics, step)

    @callback
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Record a checkpoint."""
        path = getattr(checkpoint_callback, "_last_checkpoint_saved", None)  # there is no public name
        path = path or checkpoint_callback.last_model_path or checkpoint_callback.best_model_path
        if path and _is_rank_zero():
            step = getattr(checkpoint_callback, "_last_global_step_saved", None)
            self.run.log_checkpoint(path, step=step)

    @callback
    def finalize(self, status: str) -> None:
        """Close the run, if the logger opened it."""
        error = sys.exc_info()[1]
        self.run.close(error or Exception(status) if status == "failed" else None)

    def _open(self) -> None:
        self.run.open("lightning", is_main=_is_rank_zero())


def _loop_of(step: str) -> tuple[Any, Any, Any]:
    """Return the methods that begin and end a batch of one kind, and that end the loop over them."""

    @callback
    def begin(
        self: FlowprovCallback,
        trainer: Any,
        pl_module: Any,  # noqa: ARG001
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Begin a batch; those of the check before a training say so."""
        metadata: dict[str, Any] = {"sanity_check": True} if trainer.sanity_checking else {}
        if dataloader_idx:
            metadata["loader"] = dataloader_idx
        self._run.batches(step).begin(batch, batch_idx, **metadata)

    @callback
    def end(self: FlowprovCallback, *_: Any) -> None:
        """End the batch."""
        self._run.batches(step).end()

    @callback
    def finish(self: FlowprovCallback, *_: Any) -> None:
        """End the loop over batches."""
        self._run.batches(step).finish()

    return begin, end, finish


class FlowprovCallback(_Callback):  # type: ignore[misc]
    """Record epochs and batches, with the forwards inside: ``Trainer(callbacks=[FlowprovCallback()])``.

    A training that goes on from a checkpoint is a later attempt of the run that wrote it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run = AdapterRun()
        self._earlier: str | None = None
        self._is_logged = False  # whether a logger of ours shares the run

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold: the workflow that wrote it."""
        return {"workflow_id": self._run.workflow_id}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what a checkpoint holds."""
        self._earlier = state_dict.get("workflow_id")

    @callback
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Open the run."""
        if not self._is_logged:  # a logger may be used between two trainings, and its run is open then
            self._run.abandon()
        self._earlier = None
        logger = next((one for one in trainer.loggers if isinstance(one, FlowprovLogger)), None)
        self._is_logged = logger is not None
        self._run = AdapterRun() if logger is None else logger.run
        # The Tuner fits a little, with a callback of its own that ends it; there is no public sign of that.
        is_tuned = any(getattr(one, "_early_exit", False) is True for one in trainer.callbacks)
        name = "tune" if is_tuned else str(getattr(stage, "value", stage))
        self._run.open(name, is_main=trainer.is_global_zero)

    @callback
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Close the run."""
        self._run.close()

    @callback
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the loops with the exception that ended them, and the run; a logger hears of it later.

        Another callback may save a checkpoint meanwhile.
        """
        self._run.end_loops(exception)
        if not self._is_logged:
            self._run.close(exception)

    @callback
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Say from where the training goes on: by now it is known how far that was."""
        if trainer.ckpt_path and trainer.is_global_zero:
            path, epoch = str(trainer.ckpt_path), trainer.current_epoch
            self._run.resume(path, workflow_id=self._earlier, step=trainer.global_step, epoch=epoch)

    @callback
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Begin an epoch. The one before ends here: it is logged and saved after ``on_train_epoch_end``."""
        self._begin_epoch(trainer)

    @callback
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Begin a batch."""
        if not self._run.epochs.is_open():  # it goes on in the middle of an epoch, which does not begin anew
            self._begin_epoch(trainer)
        self._run.batches().begin(batch, batch_idx)

    @callback
    def on_train_batch_end(self, *_: Any) -> None:
        """End the batch."""
        self._run.batches().end()

    @callback
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the loop over batches."""
        self._run.batches().finish()

    @callback
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the last epoch."""
        self._run.epochs.finish()

    def _begin_epoch(self, trainer: Any) -> None:
        self._run.batches().finish()
        self._run.epochs.begin(trainer.current_epoch, trainer.current_epoch)

    @callback
    def _begin_evaluation(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Record the checkpoint that is validated, tested, or predicts."""
        if trainer.ckpt_path and trainer.state.fn != "fit" and trainer.is_global_zero:
            self._run.use_checkpoint(str(trainer.ckpt_path))

    on_validation_start = on_test_start = on_predict_start = _begin_evaluation
    on_validation_batch_start, on_validation_batch_end, on_validation_end = _loop_of("eval")
    on_test_batch_start, on_test_batch_end, on_test_end = _loop_of("test")
    on_predict_batch_start, on_predict_batch_end, on_predict_end = _loop_of("predict")


def _is_rank_zero() -> bool:
    return getattr(_lightning.utilities.rank_zero_only, "rank", 0) == 0
