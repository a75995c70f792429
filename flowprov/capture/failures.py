"""What is recorded when something goes wrong: exceptions of the program, and internal errors.

Flows in: exceptions, and the scopes that they ended. Flows out: outcomes, correction records, counts.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from flowprov import guard
from flowprov.asynchronous import came_from_outside
from flowprov.capture import replay
from flowprov.capture.additions import encode_extras
from flowprov.capture.control_flow import ended_by
from flowprov.capture.error_description import describe_exception
from flowprov.clock import clock
from flowprov.line_templates import UNFINISHED_TASK
from flowprov.records import Correction, Error, Status
from flowprov.runtime import context
from flowprov.values import as_name

if TYPE_CHECKING:
    from flowprov.runtime.context import Extras, LeftEarly, Scope


class Outcome(NamedTuple):
    """What the record says of a task or workflow that an exception ended.

    Attributes
    ----------
    status
        ERROR; FINISHED if the exception is control flow.
    error
        The description of the exception; None if it is control flow.
    metadata
        Custom metadata to add: ``ended_by``, the name of an exception that is control flow.
    """

    status: Status
    error: Error | None
    metadata: dict[str, Any]

    def field(self) -> bytes:
        """Return the ``error`` field of a line, with its comma in front; nothing if there is no error."""
        return b"" if self.error is None else b',"error":' + msgspec.json.encode(self.error)


def outcome_of(error: BaseException) -> Outcome:
    """Return what the record says of a task or workflow that this exception ended."""
    name = ended_by(error)
    if name is not None:
        return Outcome(Status.FINISHED, None, {"ended_by": name})
    return Outcome(Status.ERROR, describe_exception(error), {})


def as_exception(error: Any) -> BaseException | None:
    """Return what a program gives as the exception that ended something, as one; None for none.

    Parameters
    ----------
    error
        An exception, or what ``sys.exc_info()`` returns. Anything else becomes the message of one.
    """
    if type(error) is tuple and len(error) == 3:
        error = error[1]
    if error is None or issubclass(type(error), BaseException):
        return error  # type: ignore[no-any-return]
    return Exception(as_name(error))


def correct_left_early(scope: Scope, error: BaseException, outcome: Outcome) -> None:
    """Write a correction for each iteration in a scope that was left early by this exception.

    A loop's generator cannot see the exception that ends the loop. It notes the line at which the loop was
    left. If the exception was the reason, it passed through that very line.

    Parameters
    ----------
    scope
        The scope that sees the exception.
    error, outcome
        The exception, and what the records say of what it ended.
    """
    if not scope.left_early or replay.is_stop(error):
        return
    passed = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for left in scope.left_early:
        if was_left_at(left.locations, passed):
            scope.journal.write_control(correction_of(left, outcome))


def correction_of(left: LeftEarly, outcome: Outcome) -> Correction:
    """Return the correction of an iteration that an exception left early."""
    return Correction(
        task_id=left.key,
        status=outcome.status.value,
        error=outcome.error,
        custom_metadata=outcome.metadata or None,
    )


def was_left_at(locations: Sequence[tuple[object, int]], passed: Sequence[tuple[object, int]]) -> bool:
    """Whether an exception is why a loop was left.

    Parameters
    ----------
    locations
        Where the loop was left: code and line, innermost frame first.
    passed
        The lines through which the exception passed, in the same form.
    """
    codes = {code for code, _ in passed}
    for location in locations:
        if location in passed:
            return True
        if location[0] in codes:
            return False  # the exception passed through that frame, but at another line
    return False


def close_all_abandoned(scopes: list[Scope]) -> None:
    """Record tasks that never reached their own end; the exception that is being handled ended them."""
    error = sys.exc_info()[1]
    for scope in scopes:
        close_abandoned(scope, error)


def close_abandoned(scope: Scope, error: BaseException | None) -> None:
    """Record a task that never reached its own end. Do nothing if it has its record already.

    Parameters
    ----------
    scope
        The scope of the task.
    error
        The exception that ended it; None if none is known.
    """
    outcome = _UNKNOWN if error is None else outcome_of(error)
    _close_unfinished(scope, outcome, error)


_UNKNOWN = Outcome(Status.ERROR, Error(type="Unknown", message="left without reaching its end"), {})
_LEFT_EARLY = Outcome(Status.FINISHED, None, {"left_early": True})


def close_held(scope: Scope) -> None:
    """Record a task that nothing closes any more, as when its workflow ends: it was left early."""
    _close_unfinished(scope, _LEFT_EARLY, None)


def _close_unfinished(scope: Scope, outcome: Outcome, error: BaseException | None) -> None:
    if not list_as_open(scope):
        return
    journal = scope.journal
    if scope.extras is not None:
        run_end_callbacks(scope.extras, error)
    generated, tail = encode_extras(scope, None, (), outcome.metadata)
    fields = generated + tail + outcome.field()
    line = UNFINISHED_TASK % (scope.start_fields(), outcome.status.value.encode(), clock.now(), fields)
    try:
        journal.fast_append(line)
        journal.count()
    except BaseException as refused:  # as in close_task
        append_refused(scope, line, refused)
    journal.open_scopes.pop(scope.key, None)  # type: ignore[arg-type]


def append_refused(scope: Scope, line: bytes, error: BaseException) -> None:
    """Append the line of a task that ``fast_append`` refused, and list the task as open no more.

    Until then the task is listed: an exception from outside that arrives before the line is in the hands of
    the journal finds a task without a record.

    Parameters
    ----------
    scope
        The scope of the task.
    line
        Its line.
    error
        What ``fast_append`` or ``count`` raised.
    """
    journal = scope.journal
    try:
        journal.append_slowly(line, error)
    except BaseException:  # raised on; it may have arrived before append_slowly could settle the line
        journal.settle(line)
        raise
    finally:
        journal.open_scopes.pop(scope.key, None)  # type: ignore[arg-type]


def list_as_open(scope: Scope) -> bool:
    """List an open task by its number, whoever holds it; return whether this process is to record its end.

    A journal lists the iterations of a loop by their pass. The loop gives up an iteration that is listed by
    its number.
    """
    key, open_scopes = scope.key, scope.journal.open_scopes
    if key is None:
        return False
    if key not in open_scopes:
        holder = next((held for held in list(open_scopes.values()) if held.current_scope() is scope), None)
        if holder is None:
            return False
        holder.give_up()
        open_scopes[key] = scope
    return True


def undo_start(previous: Scope | None, error: BaseException) -> None:
    """Take back the scope of a task that could not be opened to the end.

    Parameters
    ----------
    previous
        The scope that was current before.
    error
        What prevented it. A task that an exception from outside prevented is counted as dropped.
    """
    scope = context.current.get()
    if scope is None or scope is previous or scope.previous is not previous:
        return
    context.current.set(previous)
    scope.journal.open_scopes.pop(scope.key, None)  # type: ignore[arg-type]
    if came_from_outside(error):
        scope.journal.drop("interrupted")


def fail_start(parent: Scope, previous: Scope | None, activity: str, error: BaseException) -> None:
    """Take back a task that could not be opened to the end, and count it.

    Parameters
    ----------
    parent
        The scope to which the task would belong.
    previous
        The scope that was current before.
    activity
        What flowprov was doing, as :func:`flowprov.guard.report_internal_error` takes it.
    error
        What prevented it.

    Raises
    ------
    BaseException
        ``error``, if it came from outside.
    """
    undo_start(previous, error)
    guard.pass_on(error)
    count_lost_event(parent, activity, error)


def close_after_fault(scope: Scope, activity: str, error: BaseException) -> None:
    """Close a scope whose record could not be written, and count the lost event.

    Parameters
    ----------
    scope
        The scope; the one before it becomes current again.
    activity
        What flowprov was doing, as :func:`flowprov.guard.report_internal_error` takes it.
    error
        The internal error, or an exception from outside.

    Raises
    ------
    BaseException
        ``error``, if it came from outside.
    """
    context.deactivate(scope)
    if came_from_outside(error):
        close_interrupted(scope, error)
        raise error
    if scope.key is None or scope.journal.open_scopes.pop(scope.key, None) is not None:
        count_lost_event(scope, activity, error)
    else:
        guard.report_internal_error(activity, error)


def close_interrupted(scope: Scope, error: BaseException | None) -> None:
    """Record a task that an exception from outside ended at its very end, unless it has its record.

    If a second one arrives meanwhile, the task is counted as dropped.
    """
    try:
        close_abandoned(scope, error)
    except BaseException:  # raised on; a task that is still listed has no record
        if scope.journal.open_scopes.pop(scope.key, None) is not None:  # type: ignore[arg-type]
            scope.journal.drop("interrupted")
        raise


def close_left_open(scope: Scope, error: BaseException) -> None:
    """Close the scope of a call if an exception from outside came before the code that closes it began."""
    if scope.key in scope.journal.open_scopes:
        context.deactivate(scope, failed=True)
        close_interrupted(scope, error)


def discard(scope: Scope) -> None:
    """Close a scope without a record: what ran in it was traced."""
    context.deactivate(scope)
    if scope.key is not None:
        scope.journal.open_scopes.pop(scope.key, None)


def count_lost_event(scope: Scope, activity: str, error: BaseException) -> None:
    """Count an internal error and the event that it cost.

    Raises
    ------
    BaseException
        ``error``, if it came from outside. The event that it cost is counted before.
    """
    scope.journal.drop("interrupted" if came_from_outside(error) else "fault")
    guard.report_internal_error(activity, error)


def run_end_callbacks(extras: Extras, error: BaseException | None) -> None:
    """Call what was registered to run at the end of a scope."""
    while extras.on_end:
        callback = extras.on_end[-1]
        with guard.guarded("calling back at the end of a scope"):
            callback(error)
        # Only now: an exception from outside that arrived before has this called again.
        if callback in extras.on_end:
            extras.on_end.remove(callback)
