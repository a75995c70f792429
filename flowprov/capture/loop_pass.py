"""One pass over a loop: what its iterations share, and how each of them ends.

Flows in: the scope of the iteration that is open, and what the program reports of it. Flows out: the records
of iterations that end in any other way than the common one, which ``loops`` writes out; and additions.
"""

from __future__ import annotations

import inspect
import sys
import threading
from types import FrameType
from typing import Any

import msgspec

from flowprov import line_templates
from flowprov.capture import failures
from flowprov.capture.additions import add_generated, merge_objects
from flowprov.capture.failures import close_all_abandoned, fail_start
from flowprov.capture.loop_iterator import asking_frame
from flowprov.capture.metrics import decode_fields
from flowprov.capture.read_ahead import ReadAhead
from flowprov.capture.task_records import (
    close_task,
    encode_outputs_and_extras,
    end_with_error,
    no_telemetry_field,
    thread_field,
)
from flowprov.clock import clock, ticks
from flowprov.journal import Journal
from flowprov.runtime import context
from flowprov.runtime.context import CodeLocation, HeldScope, LeftEarly, Scope, parent_fields_of
from flowprov.values import bytes_spent
from flowprov.values.redaction import redactor
from flowprov.values.secret_names import SECRET

_MAX_LEFT_EARLY = 100  # loops that one exception can be found to have left


