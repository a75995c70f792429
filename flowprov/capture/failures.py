"""What is recorded of things that go wrong: exceptions of the program, and faults of our own.

Flows in: exceptions, and scopes that ended by one. Flows out: error descriptions, correction records, counts.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from flowprov import guard
from flowprov.clock import clock
from flowprov.line_templates import ABANDONED_TASK
from flowprov.records import Correction, Error, Status
from flowprov.runtime import context, runtime
from flowprov.values import redact_urls
from flowprov.values.markers import escape_surrogates

if TYPE_CHECKING:
    from flowprov.runtime.context import Extras, Scope

_MAX_TRACEBACK = 8_000
_MAX_MESSAGE = 2_000


def describe_exception(error: BaseException) -> Error:
    """Describe an exception as far as it lets itself be described."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as broken:  # the user's __str__ may do anything
        message = f"(its message cannot be read: {type(broken).__name__})"
    try:
        text = "".join(traceback.format_exception(kind, error, error.__traceback__))
    except Exception:  # as above
        text = ""
    if len(text) > _MAX_TRACEBACK:
        text = f"({len(text) - _MAX_TRACEBACK} characters cut)\n{text[-_MAX_TRACEBACK:]}"
    return Error(
        type=sanitize_text(name),
        message=sanitize_text(message[:_MAX_MESSAGE]),
        traceback=sanitize_text(text) or None,
    )


def sanitize_text(text: str) -> str:
    """Make a text recordable: without credentials, and such that UTF-8 can hold it."""
    if not text.isascii():  # asked here too: of most texts, which are, that saves the call
        text = escape_surrogates(text)
    return redact_urls(text) if "://" in text and runtime.get().settings.privacy.redact else text


def correct_left_early(scope: Scope, error: BaseException, described: Error) -> None:
    """Say of iterations inside a scope that it was this exception that they were left by.

    A generator cannot see the exception that ends its loop. It notes where in the program the loop was left;
    if the exception was the reason, it passed through that very line.
    """
    if not scope.left_early:
        return
    passed = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for left in scope.left_early:
        if was_left_at(left.locations, passed):
            scope.journal.write_control(
                Correction(task_id=left.key, status=Status.ERROR.value, error=described)
            )


def was_left_at(places: Sequence[tuple[object, int]], passed: Sequence[tuple[object, int]]) -> bool:
    """Whether an exception that passed through some lines is why a loop was left at its places."""
    codes = {code for code, _ in passed}
    for place in places:
        if place in passed:
            return True
        if place[0] in codes:
            return False  # it went through that frame, but through another line of it
    return False


def close_all_abandoned(scopes: list[Scope]) -> None:
    """Record tasks whose own end never ran: the exception that is handled now came in between."""
    error = sys.exc_info()[1]
    for scope in scopes:
        close_abandoned(scope, error)


def close_abandoned(scope: Scope, error: BaseException | None) -> None:
    """Record a task whose own end never ran, as ERROR; does nothing if its record is not owed.

    Parameters
    ----------
    scope
        Of the task.
    error
        The exception that ended it, None where none is known.
    """
    journal = scope.journal
    if scope.key is None or journal.open_scopes.pop(scope.key, None) is None:
        return
    if scope.extras is not None:
        run_end_callbacks(scope.extras, error)
    described = (
        describe_exception(error) if error else Error(type="Unknown", message="left without reaching its end")
    )
    journal.append(ABANDONED_TASK % (scope.start_fields(), clock.now(), msgspec.json.encode(described)))


def close_after_fault(scope: Scope, place: str, error: Exception) -> None:
    """Leave a scope whose record could not be written, and count the loss."""
    context.deactivate(scope)
    still_owed = scope.key is None or scope.journal.open_scopes.pop(scope.key, None) is not None
    if still_owed:
        count_lost_event(scope, place, error)
    else:
        guard.report_internal_error(place, error)


def count_lost_event(scope: Scope, place: str, error: BaseException) -> None:
    """Count a fault of ours and the event that it cost."""
    guard.report_internal_error(place, error)
    scope.journal.drop("fault")


def run_end_callbacks(extras: Extras, error: BaseException | None) -> None:
    """End what lives as long as a scope that ends now."""
    while extras.on_end:
        with guard.guarded("ending what a scope held"):
            extras.on_end.pop()(error)
