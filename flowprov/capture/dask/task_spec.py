"""The forms that a Dask task has had over the versions, read without importing any of them.

Flows in: ``run_spec`` of a worker's task, and values in it. Flows out: what it calls, with which arguments,
and which of them stand for results of other tasks.

Up to 2024.10 a run_spec is a tuple ``(function, args, kwargs)``, in which inputs are keys and nested tasks
are tuples; later it is a node with ``func``, ``args`` and ``kwargs``, in which inputs are ``Alias`` or
``TaskRef`` nodes. The nodes' classes are not public: they are known by their names and attributes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from operator import attrgetter
from types import FunctionType
from typing import Any, NamedTuple

from flowprov.capture.dask.callables import FunctionInfo, VarArgs, function_info, package_of

_RUN_GRAPHS = ("_execute_subgraph", "_execute_task", "_execute_internal_graph")
_MOST_ITEMS = 100
# Values of these kinds hold nothing, and stand for themselves where keys do not stand for results.
SCALARS = frozenset({int, float, str, bool, bytes, type(None)})


class Call(NamedTuple):
    """What a task calls; and what is known of the function, where it is a plain one of the user's."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    known: FunctionInfo | None = None


def call_of(run_spec: Any) -> Call | None:
    """Find what a task calls; None for nodes that only hand data on."""
    function = getattr(run_spec, "func", None)
    if callable(function) and hasattr(run_spec, "args"):
        if type(function) is FunctionType and (known := function_info(function)).is_users:
            return Call(function, tuple(run_spec.args), run_spec.kwargs or {}, known)
        return _unwrapped(Call(function, tuple(run_spec.args), run_spec.kwargs or {}))
    if isinstance(run_spec, tuple) and len(run_spec) == 3 and callable(run_spec[0]):
        return _unwrapped(Call(run_spec[0], tuple(run_spec[1] or ()), run_spec[2] or {}))
    return None


def call_within(value: Any) -> Call | None:
    """Find what a value calls that stands inside of a task; None for plain values."""
    if _is_old_task(value):
        return _unwrapped(Call(value[0], tuple(value[1:]), {}))
    return call_of(value) if is_node(value) else None


def _unwrapped(call: Call) -> Call:
    """Find the user's function behind the helpers of Dask that call it."""
    function, args, kwargs, _ = call
    if isinstance(function, functools.partial):
        return _unwrapped(Call(function.func, (*function.args, *args), {**function.keywords, **kwargs}))
    helper = getattr(function, "__name__", "") if package_of(function) in ("dask", "distributed") else ""
    if helper == "execute_task" and len(args) == 1 and _is_old_task(args[0]):
        return _unwrapped(Call(args[0][0], tuple(args[0][1:]), {}))
    if helper == "apply" and args and callable(args[0]):
        inner = _items(args[1] if len(args) > 1 else [])
        named = _pairs(args[2] if len(args) > 2 else {})
        if inner is not None and named is not None:
            return _unwrapped(Call(args[0], tuple(inner), named))
    return call


def _items(value: Any) -> list[Any] | None:
    """Give the items of a list, however it is written; None if it is none."""
    if type(value) in (list, tuple):
        return list(value)
    call = call_of(value)
    if call is not None and getattr(call.function, "__name__", "") == "_identity_cast":
        return list(call.args)
    return None


def _pairs(value: Any) -> dict[Any, Any] | None:
    """Give the items of a dictionary, however it is written; None if it is none."""
    if isinstance(value, dict):
        return value
    call = Call(value[0], tuple(value[1:]), {}) if _is_old_task(value) else call_of(value)
    if call is None or call.function is not dict or len(call.args) != 1:
        return None
    pairs = [_items(pair) for pair in _items(call.args[0]) or []]
    return {pair[0]: pair[1] for pair in pairs if pair is not None and len(pair) == 2}