class LoopPass:
    """One pass over a loop.

    Parameters
    ----------
    parent
        The scope to which the iterations belong.
    activity_id, item_name
        Name of their activity, and of the item in their inputs.
    fast
        Whether the written-out code of ``Loop`` may record the iterations, after the first ones.
    lightweight
        Whether they are recorded without telemetry.
    recomputed
        Whether checkpointing runs the loop again; each iteration says so.

    Attributes
    ----------
    ahead
        Looks whether the consumer reads ahead; None once that is known.
    group
        The number of the group to which all of them belong.
    scope
        The scope of the current iteration; None outside of one, or if its record was written elsewhere.
    last
        The scope of the iteration that ended last.
    generated
        What the current iteration generated so far, as a JSON object; None if nothing was given.
    position
        The position of the last item that was handed out.
    line_prefix
        The fields of a line that tell where the iterations belong and what they are.
    int_template, json_template
        Templates of the inputs: position, and the item as an integer or as JSON.
    line_template, open_template
        Templates of the lines of iterations that ended, and of one to which something was given.
    exact
        Whether each iteration takes an exact reading at its start and end.
    """

    __slots__ = (
        "_activity_field",
        "_lightweight",
        "_may_be_fast",
        "ahead",
        "exact",
        "fast",
        "generated",
        "group",
        "int_template",
        "json_template",
        "last",
        "line_prefix",
        "line_template",
        "open_template",
        "parent",
        "position",
        "recomputed",
        "scope",
    )

    def __init__(
        self,
        parent: Scope,
        activity_id: str,
        item_name: str,
        *,
        fast: bool,
        lightweight: bool,
        recomputed: bool = False,
    ) -> None:
        journal = parent.journal
        self.exact = journal.exact_reader is not None and not lightweight
        self.recomputed = recomputed
        self.fast = False
        self.ahead: ReadAhead | None = ReadAhead(activity_id)
        self._may_be_fast = fast and not (self.exact or recomputed)
        self.group = journal.next_number()
        self.scope: Scope | None = None
        self.last: Scope | None = None
        self.generated: bytes | None = None
        self.position = -1
        self._activity_field = b',"activity_id":' + msgspec.json.encode(activity_id)
        self._lightweight = lightweight
        if item_name.startswith("$"):  # it must not look like a marker: see values.markers
            item_name = f"${item_name}"
        key = line_templates.literal(msgspec.json.encode(item_name))
        # "%.0a" takes the item and writes nothing of it.
        integer = b'{"$redacted":true}%.0a}' if redactor().secrecy(item_name) == SECRET else b"%d}"
        self.int_template = b'{"i":%d,' + key + b":" + integer
        self.json_template = b'{"i":%d,' + key + b":%b}"
        self._belong_to(parent)

    def _belong_to(self, parent: Scope) -> None:
        self.parent = parent
        prefix = b'%b%b%b,"subtype":"iteration","group_id":%d' % (
            parent_fields_of(parent),
            b"" if threading.get_ident() == parent.journal.main_thread else thread_field(),
            self._activity_field,
            self.group,
        )
        if self._lightweight:
            prefix += no_telemetry_field()
        self.line_prefix = prefix
        self.line_template = line_templates.iteration(prefix)
        self.open_template = line_templates.open_iteration(prefix)

    def shared(self) -> tuple[Scope, Journal, bool, Any, bytes, bytes, bytes]:
        """Return what the written-out code of ``Loop`` needs of each iteration."""
        parent = self.parent
        return (
            parent,
            parent.journal,
            parent.forwards,
            parent.epoch,
            self.line_prefix,
            self.int_template,
            self.line_template,
        )

    def begin(self) -> tuple[Scope, Journal, bool, Any, bytes, bytes, bytes]:
        """Begin the pass: its journal lists it in the place of its iterations; return what they share."""
        self.parent.journal.open_scopes[self.group] = self
        return self.shared()

    def current_scope(self) -> Scope | None:
        """Return the scope of the current iteration; None if it is not recorded."""
        scope = self.scope
        return scope if scope is not None and scope.recorded else None

    def look_ahead(self, number: int, frame: FrameType | None) -> None:
        """Look whether the consumer of the loop reads ahead, while that is not known.

        Parameters
        ----------
        number
            The number of the iteration that opens.
        frame
            The frame that asks for it.
        """
        ahead = self.ahead
        if ahead is not None and ahead.is_decided(number, frame, given=self._was_given_something()):
            self.ahead = None
            self.fast = self._may_be_fast

    def _was_given_something(self) -> bool:
        last = self.last
        return last is not None and (last.extras is not None or last.open_in is not None)

    def spent(self) -> int:
        """Return the bytes that the record of the current iteration has spent, else that of the last one."""
        scope = self.scope or self.last
        used = None if scope is None else scope.used
        return bytes_spent(used) + len(self.generated or b"")

    def add_generated(self, encoded: bytes) -> None:
        """Add to what the current iteration generated, else to the one that ended last; write it at once.

        Parameters
        ----------
        encoded
            The outputs by name, as a JSON object.
        """
        scope = self.scope
        if scope is None:
            if self.last is not None and self.last.recorded:
                add_generated(self.last, decode_fields(encoded))
            return
        given = encoded if self.generated is None else merge_objects(self.generated, encoded)
        self.generated = given
        key: Any = scope.key
        journal = scope.journal
        if not scope.recorded:
            return
        if scope.exact or key < journal.own_from:
            add_generated(scope, decode_fields(encoded))
            return
        used: Any = scope.used
        line = self.open_template % (key, scope.started + clock.offset, used, given)
        scope.open_in = journal.journal_id
        journal.append_addition(line)

    def fail_start(self, previous: Scope | None, error: BaseException) -> None:
        """Take back an iteration that could not be opened to the end, and count it.

        Raises
        ------
        BaseException
            ``error``, if it came from outside.
        """
        self.scope = None
        fail_start(self.parent, previous, "recording the start of an iteration", error)

    def skip(self) -> None:
        """Count an iteration that is not recorded, as the one before it was just beginning or ending."""
        self.parent.journal.drop("reentered")

    def close(self, scope: Scope, ended: int, **metadata: Any) -> None:
        """Close an iteration that has more to record than generated values, or that is not current.

        It does nothing if another scope recorded the iteration already: its workflow ended, or an exception
        ended a scope around it.
        """
        generated, self.generated = self.generated, None
        is_open = self.scope is scope
        if not scope.recorded or not is_open:
            self.last, self.scope = scope, None
            close_all_abandoned(context.deactivate(scope))
            return
        self._follow_overlap(scope)
        mark_open(scope)
        values = None if generated is None else decode_fields(generated)
        outputs, tail = encode_outputs_and_extras(scope, values, (), metadata)
        self.last, self.scope = scope, None
        close_task(scope, ended, outputs, tail)

    def _follow_overlap(self, scope: Scope) -> None:
        """Have iterations of other loops that go on belong to the parent of this one.

        Two loops that take turns look nested until the outer one goes on and the inner one has not ended.
        """
        opened = context.current.get()
        while opened is not None and opened is not scope:
            if opened.parent is scope and isinstance(opened, HeldScope):
                for holder in list(scope.journal.open_scopes.values()):
                    if isinstance(holder, LoopPass) and holder.scope is opened:
                        holder.belong_elsewhere(self.parent)
            opened = opened.previous

    def belong_elsewhere(self, parent: Scope) -> None:
        """Belong to another scope from the open iteration on."""
        self._belong_to(parent)
        scope = self.scope
        if scope is not None:
            scope.parent, scope.parent_fields = parent, None
            scope.line_prefix = self.line_prefix
            scope.ensure_extras()  # the loop takes the long way and looks at this pass again

    def close_left(self, scope: Scope, error: BaseException) -> None:
        """Close an iteration that the loop left before its end, whatever the reason."""
        if self.scope is not scope:  # its record was written when its workflow ended
            context.deactivate(scope)
            return
        if not isinstance(error, GeneratorExit):  # the program threw it into the generator
            if scope.recorded:
                self.give_up()
                mark_open(scope)
                end_with_error(scope, error)
            else:
                self.scope = None
                context.deactivate(scope)
            return
        try:
            ended = ticks()
            parent = scope.parent
            if scope.recorded and parent is not None and scope.key is not None:
                locations = _locations_of_loop(asking_frame(sys._getframe(2)))  # noqa: SLF001 - there is no public way
                note_left_early(parent, [*(scope.left_early or ()), LeftEarly(scope.key, locations)])
            self.close(scope, ended, left_early=True)
        except BaseException as fault:  # the guard; what came from outside passes on from there
            self.close_after_fault(scope, fault, "recording an iteration that was left early")

    def close_after_fault(
        self, scope: Scope, error: BaseException, activity: str = "recording the end of an iteration"
    ) -> None:
        """Close an iteration whose record could not be written, and count it, unless the journal did."""
        if self.scope is scope and scope.recorded:
            self.give_up()
            mark_open(scope)
        failures.close_after_fault(scope, activity, error)

    def append_refused(self, line: bytes, error: BaseException) -> None:
        """Append the line of an iteration that ``fast_append`` refused; it is open no more."""
        journal = self.parent.journal
        try:
            journal.append_slowly(line, error)
        except BaseException:  # raised on; see failures.append_refused
            journal.settle(line)
            raise
        finally:
            self.scope = None

    def give_up(self) -> None:
        """Leave the current iteration to be recorded by others."""
        scope, self.scope = self.scope, None
        if scope is not None:
            extras = scope.ensure_extras()  # the loop takes the long way and looks at this pass again
            if self.generated is not None:
                extras.generated = {**decode_fields(self.generated), **extras.generated}
        self.generated = None

    def end(self) -> None:
        """End the pass: nothing of it is open any more."""
        scope = self.scope
        if scope is not None:  # an exception from outside arrived between two steps of the loop
            self.give_up()
            context.deactivate(scope)
            if scope.recorded:
                mark_open(scope)
                failures.close_interrupted(scope, sys.exc_info()[1])
        self.parent.journal.open_scopes.pop(self.group, None)


def note_left_early(parent: Scope, left: list[LeftEarly]) -> None:
    """Note iterations that were left early in the scope that will see the exception, if one was the reason.

    Only the last ones are kept: a loop that was left long ago was not left by the exception that comes now.
    """
    noted = parent.left_early
    if noted is None:
        noted = parent.left_early = []
    noted += left
    if len(noted) > 2 * _MAX_LEFT_EARLY:
        del noted[:-_MAX_LEFT_EARLY]


def mark_open(scope: Scope) -> None:
    """List an iteration as open, unless the process from which this one was forked opened it."""
    journal, key = scope.journal, scope.key
    if isinstance(key, int) and key >= journal.own_from:
        journal.open_scopes[key] = scope


def _locations_of_loop(frame: FrameType | None) -> list[CodeLocation]:
    """Return where in the program a loop was left: the code and line of the frame that ran its ``for``.

    Parameters
    ----------
    frame
        The frame that closed the loop's generator. If it is a generator too, it may be a wrapper around the
        loop (a progress bar) whose own ``for`` was left. Then the frame above it is a candidate as well.
    """
    locations: list[CodeLocation] = []
    while frame is not None:
        locations.append((frame.f_code, frame.f_lineno))
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            break
        frame = frame.f_back
    return locations
