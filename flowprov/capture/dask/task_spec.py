"""The forms of a Dask task in all supported versions, read without importing any of them.

Flows in: ``run_spec`` of a worker's task, and values in it. Flows out: what the task calls, with which
arguments, and which of them refer to results of other tasks.

Up to 2024.10 a run_spec is a tuple ``(function, args, kwargs)``. Inputs are keys in it, and nested tasks are
tuples. Later it is a node with ``func``, ``args`` and ``kwargs``, and inputs are ``Alias`` or ``TaskRef``
nodes. The classes of nodes are not public: they are known by the names and attributes that ``_dask_private``
lists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from operator import attrgetter
from types import FunctionType
from typing import Any, NamedTuple

from flowprov.capture.dask._dask_private import (
    ALIAS,
    APPLY,
    DATA_NODE,
    EXECUTE_TASK,
    FUTURE,
    GRAPH_RUNNERS,
    IDENTITY_CAST,
    TASK_REF,
)
from flowprov.capture.dask.callables import FunctionInfo, VarArgs, function_info, package_of

_MAX_ITEMS = 100
# Values of these types hold no references, and are none themselves, unless keys refer to results.
SCALARS = frozenset({int, float, str, bool, bytes, type(None)})


class Call(NamedTuple):
    """What a task calls.

    Attributes
    ----------
    function, args, kwargs
        The call.
    info
        What is known of the function, if it is a plain function of the user's.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    info: FunctionInfo | None = None


def call_of(run_spec: Any) -> Call | None:
    """Return what a task calls; None for a node that only passes data on."""
    function = getattr(run_spec, "func", None)
    if callable(function) and hasattr(run_spec, "args"):
        if type(function) is FunctionType and (info := function_info(function)).is_users:
            return Call(function, tuple(run_spec.args), run_spec.kwargs or {}, info)
        return _unwrap_helpers(Call(function, tuple(run_spec.args), run_spec.kwargs or {}))
    if isinstance(run_spec, tuple) and len(run_spec) == 3 and callable(run_spec[0]):
        return _unwrap_helpers(Call(run_spec[0], tuple(run_spec[1] or ()), run_spec[2] or {}))
    return None


def nested_call(value: Any) -> Call | None:
    """Return what a value inside a task calls; None for a plain value."""
    if _is_tuple_task(value):
        return _unwrap_helpers(Call(value[0], tuple(value[1:]), {}))
    return call_of(value) if is_node(value) else None


def _unwrap_helpers(call: Call) -> Call:
    """Return the call of the user's function behind Dask's helpers that call it."""
    function, args, kwargs, _ = call
    if isinstance(function, functools.partial):
        return _unwrap_helpers(Call(function.func, (*function.args, *args), {**function.keywords, **kwargs}))
    helper = getattr(function, "__name__", "") if package_of(function) in ("dask", "distributed") else ""
    if helper == EXECUTE_TASK and len(args) == 1 and _is_tuple_task(args[0]):
        return _unwrap_helpers(Call(args[0][0], tuple(args[0][1:]), {}))
    if helper == APPLY and args and callable(args[0]):
        positional = _list_items(args[1] if len(args) > 1 else [])
        named = _dict_items(args[2] if len(args) > 2 else {})
        if positional is not None and named is not None:
            return _unwrap_helpers(Call(args[0], tuple(positional), named))
    return call


def _list_items(value: Any) -> list[Any] | None:
    """Return the items of a list in any of its forms; None if the value is no list."""
    if type(value) in (list, tuple):
        return list(value)
    call = call_of(value)
    if call is not None and getattr(call.function, "__name__", "") == IDENTITY_CAST:
        return list(call.args)
    return None


def _dict_items(value: Any) -> dict[Any, Any] | None:
    """Return the items of a dictionary in any of its forms; None if the value is no dictionary."""
    if isinstance(value, dict):
        return value
    call = Call(value[0], tuple(value[1:]), {}) if _is_tuple_task(value) else call_of(value)
    if call is None or call.function is not dict or len(call.args) != 1:
        return None
    pairs = [_list_items(pair) for pair in _list_items(call.args[0]) or []]
    return {pair[0]: pair[1] for pair in pairs if pair is not None and len(pair) == 2}