def name_of(call: Call | None, prefix: str) -> str:
    """Name the activity: the function's name, or the prefix of the key where Dask made one of several."""
    if call is None or is_fused(call):
        return prefix
    if call.known is not None:
        return call.known.name
    name = getattr(call.function, "__name__", None)
    if isinstance(name, str):
        return name
    made_by_dask = package_of(type(call.function)) in ("dask", "toolz", "cytoolz")
    return prefix if made_by_dask else type(call.function).__name__


def is_fused(call: Call) -> bool:
    """Whether the task runs a whole graph that Dask's optimisation made one task of."""
    if call.known is not None or package_of(call.function) not in ("dask", "dask_expr"):
        return False
    name = getattr(call.function, "__name__", "")
    return name in _RUN_GRAPHS or hasattr(call.function, "dsk")


def key_behind(value: Any, keys: Collection[Any]) -> Any:
    """Give the key of the task whose result a value stands for; None if it stands for itself.

    Parameters
    ----------
    value
        An argument, or an item of one.
    keys
        The keys that stand for results wherever they are met, as in the old form; none in the new one, where
        a text that equals a key is a text.
    """
    if keys and _is_key(value, keys):
        return value
    kind = type(value)
    if kind in SCALARS:
        return None
    refers = _refers.get(kind)
    if refers is None:
        if package_of(kind) not in ("dask", "distributed"):
            return None
        refers = _refers[kind] = _how_it_refers(kind)
    return refers(value)


_refers: dict[type, Callable[[Any], Any]] = {}  # of Dask's own classes, which are few


def _how_it_refers(kind: type) -> Callable[[Any], Any]:
    names = {base.__name__ for base in kind.__mro__}
    if "Alias" in names:
        return _target
    return attrgetter("key") if names & {"TaskRef", "Future"} else _nothing


def _target(alias: Any) -> Any:
    target = getattr(alias, "target", alias.key)
    return target.key if type(target).__name__ == "TaskRef" else target


def _nothing(_value: Any) -> None:
    """Stand for itself."""


def children_of(value: Any, keys: Collection[Any]) -> Call | dict[Any, Any] | list[Any] | None:
    """Open what may hold references to other tasks: containers and nested tasks; None for plain values."""
    if isinstance(value, VarArgs):
        return list(value)
    if is_node(value):
        kind = getattr(value, "klass", None)
        if kind is None:
            return _items(value) or call_of(value)
        items = value.args
        return dict(zip(items[::2], items[1::2], strict=False)) if kind is dict else list(items)
    if type(value) in (list, dict) and (keys or holds_nodes(value)):
        return value  # type: ignore[no-any-return]
    if keys and _is_old_task(value):
        return Call(value[0], tuple(value[1:]), {})
    return None


def unwrap(value: Any) -> Any:
    """Give the value that a node of Dask's only wraps, or that is only marked as several."""
    if isinstance(value, VarArgs):
        return tuple(unwrap(item) for item in value)
    wraps = type(value).__name__ == "DataNode" and package_of(type(value)) == "dask"
    return value.value if wraps else value


def text_of(key: Any) -> str:
    """Write a task's key as records have it: a text as it is, anything else as Python writes it."""
    return key if isinstance(key, str) else repr(key)


def is_node(value: Any) -> bool:
    """Whether a value is a part of a graph, and no collection that was given to a task as it is.

    Those must not be asked for attributes: one that is delayed has any, as one more task.
    """
    kind = type(value)
    return package_of(kind) == "dask" and not hasattr(kind, "__dask_graph__")


def holds_nodes(container: Any) -> bool:
    """Whether there are nodes in a plain container, as there are in versions of 2024."""
    items = container.values() if type(container) is dict else container
    return any(type(item) not in SCALARS and is_node(item) for item in islice(items, _MOST_ITEMS))


def _is_old_task(value: Any) -> bool:
    return type(value) is tuple and bool(value) and callable(value[0])


def _is_key(value: Any, keys: Collection[Any]) -> bool:
    try:
        return isinstance(value, (str, bytes, int, float, tuple)) and value in keys
    except TypeError:  # a tuple of what has no hash is no key
        return False
