"""``FlowprovCallback`` for the Trainer of transformers.

Flows in: the events of a Trainer. Flows out: one run, with parameters, metrics, epochs, batches and
checkpoints; a training that goes on from a checkpoint is a later attempt of the run that wrote it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

from flowprov.errors import MissingExtraError
from flowprov.integrations.run import AdapterRun, callback

try:
    import transformers as _transformers  # noqa: F401 - only to say in time that it is missing
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise  # transformers is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("transformers", "transformers", "follow its Trainer") from error

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import ExportableState, TrainerCallback

_TRAINING_LOOP = "_inner_training_loop"  # the method of Trainer that calls on_train_begin, in 4.x and 5.x
_STATE_FILE = "trainer_state.json"
_MAX_STATE_BYTES = 50_000_000


def register() -> None:
    """Have ``TrainingArguments(report_to="flowprov")`` add the callback."""
    INTEGRATION_TO_CALLBACK["flowprov"] = FlowprovCallback


class FlowprovCallback(TrainerCallback, ExportableState):
    """Record what a Trainer does: ``Trainer(..., callbacks=[FlowprovCallback()])``.

    The run is the workflow that is open, else one that is named after ``run_name``, or ``training``. What is
    measured by ``evaluate`` after the training belongs to the run, too.
    """

    def __init__(self) -> None:
        self.workflow_id: str | None = None  # set by Trainer where it restores callbacks from a checkpoint
        self._run = AdapterRun()
        self._epoch = 0
        self._batch = 0
        self._is_second = False  # beside another one in the same Trainer, it does nothing

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold: the workflow that wrote it."""
        return {"args": {}, "attributes": {"workflow_id": self._run.workflow_id}}

    @callback
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Open the run, and say from where it goes on."""
        stored = state.stateful_callbacks.get(type(self).__name__)
        # Trainer looks for it at each checkpoint; one that was written without this callback has none.
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self._run.abandon()
        self._is_second = not _follow(self._run, state)
        if self._is_second:
            return
        self._run.open(_name_of(args), is_main=state.is_world_process_zero)
        self._epoch, self._batch = int(state.epoch or 0), 0
        if state.is_world_process_zero:
            if state.global_step:
                earlier = _workflow_in(stored)
                path = _checkpoint_of(args, state, earlier)
                self._run.resume(path, workflow_id=earlier, step=state.global_step, epoch=self._epoch)
            self._run.log_params(_params_of(args, kwargs.get("model")))

    @callback
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Close the run."""
        self._run.close()
        followed = _followed.pop(threading.get_ident(), [])
        if around := [(run, of) for run, of in followed if run.is_open]:
            _followed[threading.get_ident()] = around

    @callback
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Begin an epoch. The one before ends here: it is evaluated and saved after ``on_epoch_end``."""
        if self._run.is_open:
            self._run.batches().finish()
            self._run.epochs.begin(self._epoch, self._epoch)
            self._epoch, self._batch = self._epoch + 1, 0

    @callback
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Begin a batch: what one step of the optimizer sees."""
        if self._run.is_open:
            self._run.batches().begin(state.global_step, self._batch)
            self._batch += 1

    @callback
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """End the batch."""
        self._run.batches().end()

    @callback
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """End the last batch."""
        self._run.batches().finish()

    @callback
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Record what the Trainer logs."""
        if state.is_world_process_zero and isinstance(logs, Mapping):
            self._log(args, state, logs)

    @callback
    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Record what ``predict`` measured: the Trainer does not log it."""
        if state.is_world_process_zero and isinstance(metrics, Mapping):
            self._log(args, state, metrics)

    @callback
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Record the checkpoint."""
        if state.is_world_process_zero:
            if state.is_hyper_param_search:  # each trial has a folder of its own
                path = _checkpoint_of(args, state, self._run.workflow_id)
            else:
                path = _folder_of(args, state)
            if path is not None:
                self._run.log_checkpoint(path, epoch=int(state.epoch or 0), step=state.global_step)

    def _log(self, args: Any, state: Any, values: Mapping[str, Any]) -> None:
        if self._is_second:
            return
        is_new = not self._run.is_open and self._run.workflow_id is None
        if is_new:  # nothing was trained: the evaluation is the run
            self._run.open(_name_of(args, "evaluation"))
        self._run.log_metrics(values, state.global_step)
        if is_new:
            self._run.close()


_followed: dict[int, list[tuple[AdapterRun, Any]]] = {}  # by thread: runs with their states, outermost first


def _follow(run: AdapterRun, state: Any) -> bool:
    """Begin to follow a training; return False if another callback of the same Trainer does that.

    Runs of this thread whose training an exception ended are closed: the Trainer tells no callback of it. As
    many trainings go on around this one as there are frames of the loop of a Trainer on the stack.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no public way
    loops = 0
    while frame is not None:
        loops += frame.f_code.co_name == _TRAINING_LOOP
        frame = frame.f_back
    known = [(one, of) for one, of in _followed.get(threading.get_ident(), []) if one.is_open]
    if any(of is state for _, of in known):
        return False
    around = max(loops - 1, 0) if loops else len(known)
    for abandoned, _ in reversed(known[around:]):
        abandoned.abandon()
    _followed[threading.get_ident()] = [*known[:around], (run, state)]
    return True


