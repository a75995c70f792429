"""``FlowprovTracker`` for accelerate.

Flows in: the calls of an Accelerator. Flows out: one run, with its configuration, metrics and checkpoints; a
program that loads a state is a later attempt of the run that saved it.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any

from flowprov.capture.handles import WorkflowHandle, current_workflow
from flowprov.errors import MissingExtraError
from flowprov.integrations.run import AdapterRun, callback

try:
    from accelerate import Accelerator, PartialState
    from accelerate.tracking import GeneralTracker
except ModuleNotFoundError as error:
    if error.name != "accelerate":
        raise  # accelerate is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("accelerate", "accelerate", "be one of its trackers") from error


class FlowprovTracker(GeneralTracker):  # type: ignore[misc]
    """Record what an Accelerator logs: ``Accelerator(log_with=FlowprovTracker())``.

    The run is the workflow that is open, else one that begins with ``init_trackers`` and ends with
    ``end_training``. ``save_state`` and ``load_state`` are recorded, too.

    Parameters
    ----------
    run_name
        The name of the workflow.
    """

    name = "flowprov"
    requires_logging_directory = False

    def __init__(self, run_name: str = "training", **_: Any) -> None:
        super().__init__()
        self._run_name = run_name
        self._run = AdapterRun()
        self._has_begun = False
        self._step: int | None = None
        self._unsaved: str | None = None  # a folder whose files are being written
        self._hooks: list[Any] = []

    @property
    def tracker(self) -> WorkflowHandle | None:
        """Return the workflow; None before the run begins, or if nothing is recorded."""
        return current_workflow()

    @callback
    def start(self) -> None:
        """Open the run."""
        self._close()
        self._begin()

    @callback
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Record the configuration."""
        if not self._has_begun:  # accelerate in some versions before 1.15 does not call `start`
            self._begin()
        if _is_main():
            self._run.log_params(values)

    @callback
    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        """Record metrics."""
        if not self._has_begun:
            self._begin()
        if _is_main():
            self._record_saved()
            self._step = step if type(step) is int else self._step
            self._run.log_metrics(values, step)

    @callback
    def finish(self) -> None:
        """Close the run."""
        self._close()

    def _begin(self) -> None:
        self._has_begun = True
        if _is_main():
            self._run.open(self._run_name)
            accelerator = _calling_accelerator()
            if accelerator is not None:
                self._hooks = [
                    accelerator.register_save_state_pre_hook(self._note_saving),
                    accelerator.register_load_state_pre_hook(self._note_loading),
                ]

    def _close(self) -> None:
        self._record_saved()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._run.close()

    @callback
    def _note_saving(self, models: Any, weights: list[Any], output_dir: str) -> None:  # noqa: ARG002
        """Note that a state is saved; this is called before its files are written."""
        self._record_saved()
        self._unsaved = os.fspath(output_dir)
        if weights:
            # `save_state` lets go of the weights when it returns: then all files are there.
            weakref.finalize(weights[0], self._record_saved).atexit = False

    @callback
    def _note_loading(self, models: Any, input_dir: str) -> None:  # noqa: ARG002
        """Record that this is a later attempt."""
        self._record_saved()
        self._run.resume(os.fspath(input_dir))

    @callback
    def _record_saved(self) -> None:
        folder = self._unsaved
        if folder is not None and not _is_saving():
            self._unsaved = None
            self._run.log_checkpoint(folder, step=self._step)


def _is_main() -> bool:
    return bool(PartialState().is_main_process)


def _calling_accelerator() -> Accelerator | None:
    """Return the Accelerator whose method calls: it gives its trackers no reference to itself."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no public way
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Accelerator):
            return found
        frame = frame.f_back
    return None


def _is_saving() -> bool:
    """Whether ``save_state`` is running: a hook of the program may have let go of the weights before."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None:
        if frame.f_code is Accelerator.save_state.__code__:
            return True
        frame = frame.f_back
    return False
