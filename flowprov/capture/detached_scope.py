"""Tasks that begin and end beside the calls of the program: backward passes, steps of optimizers.

Flows in: where such a task belongs, its start and its end. Flows out: one task record each.

Torch says when one begins; when it raises, torch says nothing. So none of them is ever the current scope:
what would not be ended could not be left either. The scope around records those left over as ERROR.
"""

from __future__ import annotations

import sys

from flowprov.capture.failures import close_abandoned
from flowprov.capture.recorder import close_task, open_scope
from flowprov.clock import ticks
from flowprov.runtime.context import Scope, open_around


class DetachedScope:
    """An open task that is nobody's scope.

    Parameters
    ----------
    parent
        The scope around it.
    place
        The part of its line that says where it belongs and what it is.
    used
        Its inputs, encoded.

    Attributes
    ----------
    scope
        What the journal keeps of it while it is open.
    """

    __slots__ = ("_holder", "scope")

    def __init__(self, parent: Scope, place: bytes, used: bytes) -> None:
        journal = parent.journal
        # Without its parent: what autograd keeps of a backward that raised must not keep that alive.
        self.scope = Scope(journal, journal.next_number(), parent.workflow_id, place, used)
        self._holder = open_around(parent)
        if self._holder is not None:
            self._holder.ensure_extras().on_end.append(self.abandon)
        open_scope(self.scope, current=False)

    def end(self, tail: bytes = b"") -> None:
        """Record that it ended, with further fields of its line."""
        ended = ticks()
        self._unregister()
        close_task(self.scope, ended, b"", tail)

    def abandon(self, error: BaseException | None = None) -> None:
        """Record that its end was never met; the exception is what ended the scope around it."""
        self._unregister()
        met = error or sys.exc_info()[1]
        # A loop that is left cannot see by what.
        close_abandoned(self.scope, None if isinstance(met, GeneratorExit) else met)

    def _unregister(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None and holder.extras is not None and self.abandon in holder.extras.on_end:
            holder.extras.on_end.remove(self.abandon)
