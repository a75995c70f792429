"""What a record says of an exception: its type, message and traceback.

Flows in: an exception of the program. Flows out: its description, bounded and without secrets.
"""

from __future__ import annotations

import builtins
import traceback
from types import TracebackType
from typing import Any

from flowprov.asynchronous import interrupted_reading
from flowprov.records import Error
from flowprov.values.markers import escape_surrogates
from flowprov.values.redaction import redactor

_MAX_TRACEBACK = 8_000
_MAX_FRAMES = 40
_MAX_CAUSES = 10
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # since Python 3.11
# As the interpreter puts it.
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_FOLLOWED = "\nDuring handling of the above exception, another exception occurred:\n\n"
_MAX_MESSAGE = 2_000


def describe_exception(error: BaseException) -> Error:
    """Return the description of an exception. It never raises, whatever the exception's own code does."""
    try:
        message = str(error)
    except BaseException as broken:  # the program's __str__ may do anything
        if interrupted_reading(broken):
            raise
        message = f"(its message cannot be read: {type(broken).__name__})"
    try:
        text = _format_exception(error)
    except BaseException as broken:  # as above
        if interrupted_reading(broken):
            raise
        text = ""
    return Error(
        type=sanitize_text(_name_of(type(error))),
        message=sanitize_message(message),
        traceback=sanitize_traceback(text),
    )


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _format_exception(error: BaseException) -> str:
    """Return what Python would print, without frames and causes that are far away from the exception.

    Each task through which an exception passes records it. So the cost of each record must not grow with the
    number of tasks.
    """
    parts: list[str] = []
    link, seen = "", {id(error)}
    nearer: BaseException | None = error
    while nearer is not None and len(parts) < _MAX_CAUSES:
        parts.append(_format_alone(nearer) + link)
        if nearer.__cause__ is not None:
            nearer, link = nearer.__cause__, _CAUSED
        else:
            nearer, link = None if nearer.__suppress_context__ else nearer.__context__, _FOLLOWED
        if id(nearer) in seen:
            break
        seen.add(id(nearer))
    return "".join(reversed(parts))


def _format_alone(error: BaseException) -> str:
    """Return what Python would print of an exception without its causes; of a huge message the beginning."""
    one = _without_causes(error)
    # Python copies the message several times. Looking at it as Python does would make it once more.
    message = error.args[0] if len(error.args) == 1 and type(error).__str__ is BaseException.__str__ else ""
    if type(message) is not str or len(message) <= _MAX_TRACEBACK or getattr(error, "__notes__", None):
        return "".join(one.format())
    head = "Traceback (most recent call last):\n" if one.stack else ""
    return f"{head}{''.join(one.stack.format())}{_name_of(type(error))}: {sanitize_message(message)}\n"


def _without_causes(error: BaseException) -> traceback.TracebackException:
    """Return an exception as ``traceback`` prints it, without its causes: there may be thousands."""
    is_group = isinstance(error, _GROUP)
    # A set of what was seen keeps it from reading the causes. A group needs those of its exceptions.
    one: Any = traceback.TracebackException(
        type(error), error, _last_frames(error), compact=True, _seen=None if is_group else set()
    )
    one.__cause__ = one.__context__ = None
    if not is_group:
        one.exceptions = None
    return one  # type: ignore[no-any-return]


def _last_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception without frames that are far away from where it was raised."""
    trace = ahead = error.__traceback__
    for _ in range(_MAX_FRAMES):
        ahead = None if ahead is None else ahead.tb_next
    while ahead is not None and trace is not None:
        ahead, trace = ahead.tb_next, trace.tb_next
    return trace


def sanitize_message(message: str) -> str:
    """Return the message of an exception as it is recorded: cut, and without secrets."""
    return escape_surrogates(redactor().start(message, _MAX_MESSAGE))


def sanitize_traceback(text: str) -> str | None:
    """Return a traceback as it is recorded: its end, without secrets; None if there is none."""
    kept = redactor().traceback(text, _MAX_TRACEBACK)
    if len(text) > _MAX_TRACEBACK:
        kept = f"({len(text) - _MAX_TRACEBACK} characters cut)\n{kept}"
    return escape_surrogates(kept) or None


def sanitize_text(text: str) -> str:
    """Return a text that can be recorded: UTF-8 can encode it, and it holds no secrets."""
    return escape_surrogates(redactor().text(text))
