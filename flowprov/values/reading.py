"""Reading what may raise: attributes, items of containers, messages of exceptions.

Flows in: a function that reads. Flows out: what it returned, or a stand-in for what it raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

from flowprov.asynchronous import interrupted_reading
from flowprov.values.markers import escape_surrogates, type_name
from flowprov.values.messages import exception_message
from flowprov.values.redaction import redactor

Item = TypeVar("Item")

_MAX_TRIES = 3  # to read a container that another thread is changing
_MAX_SHORT_TEXT = 200
_LOOKAHEAD = 4_096  # characters behind a cut that its redaction looks at


class UnreadableAttribute:
    """Stands for an attribute that raised when it was read.

    Attributes
    ----------
    reason
        The exception, as text.
    unset
        Whether it says that there is no such attribute.
    """

    __slots__ = ("reason", "unset")

    def __init__(self, reason: str, *, unset: bool = False) -> None:
        self.reason = reason
        self.unset = unset


def read_or_mark(read: Callable[[], Any]) -> Any:
    """Return what a function returns, or an `UnreadableAttribute` of what it raises."""
    try:
        return read()
    except BaseException as error:  # a property or a mapping is foreign code
        if interrupted_reading(error):
            raise
        return UnreadableAttribute(exception_text(error), unset=isinstance(error, AttributeError))


def take(iterate: Callable[[], Iterable[Item]], count: int) -> list[Item]:
    """Return the first items of a container, even if another thread changes it at the same time."""
    for _ in range(_MAX_TRIES - 1):
        try:
            return list(islice(iterate(), count))
        except RuntimeError:  # noqa: PERF203 - it changed size during iteration
            continue
    return list(islice(iterate(), count))


def exception_text(error: BaseException) -> str:
    """Return type and message of an exception, short and without secrets; never raise."""
    name = type_name(type(error))
    try:
        message = exception_message(error, _MAX_SHORT_TEXT + _LOOKAHEAD, own_text=False)
        message = redactor().start(message, _MAX_SHORT_TEXT)
    except BaseException as broken:  # arguments of any kind
        if interrupted_reading(broken):
            raise
        return name
    return escape_surrogates(f"{name}: {message}") if message else name
