"""Sizes: how large a value is, or may be, without asking the code of any class.

Flows in: a value. Flows out: numbers, by which the walker shares out what may be spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from flowprov.values.markers import INT_MAX, INT_MIN

_SIZE_OF_FLOAT, _SIZE_OF_INT, _SIZE_OF_CONSTANT = 19, 11, 6  # bytes of JSON, about
# Classes are compared by identity: to hash one may run the code of its metaclass.
_FLOATS, _INTS, _CONSTANTS = {id(float)}, {id(int)}, {id(bool), id(type(None))}
# Nanoseconds on a slow machine, of a character and of a sign that may stand between a name and a secret.
_TIME_OF_CHARACTER, _TIME_OF_SIGN, _MAX_TIME = 70, 3_000, 600_000
_MARGIN, _LOOKAHEAD = 64, 4_096  # characters behind a limit that redaction reads, at least and at most
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


def size_of_plain(items: Sequence[object]) -> int:
    """Return the bytes of a list that is kept as it is; 0 if it is not.

    It is if it holds only finite floats, only 64-bit integers, or only booleans and None.
    """
    if not items:
        return 0
    classes = {*map(id, map(type, items))}
    if classes == _FLOATS:
        total = sum(cast("Sequence[float]", items))
        # Not 0 either if the sum overflows, which only costs time.
        return _SIZE_OF_FLOAT * len(items) if total - total == 0.0 else 0
    if classes == _INTS:
        numbers = cast("Sequence[int]", items)
        return _SIZE_OF_INT * len(items) if min(numbers) >= INT_MIN and max(numbers) <= INT_MAX else 0
    return _SIZE_OF_CONSTANT * len(items) if classes <= _CONSTANTS else 0


def time_of_redaction(text: str, limit: int) -> int:
    """Return how many nanoseconds it may take to find the secrets in the start of a text.

    Parameters
    ----------
    text
        The text.
    limit
        How many characters of it are kept. It is read on to the end of a word.
    """
    end = text.find(" ", limit + _MARGIN, limit + _LOOKAHEAD)
    end = min(len(text), end if end >= 0 else limit + _LOOKAHEAD)
    signs = text.count(":", 0, end) + text.count("=", 0, end) + text.count(",", 0, end)
    return min(end * _TIME_OF_CHARACTER + signs * _TIME_OF_SIGN, _MAX_TIME)


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
