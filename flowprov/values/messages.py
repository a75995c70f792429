"""Messages of exceptions, and short texts of other values, in bounded time and without foreign code.

Flows in: an exception, or any value. Flows out: text for a person, cut to a length. ``str(error)`` prints
all arguments of the exception: a list of a gigabyte, or an object whose ``__repr__`` asks a database.
"""

from __future__ import annotations

from itertools import islice
from types import WrapperDescriptorType
from typing import Any

from flowprov.values.classes import bases_of, declared, package_of
from flowprov.values.markers import type_name

_args_of = BaseException.__dict__["args"].__get__
_FILE_NAMES = [OSError.__dict__[name].__get__ for name in ("filename", "filename2")]
_MAX_ITEMS = 20
_MAX_DEPTH = 3
_MAX_BITS = 2_000  # of an integer: all of its digits are printed
_SHORT = 1_000


def exception_message(error: BaseException, limit: int, *, own_text: bool) -> str:
    """Return the beginning of an exception's message.

    Parameters
    ----------
    error
        The exception.
    limit
        Characters that are kept, about. More than that may be returned, but never much more.
    own_text
        Whether a ``__str__`` that a class outside of Python's own declares is called. It may raise anything.
        Otherwise the message is that of the arguments.
    """
    printer = declared(bases_of(type(error)), "__str__")
    if printer is not BaseException.__str__ and printer is not KeyError.__str__:
        is_builtin = type(printer) is WrapperDescriptorType and package_of(printer.__objclass__) == "builtins"
        if all(map(_is_short, _printed_by(error))) if is_builtin else own_text:
            return str.__str__(str(error))[: limit + 1]
    arguments = _args_of(error)
    if len(arguments) == 1 and printer is not KeyError.__str__ and issubclass(type(arguments[0]), str):
        return str.__getitem__(arguments[0], slice(0, limit + 1))
    if len(arguments) == 1:
        return short_text(arguments[0], limit)
    return short_text(arguments, limit) if arguments else ""


def _printed_by(error: BaseException) -> tuple[Any, ...]:
    """Return what the ``__str__`` of a class of Python's own prints, besides numbers."""
    arguments: tuple[Any, ...] = _args_of(error)
    cls = type(error)
    if issubclass(cls, OSError):
        return (*arguments, *(read(error) for read in _FILE_NAMES))
    if issubclass(cls, UnicodeError) and len(arguments) == 5:  # the second one is the whole text or bytes
        return (arguments[0], *arguments[2:])
    return arguments[:1] if len(arguments) == 2 and type(arguments[1]) is list else arguments


def _is_short(value: object) -> bool:
    cls = type(value)
    if cls is str or cls is bytes:
        return len(value) <= _SHORT  # type: ignore[arg-type]
    if cls is tuple:  # of a SyntaxError: where it is
        return len(value) <= _MAX_ITEMS and all(_is_short(item) for item in value)  # type: ignore[arg-type, attr-defined]
    return value is None or cls is bool or cls is float or (cls is int and value.bit_length() <= _MAX_BITS)  # type: ignore[attr-defined]


def short_text(value: object, limit: int) -> str:
    """Return what ``repr`` would return for a value of Python's own types, and the type of any other."""
    return _short_text(value, limit, 0)[: limit + 1]


def _short_text(value: Any, limit: int, depth: int) -> str:
    cls = type(value)
    if cls is str or cls is bytes:
        return repr(value[: limit + 1])
    if cls is int:
        return repr(value) if value.bit_length() <= _MAX_BITS else f"<int of {value.bit_length()} bits>"
    if value is None or value is ... or cls is bool or cls is float or cls is complex:
        return repr(value)
    if cls is tuple or cls is list or cls is dict:
        return _container_text(value, limit, depth)
    return f"<{type_name(value)}>" if issubclass(cls, type) else f"<{type_name(cls)}>"


def _container_text(value: Any, limit: int, depth: int) -> str:
    cls = type(value)
    opening, closing = ("(", ")") if cls is tuple else ("[", "]") if cls is list else ("{", "}")
    if depth >= _MAX_DEPTH:
        return f"{opening}...{closing}"
    parts: list[str] = []
    length = 0
    for item in islice(value.items() if cls is dict else value, _MAX_ITEMS):
        if cls is dict:
            name, content = item
            part = f"{_short_text(name, limit, depth + 1)}: {_short_text(content, limit, depth + 1)}"
        else:
            part = _short_text(item, limit, depth + 1)
        parts.append(part)
        length += len(part)
        if length > limit:
            break
    if len(parts) < len(value):
        parts.append("...")
    elif cls is tuple and len(parts) == 1:
        closing = "," + closing
    return opening + ", ".join(parts) + closing
