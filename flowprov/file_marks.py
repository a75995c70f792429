"""Marks on open files, by which one file of ours is told from any other under the same number.

Flows in: the number of a descriptor. Flows out: its mark.

The program may close any descriptor, and open a file of its own under the number. Between a look at device
and inode and what follows, Python lets other threads run. So the last look is at a mark that the open file
carries. To read it lets nobody run, and takes 0.3 µs. What follows on the look is called by C alone: the
interpreter lets another thread run between any two calls of Python's own.

The mark is the signal that the kernel would send when the file becomes ready (``F_SETSIG``, ``fcntl(2)``). No
signal is ever sent, as nothing asks for it (``O_ASYNC``). It belongs to the open file, and any other file has
another one, as a rule none.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

_GET_MARK = getattr(fcntl, "F_GETSIG", None)  # Linux
_SET_MARK = getattr(fcntl, "F_SETSIG", None)
_MARKS = 64  # numbers of signals
_next_mark = itertools.count().__next__

# PyDLL keeps the GIL, for calls that take no time.
_fcntl = ctypes.PyDLL(None).fcntl
_libc = ctypes.PyDLL(None, use_errno=True)
_close, _write = _libc.close, _libc.write
_write.restype = ctypes.c_ssize_t
_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)


def set_mark(number: int) -> int | None:
    """Mark an open file, and return the mark; None where files take no marks.

    Raises
    ------
    OSError
        If nothing is open under this number.
    """
    if _SET_MARK is None:
        return None
    mark = _next_mark() % _MARKS + 1
    fcntl.fcntl(number, _SET_MARK, mark)
    return mark


def has_mark(number: int, mark: int | None) -> bool:
    """Whether an open file has a mark; True where files take no marks."""
    return mark is None or _fcntl(number, _GET_MARK) == mark


def mark_reader(number: int) -> Callable[[], int]:
    """Return a function that reads the mark of what a number stands for in one quick call; -1: of nothing."""
    return functools.partial(_fcntl, number, _GET_MARK)


def close_marked(number: int, mark: int | None) -> None:
    """Close a file if it has a mark; no thread runs between the look and the closing."""
    _call_if_marked(_close, number, mark)


def write_marked(number: int, mark: int | None, content: bytes) -> int | None:
    """Write to a file if it has a mark, and return how many bytes were taken; None if it has not.

    No thread runs between the look and the end of the writing, so there should be little to write.

    Raises
    ------
    OSError
        If nothing can be written.
    """
    taken = _call_if_marked(_write, number, mark, content, len(content))
    if taken and taken[0] < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return taken[0] if taken else None


def _call_if_marked(
    function: Callable[..., int], number: int, mark: int | None, *arguments: Any
) -> list[int]:
    if mark is None:
        return [function(number, *arguments)]
    has_it = map(mark.__eq__, map(_fcntl, (number,), (_GET_MARK,)))
    numbers = itertools.compress((number,), has_it)
    return list(map(function, numbers, *((one,) for one in arguments)))
