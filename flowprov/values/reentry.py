"""One value at a time: what is read on a thread, while code of the value may come back.

Flows in: a function that reads a value. Flows out: what it returns, or a marker if one is being read already.

Code of a value (a ``__repr__``, an ``items()``) may call captured functions, with this value among their
arguments. These calls are recorded, and the value is not read again: that would never end.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from flowprov.values.markers import type_name

_MAX_DEPTH = 4  # summaries of tensors read their parts in between
_thread_ident = threading.get_ident


class _Reading:
    """A value that is being read, for as long as the function that reads it runs."""

    __slots__ = ("__weakref__", "depth", "identity", "outer")

    def __init__(self, identity: int, outer: _Reading | None) -> None:
        self.identity, self.outer = identity, outer
        self.depth: int = 1 if outer is None else outer.depth + 1

    def includes(self, identity: int) -> bool:
        return self.identity == identity or (self.outer is not None and self.outer.includes(identity))


# What each thread reads. An exception from outside may arrive before it is taken out again: then it is gone
# with its frame all the same.
_reading: dict[int, weakref.ref[_Reading]] = {}


def read_once(read: Callable[..., Any], value: Any, *arguments: Any) -> Any:
    """Return ``read(value, *arguments)``; a marker if that value is being read on this thread already."""
    thread, identity = _thread_ident(), id(value)
    before = _reading.get(thread)
    outer = None if before is None else before()
    if outer is not None and (outer.depth >= _MAX_DEPTH or outer.includes(identity)):
        return {"$type": type_name(type(value)), "read_error": "not read: it is being read just here"}
    own = _Reading(identity, outer)
    try:
        _reading[thread] = weakref.ref(own)
        return read(value, *arguments)
    finally:
        if before is None or outer is None:
            _reading.pop(thread, None)
        else:
            _reading[thread] = before
