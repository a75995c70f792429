"""What a record says of an exception: its type, message and traceback.

Flows in: an exception of the program. Flows out: its description, bounded and without secrets.
"""

from __future__ import annotations

from flowprov.asynchronous import interrupted_describing
from flowprov.capture.traceback_text import RECURRING, exception_parts
from flowprov.records import Error
from flowprov.values.markers import escape_surrogates
from flowprov.values.redaction import redactor

_MAX_TRACEBACK = 8_000
_MAX_MESSAGE = 2_000


def describe_exception(error: BaseException) -> Error:
    """Return the description of an exception. It never raises, whatever the exception's own code does."""
    message = _message_of(error)

    def message_in_text(other: BaseException) -> str:
        text = message if other is error else _message_of(other)
        return text if len(text) <= _MAX_TRACEBACK else sanitize_message(text)  # a huge one is not copied

    try:
        parts = exception_parts(error, message_in_text)
    except BaseException as broken:  # the program may have put anything where a traceback looks
        if interrupted_describing(broken, returned=True):
            raise
        parts = []
    return Error(
        type=sanitize_text(_name_of(type(error))),
        message=sanitize_message(message),
        traceback=_sanitize_parts(parts),
    )


def _message_of(error: BaseException) -> str:
    """Return the message of an exception, or that it has none that can be read."""
    texts: list[str] = []
    reading = map(str, (error,))
    try:
        # One call from here: if it has added no text, the exception's own code has not returned.
        texts.extend(reading)
    except BaseException as broken:  # the program's __str__ may do anything
        if interrupted_describing(broken, returned=bool(texts)):
            raise
        return _unreadable(broken)
    return str.__str__(texts[0]) if texts else _unreadable(StopIteration())


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _unreadable(broken: BaseException) -> str:
    return f"(its message cannot be read: {type(broken).__name__})"


def sanitize_message(message: str) -> str:
    """Return the message of an exception as it is recorded: cut, and without secrets."""
    return escape_surrogates(redactor().start(message, _MAX_MESSAGE))


def _sanitize_parts(parts: list[str]) -> str | None:
    """Return a traceback as `sanitize_traceback` does; each of its frames is looked through once."""
    text = "".join(parts)
    active, looked_at = redactor(), 0
    for part in reversed(parts):
        if looked_at >= _MAX_TRACEBACK:
            break
        is_plain = active.is_plain_frame if part.startswith(RECURRING) else active.is_plain_part
        if not is_plain(part):
            return sanitize_traceback(text)
        looked_at += len(part)
    return _cut(text, text[-_MAX_TRACEBACK:])


def sanitize_traceback(text: str) -> str | None:
    """Return a traceback as it is recorded: its end, without secrets; None if there is none."""
    return _cut(text, redactor().traceback(text, _MAX_TRACEBACK))


def _cut(text: str, kept: str) -> str | None:
    if len(text) > _MAX_TRACEBACK:
        kept = f"({len(text) - _MAX_TRACEBACK} characters cut)\n{kept}"
    return escape_surrogates(kept) or None


def sanitize_text(text: str) -> str:
    """Return a text that can be recorded: UTF-8 can encode it, and it holds no secrets."""
    return escape_surrogates(redactor().text(text))