def call_name(call: Call | None, prefix: str) -> str:
    """Return the name of an activity: the function's name, or the prefix if Dask made the function."""
    if call is None or is_fused(call):
        return prefix
    if call.info is not None:
        return call.info.name
    name = getattr(call.function, "__name__", None)
    if isinstance(name, str):
        return name
    is_dasks = package_of(type(call.function)) in ("dask", "toolz", "cytoolz")
    return prefix if is_dasks else type(call.function).__name__


def is_fused(call: Call) -> bool:
    """Whether the task runs a whole graph that Dask's optimization fused into one task."""
    if call.info is not None or package_of(call.function) not in ("dask", "dask_expr"):
        return False
    name = getattr(call.function, "__name__", "")
    return name in GRAPH_RUNNERS or hasattr(call.function, "dsk")


def referenced_key(value: Any, keys: Collection[Any]) -> Any:
    """Return the key of the task to whose result a value refers; None for a plain value.

    Parameters
    ----------
    value
        An argument, or an item of one.
    keys
        The keys that refer to results wherever they stand, as in the old form. Empty for the new form, where
        a string that equals a key is a string.
    """
    if keys and _is_key(value, keys):
        return value
    kind = type(value)
    if kind in SCALARS:
        return None
    get_key = _key_getters.get(kind)
    if get_key is None:
        if package_of(kind) not in ("dask", "distributed"):
            return None
        get_key = _key_getters[kind] = _create_key_getter(kind)
    return get_key(value)


_key_getters: dict[type, Callable[[Any], Any]] = {}  # of Dask's own classes, which are few


def _create_key_getter(kind: type) -> Callable[[Any], Any]:
    names = {base.__name__ for base in kind.__mro__}
    if ALIAS in names:
        return _alias_target
    return attrgetter("key") if names & {TASK_REF, FUTURE} else _no_key


def _alias_target(alias: Any) -> Any:
    target = getattr(alias, "target", alias.key)
    return target.key if type(target).__name__ == TASK_REF else target


def _no_key(_value: Any) -> None:
    """Return None: the value refers to no task."""


def children_of(value: Any, keys: Collection[Any]) -> Call | dict[Any, Any] | list[Any] | None:
    """Return what is inside a value that may hold references: a container or a nested task; else None."""
    if isinstance(value, VarArgs):
        return list(value)
    if is_node(value):
        klass = getattr(value, "klass", None)
        if klass is None:
            return _list_items(value) or call_of(value)
        items = value.args
        return dict(zip(items[::2], items[1::2], strict=False)) if klass is dict else list(items)
    if type(value) in (list, dict) and (keys or contains_nodes(value)):
        return value  # type: ignore[no-any-return]
    if keys and _is_tuple_task(value):
        return Call(value[0], tuple(value[1:]), {})
    return None


def unwrap(value: Any) -> Any:
    """Return the value that a data node wraps, or the arguments of ``*args`` as a tuple; else the value."""
    if isinstance(value, VarArgs):
        return tuple(unwrap(item) for item in value)
    is_wrapper = type(value).__name__ == DATA_NODE and package_of(type(value)) == "dask"
    return value.value if is_wrapper else value


def key_text(key: Any) -> str:
    """Return a task's key as records hold it: a string as it is, any other key as its repr."""
    return key if isinstance(key, str) else repr(key)


def is_node(value: Any) -> bool:
    """Whether a value is a node of a graph, and not a collection that was passed to a task as it is.

    A collection must not be asked for attributes: a delayed object has any attribute, as one more task.
    """
    kind = type(value)
    return package_of(kind) == "dask" and not hasattr(kind, "__dask_graph__")


def contains_nodes(container: Any) -> bool:
    """Whether a plain container contains nodes, as in versions of 2024."""
    items = container.values() if type(container) is dict else container
    return any(type(item) not in SCALARS and is_node(item) for item in islice(items, _MAX_ITEMS))


def _is_tuple_task(value: Any) -> bool:
    return type(value) is tuple and bool(value) and callable(value[0])


def _is_key(value: Any, keys: Collection[Any]) -> bool:
    try:
        return isinstance(value, (str, bytes, int, float, tuple)) and value in keys
    except TypeError:  # a tuple of items without a hash is no key
        return False
