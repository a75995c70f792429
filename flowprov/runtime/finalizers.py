"""Finalizers: captured code that the garbage collector runs, in the middle of anything.

Flows in: collections of the garbage collector. Flows out: nothing that a program could see.

A generator that was left half-read and lies in a cycle of references is closed by the collector, and so is
what it captures: scopes end, tasks of its ``finally`` begin. All of these set a ContextVar. CPython up to
3.11 collects whenever an object is allocated, within ``ContextVar.set`` as well. There a finalizer that sets
a ContextVar frees the table of variables that is just being copied, and the interpreter crashes. From 3.12
on it collects between instructions only (https://github.com/python/cpython/issues/97922).

So a copy of the context is held while the collector works: it holds the table.
"""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from contextvars import Context, copy_context
from functools import partial
from operator import itemgetter


class _InterruptedContext(defaultdict[str, Context]):
    """Holds a copy of the context that the collector interrupts, from its start to its stop.

    No line of Python may run here: the interpreter would look for signals, and what a handler raises in a
    callback of the collector is lost. So each step is a function of C. To read ``start`` copies the context,
    to read ``stop`` lets go of the copy.
    """

    start = property(itemgetter("copy"))
    stop = property(dict.clear)


def protect_contexts() -> None:
    """Have finalizers set ContextVars safely, where the interpreter does not see to that itself."""
    if sys.version_info < (3, 12) and sys.implementation.name == "cpython":
        gc.callbacks.append(partial(getattr, _InterruptedContext(copy_context)))
