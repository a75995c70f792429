"""Locks that are free in a forked child, whichever thread of the parent held them.

Flows out: locks. A child has one thread, the one that forked. What another thread held at the fork would stay
held there for ever, and the child would wait for it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_registered = False


def create_lock() -> Any:
    """Return a new lock that its thread may take again, as ``threading.RLock`` does."""
    global _registered  # noqa: PLW0603 - once per process, and forks inherit it
    lock = threading.RLock()
    _locks.add(lock)
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_free_all)
    return lock


def is_held_here(lock: Any) -> bool:
    """Whether this thread holds a lock that it may take again."""
    return bool(lock._is_owned())  # noqa: SLF001 - as threading.Condition asks


def _free_all() -> None:
    """Free what threads held that are not here. The thread that forked goes on with what it holds itself."""
    for lock in list(_locks):
        if not is_held_here(lock):
            lock._at_fork_reinit()  # noqa: SLF001 - as logging frees its own locks


__all__ = ["create_lock", "is_held_here"]
