"""Tasks that begin and end beside the calls of the program: backward passes and steps of optimizers.

Flows in: where such a task belongs, when it starts and when it ends. Flows out: one task record each.

Torch reports when such a task begins. It does not report when the task raises. So a detached scope is never
the current scope: a scope that may never end could not be left either. The enclosing scope records tasks that
were still open at its own end as ERROR.
"""

from __future__ import annotations

import sys

from flowprov.capture.failures import close_abandoned
from flowprov.capture.task_records import close_task, open_scope
from flowprov.clock import ticks
from flowprov.runtime.context import Scope, open_around


class DetachedScope:
    """An open task that is never the current scope.

    Parameters
    ----------
    parent
        The enclosing scope.
    line_prefix
        The fields of its record that tell where it belongs and what it is.
    used
        Its inputs, encoded.

    Attributes
    ----------
    scope
        The scope that the journal lists as open.
    """

    __slots__ = ("_holder", "scope")

    def __init__(self, parent: Scope, line_prefix: bytes, used: bytes) -> None:
        journal = parent.journal
        # The scope does not refer to its parent: autograd keeps objects of a backward pass that raised,
        # and these must not keep the parent alive.
        self.scope = Scope(journal, journal.next_number(), parent.workflow_id, line_prefix, used)
        self._holder = open_around(parent)
        if self._holder is not None:
            self._holder.ensure_extras().on_end.append(self.abandon)
        open_scope(self.scope, current=False)

    def end(self, tail: bytes = b"") -> None:
        """Record the end of the task.

        Parameters
        ----------
        tail
            Further fields of its record, each with its comma in front.
        """
        ended = ticks()
        self._unregister()
        close_task(self.scope, ended, b"", tail)

    def abandon(self, error: BaseException | None = None) -> None:
        """Record that the task never reached its end.

        Parameters
        ----------
        error
            The exception that ended the enclosing scope; None to take the one that is being handled.
        """
        cause = error or sys.exc_info()[1]
        # A loop that is left early gets GeneratorExit, whatever the reason was.
        close_abandoned(self.scope, None if isinstance(cause, GeneratorExit) else cause)
        self._unregister()

    def _unregister(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None and holder.extras is not None and self.abandon in holder.extras.on_end:
            holder.extras.on_end.remove(self.abandon)
