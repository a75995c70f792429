"""One value at a time: what is read on a thread, while code of the value may come back.

Flows in: a function that reads a value. Flows out: what it returns, or a marker if one is being read already.

Code of a value (a ``__repr__``, an ``items()``) may call captured functions, with this value among their
arguments. These calls are recorded, and the value is not read again: that would never end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flowprov.values.markers import type_name

_MAX_DEPTH = 4  # summaries of tensors read their parts in between
_reading: dict[int, tuple[int, ...]] = {}  # by thread: the identities of what is being read there
_thread_ident = threading.get_ident


def read_once(read: Callable[..., Any], value: Any, *arguments: Any) -> Any:
    """Return ``read(value, *arguments)``; a marker if that value is being read on this thread already."""
    thread, identity = _thread_ident(), id(value)
    outer = _reading.get(thread, ())
    if identity in outer or len(outer) >= _MAX_DEPTH:
        return {"$type": type_name(type(value)), "read_error": "not read: it is being read just here"}
    try:
        _reading[thread] = (*outer, identity)
        return read(value, *arguments)
    finally:
        if outer:
            _reading[thread] = outer
        else:
            _reading.pop(thread, None)
