"""Imports of our own modules at the first use of a name, which no fork cuts in two.

Flows in: the name of a module. Flows out: the module.

A thread that imports a module holds the lock of this module. A child that is forked in the meantime inherits
the lock and not the thread: it waits forever once it imports the module itself. A fork waits for our imports
therefore. It does not wait forever: the import may wait for a lock of the thread that forks.

``import flowprov`` loads this module, so it loads nothing itself that takes time.
"""

from __future__ import annotations

import os
from _thread import RLock, get_ident
from importlib import import_module
from types import ModuleType

_MAX_ATTEMPTS = 3
_MAX_WAIT = 10.0  # seconds; the import of torch takes two, or more on a busy machine

_lock = RLock()
_registered_twice = False
_held: list[int] = []  # the threads that fork, once for each time that they took the lock


def import_lazily(name: str) -> ModuleType:
    """Return a module, imported if it is not; threads that fork wait for it."""
    global _registered_twice  # noqa: PLW0603 - once in a process
    with _lock:
        if not _registered_twice:
            # What is registered last is called first before a fork. Logging takes its lock there, and our
            # imports need this lock: ours has to be taken before.
            _import_logging()
            _registered_twice = True
            _register()
        return _import(name)


def _import(name: str) -> ModuleType:
    """Return a module, also where the collector interrupts its import by a finalizer that imports, too.

    Python notes for each thread the lock of the module that it waits for. Up to 3.11 the finalizer takes that
    note away, and the import ends with the KeyError of a thread. What it began is undone by then.
    """
    for _ in range(_MAX_ATTEMPTS):
        try:
            return import_module(name)
        except KeyError as error:  # noqa: PERF203 - as a rule there is one attempt
            if error.args != (get_ident(),):
                raise
    return import_module(name)


def _import_logging() -> None:
    try:
        _import("logging")
    except OverflowError:
        return  # the clock says what Python cannot hold; guard.py imports it in spite of that


def _before_fork() -> None:
    if _lock.acquire(timeout=_MAX_WAIT):
        _held.append(get_ident())


def _in_parent() -> None:
    if get_ident() in _held:
        _held.remove(get_ident())
        _lock.release()


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not here may hold it
    _lock = RLock()
    _held.clear()


def _register() -> None:
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


_register()
