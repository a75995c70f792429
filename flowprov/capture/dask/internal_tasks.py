"""Which Dask tasks run a function of the user's, and which are internal: they hold a collection together.

Flows in: a task's key and what it calls. Flows out: the user's functions in it; none for an internal task.

A task is judged by where its functions were defined. A task that was submitted by itself (``submit``,
``map``, ``delayed``) has a string as its key. It runs what the user named, be it a function of Python or
numpy. The tasks of a collection have tuples as keys. There the functions from which Dask builds collections
(operators, numpy, pandas) count as Dask's, as ``array.map_blocks(numpy.sin)`` and ``da.sin(array)`` make the
same task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from flowprov import guard
from flowprov.capture.dask import task_spec, wrappers
from flowprov.capture.dask._dask_private import BAG_MAPPERS, METHOD_CALLER, key_split
from flowprov.capture.dask.callables import DASK_PACKAGES, LIBRARY_PACKAGES, package_of

_SELECTING = frozenset({"getitem", "getattr", "itemgetter", "list", "tuple", "dict", "set", "slice"})
_MAX_DEPTH = 8
_MAX_ITEMS = 100


def user_functions(key: Any, call: task_spec.Call | None) -> list[str]:
    """Return the names of the user's functions that a task runs, each once; none for an internal task.

    Parameters
    ----------
    key, call
        The task's key, and what it calls.
    """
    if call is None:
        return []
    if call.info is not None and not call.info.is_wrapper:
        return [call.info.name]
    try:
        direct = not isinstance(key, tuple)
        if not _is_users(call.function, direct=direct):
            return list(dict.fromkeys(_in_call(call, 0)))
        if behind := _names_behind(call.function, call.args, call.kwargs, direct=direct):
            return list(dict.fromkeys(behind))
    except Exception:  # it looks at the user's values, which may do anything; the task counts as the user's
        guard.logger.debug("flowprov could not look into a Dask task", exc_info=True)
    return [activity_name(key, call)]


def activity_name(key: Any, call: task_spec.Call | None) -> str:
    """Return the activity of a task: the function's name, or else the prefix of its key."""
    name = "" if call is None or wrappers.is_wrapper(call.function) else task_spec.call_name(call, "")
    return name or key_split(key)


def _in_call(call: task_spec.Call, depth: int) -> Iterator[str]:
    args = list(call.args)
    mapped: Any = None
    if args and getattr(call.function, "__name__", "") in BAG_MAPPERS and _is_users(args[0], direct=True):
        mapped = args.pop(0)
    values = [*args, *call.kwargs.values()]
    values.sort(key=_is_function)  # the function that is called comes after those that make its arguments
    yield from _in_values(values, depth)
    yield from _names_behind(call.function, tuple(args), call.kwargs) or _in_values([call.function], depth)
    if mapped is not None:
        yield from _names_behind(mapped, direct=True) or [_function_name(mapped)]


def _in_values(values: Iterable[Any], depth: int) -> Iterator[str]:
    if depth < _MAX_DEPTH:
        for value in islice(values, _MAX_ITEMS):
            yield from _in_value(value, depth + 1)


def _in_value(value: Any, depth: int) -> Iterator[str]:
    """Search what may hold functions: calls, containers, and helpers that make one function of several."""
    call = task_spec.nested_call(value)
    if call is not None:
        yield from _in_call(call, depth)
        return
    parts = _parts(value)
    if parts is not None:
        yield from _in_values(parts, depth)
    elif callable(value) and _is_users(value, direct=False):
        yield from _names_behind(value) or [_function_name(value)]


def _names_behind(
    function: Any,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    direct: bool = False,
) -> list[str]:
    """Return the names of the user's functions behind a wrapper; none if it is none, or hides them."""
    behind = wrappers.functions_behind(function, args, kwargs)
    return [_function_name(inner) for inner in behind if _is_users(inner, direct=direct)]


def _parts(value: Any) -> Iterable[Any] | None:
    """Return the parts of a container or helper; None for a plain value or function."""
    kind = type(value)
    if kind in (list, tuple):
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return value.values()  # type: ignore[no-any-return]
    if isinstance(value, functools.partial) or kind.__name__ == "curry":
        return [value.func, *value.args, *(value.keywords or {}).values()]
    if package_of(kind) not in DASK_PACKAGES or hasattr(kind, "__dask_graph__"):
        return None
    return _parts_of_dask_object(value)


def _parts_of_dask_object(value: Any) -> Iterable[Any] | None:
    composed = wrappers.composed_functions(value)
    if composed is not None:
        return composed
    graph = getattr(value, "dsk", None)
    if isinstance(graph, dict):  # SubgraphCallable: a fused task, before 2025
        return graph.values()
    wrapped = getattr(value, "value", None)
    if type(wrapped) in (list, dict) and task_spec.contains_nodes(wrapped):  # the same, in versions of 2024
        return [wrapped]
    return [wrapped] if callable(wrapped) else None


def _is_users(function: Any, *, direct: bool) -> bool:
    """Whether a function counts as the user's.

    Parameters
    ----------
    function
        The function.
    direct
        The user named it: the task was submitted by itself, or a bag maps the function.
    """
    package = package_of(function) or package_of(type(function))
    if not callable(function):
        return False
    if package in DASK_PACKAGES:
        return direct and type(function).__name__ == METHOD_CALLER  # a method of something delayed
    if package in LIBRARY_PACKAGES:
        return direct and _function_name(function) not in _SELECTING
    return True


def _is_function(value: Any) -> bool:
    return callable(value) and not task_spec.is_node(value)


def _function_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__
