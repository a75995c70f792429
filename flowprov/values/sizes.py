"""Sizes: how large a value is, or may be, without asking the code of any class.

Flows in: a value. Flows out: numbers, by which the walker shares out what may be spent.
"""

from __future__ import annotations

import msgspec

_SIZE_OF_ITEM, _SIZE_OF_OBJECT = 64, 1_000
_json = msgspec.json.Encoder().encode


def is_scalar(value: object) -> bool:
    """Whether a value is a number, a string, a boolean or None, of Python's own classes."""
    cls = type(value)
    return value is None or cls is bool or cls is int or cls is float or cls is str


def size_of(value: object) -> int:
    """Return how large a value may be, compared with others."""
    cls = type(value)
    if cls is str:
        return len(value)  # type: ignore[arg-type]
    if cls is list or cls is tuple or cls is dict or cls is set:
        return _SIZE_OF_ITEM * len(value)  # type: ignore[arg-type]
    return 0 if is_scalar(value) else _SIZE_OF_OBJECT


def length_of(value: object) -> int | bool:
    """Return how many items a container of Python's own has; True for any other."""
    for base in (dict, list, tuple, set, frozenset):
        if issubclass(type(value), base):
            length: int = base.__len__(value)  # type: ignore[arg-type]
            return length
    return True


def escapes_in(text: str) -> int:
    """Return how many bytes more than characters a text has as JSON."""
    try:
        return len(_json(text)) - len(text)
    except UnicodeEncodeError:  # lone surrogates: they become escapes themselves
        return 5 * len(text)
