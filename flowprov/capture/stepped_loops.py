"""Loops that a framework runs: it calls back when an iteration begins and when it ends.

Flows in: these calls. Flows out: the records of :class:`~flowprov.capture.training_loops.EpochLoop` and
:class:`~flowprov.capture.training_loops.BatchLoop`, without a ``for`` of ours.
"""

from __future__ import annotations

from typing import Any

from flowprov import guard
from flowprov.capture.loop_pass import LoopPass
from flowprov.capture.loops import Loop
from flowprov.capture.task_records import enclosing_scope
from flowprov.capture.training_loops import BatchLoop, EpochLoop
from flowprov.clock import ticks
from flowprov.runtime import context


class _Stepped(Loop[Any]):
    """What loops have in common whose iterations begin and end by calls.

    Nothing here raises but what came from outside. An iteration that was never ended is closed with its
    workflow.
    """

    def begin(self, item: Any, position: int, **metadata: Any) -> None:
        """Begin an iteration in the workflow that is open, if one is; end the one before.

        Parameters
        ----------
        item, position
            What is iterated over, and its number from 0.
        **metadata
            Custom metadata of its record.
        """
        self.end()
        if not self._enabled:
            return
        with guard.guarded("recording the start of an iteration"):
            one_pass = self._pass
            if one_pass is None:
                parent = enclosing_scope(context.current.get(), implicit=False)
                if parent is None:
                    return
                one_pass = self._pass = self._create_pass(parent, recomputed=False)
                one_pass.begin()
            scope = self._open_iteration(one_pass.parent, one_pass, position, item)
            if metadata and scope.recorded:
                scope.ensure_extras().custom_metadata.update(metadata)

    def is_open(self) -> bool:
        """Whether an iteration has begun and not ended."""
        return self._pass is not None and self._pass.scope is not None

    def end(self, error: BaseException | None = None) -> None:
        """End the iteration, if one is open.

        Parameters
        ----------
        error
            The exception that ended it, if one did.
        """
        with guard.guarded("recording the end of an iteration"):
            one_pass = self._pass
            scope = None if one_pass is None else one_pass.scope
            if one_pass is None or scope is None:
                return
            if error is None or isinstance(error, GeneratorExit):
                one_pass.close(scope, ticks())
            else:
                one_pass.close_left(scope, error)

    def finish(self, error: BaseException | None = None) -> None:
        """End the pass: what begins later is another one."""
        self.end(error)
        one_pass, self._pass = self._pass, None
        if one_pass is not None:
            with guard.guarded("ending a loop"):
                one_pass.end()

    def _create_pass(self, parent: Any, *, recomputed: bool) -> LoopPass:
        one_pass = super()._create_pass(parent, recomputed=recomputed)
        one_pass.ahead = None  # there is no consumer that could read ahead
        return one_pass


class SteppedEpochs(_Stepped, EpochLoop[Any]):
    """An epoch loop that a framework runs."""

    def __init__(self) -> None:
        super().__init__(())


class SteppedBatches(_Stepped, BatchLoop[Any]):
    """A loop over batches that a framework runs.

    Parameters
    ----------
    step
        As for :class:`~flowprov.capture.training_loops.BatchLoop`.
    """

    def __init__(self, step: str = "train") -> None:
        super().__init__((), step=step)
