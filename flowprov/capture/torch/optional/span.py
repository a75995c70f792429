"""Tasks that begin and end beside the calls of the program: backward passes, steps of optimizers.

Flows in: where such a task belongs, its start and its end. Flows out: one task record each.

Torch says when one begins; when it raises, torch says nothing. So none of them is ever the current scope:
what would not be ended could not be left either. The scope around records those left over as ERROR.
"""

from __future__ import annotations

import sys

import msgspec

from flowprov.capture.failures import describe
from flowprov.capture.lines import measure, write_end
from flowprov.capture.torch.model import open_around
from flowprov.clock import clock, ticks
from flowprov.context import Scope
from flowprov.records import Error


class Span:
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
        number = journal.next_number()
        # Without its parent: what autograd keeps of a backward that raised must not keep that alive.
        self.scope = scope = Scope(journal, number, parent.workflow_id, place, used)
        journal.open_scopes[number] = scope
        self._holder = open_around(parent)
        if self._holder is not None:
            self._holder.extra().on_end.append(self.give_up)
        measure(scope)
        scope.started = ticks()

    def end(self, tail: bytes = b"") -> None:
        """Record that it ended, with further fields of its line."""
        ended = ticks()
        self._let_go()
        write_end(self.scope, ended, b"", tail)

    def give_up(self, error: BaseException | None = None) -> None:
        """Record that its end was never met; the exception is what ended the scope around it."""
        self._let_go()
        scope = self.scope
        journal = scope.journal
        if scope.key is None or journal.open_scopes.pop(scope.key, None) is None:
            return
        met = error or sys.exc_info()[1]
        if met is None or isinstance(met, GeneratorExit):  # a loop that is left cannot see by what
            described = Error(type="Unknown", message="left without reaching its end")
        else:
            described = describe(met)
        journal.append(
            b'{"type":"task",%b,"status":"ERROR","ended_at":%d,"error":%b}\n'
            % (scope.beginning(), clock.now(), msgspec.json.encode(described))
        )

    def _let_go(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None and holder.extras is not None and self.give_up in holder.extras.on_end:
            holder.extras.on_end.remove(self.give_up)