def _name_of(args: Any, default: str = "training") -> str:
    name = getattr(args, "run_name", None)
    return name if isinstance(name, str) and name != getattr(args, "output_dir", None) else default


def _params_of(args: Any, model: Any) -> dict[str, Any]:
    """Return the arguments of the Trainer, and the model's configuration as ``model``."""
    params = dict(args.to_dict())
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        params["model"] = config.to_dict()
    elif isinstance(config, Mapping):
        params["model"] = config
    return params


def _workflow_in(stored: Any) -> str | None:
    """Return the workflow in what a checkpoint holds of this callback; of several the last one."""
    latest = None
    for one in stored if isinstance(stored, list) else [stored]:
        attributes = one.get("attributes") if isinstance(one, Mapping) else None
        found = attributes.get("workflow_id") if isinstance(attributes, Mapping) else None
        if isinstance(found, str):
            latest = found
    return latest


def _folder_of(args: Any, state: Any, *inner: str) -> str:
    """Return where the Trainer saves the current step: it tells no callback."""
    return os.path.join(args.output_dir, *inner, f"checkpoint-{state.global_step}")  # noqa: PTH118 - as it joins


def _checkpoint_of(args: Any, state: Any, workflow_id: str | None) -> str | None:
    """Return the folder of the checkpoint of the current step that a workflow wrote; None if it is not found.

    The Trainer tells no callback from where it loads.
    """
    given = getattr(args, "resume_from_checkpoint", None)
    folders = [given] if isinstance(given, str) else []
    folders.append(_folder_of(args, state))
    if state.is_hyper_param_search and os.path.isdir(args.output_dir):  # noqa: PTH112 - as above
        folders += [_folder_of(args, state, name) for name in os.listdir(args.output_dir)]  # noqa: PTH208
    written = (folder for folder in folders if _is_written_by(folder, workflow_id, state.global_step))
    return next(written, None)


def _is_written_by(folder: str, workflow_id: str | None, step: int) -> bool:
    path = os.path.join(folder, _STATE_FILE)  # noqa: PTH118 - as above
    try:
        if os.path.getsize(path) > _MAX_STATE_BYTES:  # noqa: PTH202 - as above
            return False
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
            found = json.load(file)
    except (OSError, ValueError):
        return False
    if not isinstance(found, dict):
        return False
    stored = found.get("stateful_callbacks") or {}
    written_by = _workflow_in(stored.get(FlowprovCallback.__name__)) if isinstance(stored, dict) else None
    return found.get("global_step") == step and written_by == workflow_id
