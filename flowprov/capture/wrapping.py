"""Wrappers of callables: what a wrapper keeps of what it wraps.

Flows in: a callable of the program. Flows out: its kind, its attributes, and a wrapper that looks like it. An
object that can be called may raise anything where it is looked at: then it has no such attribute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from flowprov import guard

W = TypeVar("W")

_MISSING = object()
# Methods of what `functools.lru_cache` returns; they are not in its `__dict__`.
_CACHE_METHODS = ("cache_info", "cache_clear", "cache_parameters")


def is_no_function(thing: object) -> bool:
    """Whether something cannot be decorated: it cannot be called, or it is a class."""
    kind = type(thing)
    return issubclass(kind, type) or not (callable(thing) or issubclass(kind, classmethod))


def attribute_of(function: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of a callable; the default if it has none, or none that can be read."""
    try:
        return getattr(function, name, default)
    except Exception as error:  # the program's own code, which looks at its attributes itself
        guard.pass_on(error)
        return default


def is_kind(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether a callable is of a kind, by a test of ``inspect``; False for one that cannot be looked at."""
    try:
        return test(function)
    except Exception as error:  # as above
        guard.pass_on(error)
        return False


def wraps(function: Any) -> Callable[[W], W]:
    """Create a decorator that makes a wrapper look like a callable, as ``functools.wraps`` does, of any."""
    return functools.partial(look_like, function=function)


def look_like(wrapper: W, function: Any) -> W:
    """Give a wrapper the names, the documentation and the attributes of a callable; return the wrapper."""
    for name in (*functools.WRAPPER_ASSIGNMENTS, *_CACHE_METHODS):
        value = attribute_of(function, name, _MISSING)
        if value is not _MISSING:
            _set(wrapper, name, value)
    own = attribute_of(function, "__dict__")
    if type(own) is dict:
        vars(wrapper).update(own)
    _set(wrapper, "__wrapped__", function)
    return wrapper


def _set(wrapper: Any, name: str, value: Any) -> None:
    try:
        setattr(wrapper, name, value)
    except (
        TypeError,
        ValueError,
    ):  # an object that answers for every name has a `__name__` that is no string
        return
