"""Which tasks of Dask run a function of the user's, and which only keep the collections of Dask together.

Flows in: a task's key and what it calls. Flows out: the user's functions in it, none for plumbing.

A task is judged by where its functions were defined. What is submitted by itself (``submit``, ``map``,
``delayed``) has a text as its key and runs what the user named, a function of Python's or of numpy's too. The
pieces of a collection have tuples as keys: there what Dask builds collections from (operators, numpy, pandas)
is Dask's, as ``array.map_blocks(numpy.sin)`` and ``da.sin(array)`` make the same task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from dask.utils import key_split

from flowprov import guard
from flowprov.capture.dask import task_spec
from flowprov.capture.dask.callables import DASK, LIBRARIES, package_of

_MOVING = frozenset({"getitem", "getattr", "itemgetter", "list", "tuple", "dict", "set", "slice"})
_HANDED_ON = frozenset({"map_chunk", "starmap_chunk"})  # bags: their first argument is what the user maps
_DEEPEST = 8
_MOST_ITEMS = 100


def functions_of(key: Any, call: task_spec.Call | None) -> list[str]:
    """Name the functions of the user's that a task runs, each once; none for plumbing.

    Parameters
    ----------
    key, call
        The task's key, and what it calls.
    """
    if call is None:
        return []
    if call.known is not None:
        return [call.known.name]
    try:
        if not _is_users(call.function, direct=not isinstance(key, tuple)):
            return list(dict.fromkeys(_in_call(call, 0)))
    except Exception:  # values of the user's are looked at, and they may do anything: then it is no plumbing
        guard.logger.debug("flowprov could not look into a Dask task", exc_info=True)
    return [activity_of(key, call)]


def activity_of(key: Any, call: task_spec.Call | None) -> str:
    """Name what a task does: the function's name, or else the part of its key that says what it is."""
    return task_spec.name_of(call, "") or key_split(key)


def _in_call(call: task_spec.Call, depth: int) -> Iterator[str]:
    args = list(call.args)
    handed_on: Any = None
    if args and getattr(call.function, "__name__", "") in _HANDED_ON and _is_users(args[0], direct=True):
        handed_on = args.pop(0)
    values = [*args, *call.kwargs.values(), call.function]
    values.sort(key=_is_function)  # what is called comes behind what makes its arguments
    yield from _in_values(values, depth)
    if handed_on is not None:
        yield _name(handed_on)


def _in_values(values: Iterable[Any], depth: int) -> Iterator[str]:
    if depth < _DEEPEST:
        for value in islice(values, _MOST_ITEMS):
            yield from _in_value(value, depth + 1)


def _in_value(value: Any, depth: int) -> Iterator[str]:
    """Search what may hold functions: calls, containers, helpers that make one function of several."""
    call = task_spec.call_within(value)
    if call is not None:
        yield from _in_call(call, depth)
        return
    parts = _parts(value)
    if parts is not None:
        yield from _in_values(parts, depth)
    elif callable(value) and _is_users(value, direct=False):
        yield _name(value)


def _parts(value: Any) -> Iterable[Any] | None:
    """Give what a container or helper is made of; None for a plain value or function."""
    kind = type(value)
    if kind in (list, tuple):
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return value.values()  # type: ignore[no-any-return]
    if isinstance(value, functools.partial) or kind.__name__ == "curry":
        return [value.func, *value.args, *(value.keywords or {}).values()]
    if package_of(kind) not in DASK or hasattr(kind, "__dask_graph__"):
        return None
    return _parts_of_dasks(value)


def _parts_of_dasks(value: Any) -> Iterable[Any] | None:
    if hasattr(value, "first") and hasattr(value, "funcs"):  # toolz.compose
        return [value.first, *value.funcs]
    graph = getattr(value, "dsk", None)
    if isinstance(graph, dict):  # of many tasks Dask made one, before 2025
        return graph.values()
    wrapped = getattr(value, "value", None)
    if type(wrapped) in (list, dict) and task_spec.holds_nodes(wrapped):  # the same, in versions of 2024
        return [wrapped]
    return [wrapped] if callable(wrapped) else None


def _is_users(function: Any, *, direct: bool) -> bool:
    package = package_of(function) or package_of(type(function))
    if not callable(function):
        return False
    if package in DASK:
        return direct and type(function).__name__ == "methodcaller"  # a method of something delayed
    if package in LIBRARIES:
        return direct and _name(function) not in _MOVING
    return True


def _is_function(value: Any) -> bool:
    return callable(value) and not task_spec.is_node(value)


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__
