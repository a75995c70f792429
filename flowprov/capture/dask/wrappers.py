"""Wrappers: what a task calls instead of the user's function, and the functions behind them.

Flows in: what a task calls. Flows out: the functions that a person wrote it for. There are none if there is
no wrapper, or nothing can be found behind it.

A wrapper is known by its form, and not by its library:

- a partial or curried function, or a composition;
- a function that has the name of the ``def`` inside a decorator ("wrapper"), or that only points to another
  one by ``__wrapped__``; what it calls is that, the one function in its closure, or one of its arguments;
- an object that keeps a function under a usual name ("func"), if its class says that it wraps, is private, or
  comes from another package than the function;
- what such a wrapper itself keeps, if it is of the same library: joblib's wrapper holds a batch, whose calls
  are arguments of the task.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import islice
from types import FunctionType
from typing import Any

from flowprov.capture.dask import task_spec
from flowprov.capture.dask.callables import LIBRARY_PACKAGES, is_named_wrapper, package_of

_MAX_WRAPPERS = 8
_MAX_ITEMS = 100
_ATTRIBUTES = ("__wrapped__", "func", "function", "fn", "_func", "_function", "_fn", "wrapped", "_wrapped")
_PARAMETERS = frozenset(name.strip("_") for name in _ATTRIBUTES)


def functions_behind(
    function: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the functions behind a wrapper, in the order of their calls; none if it is none, or hides them.

    Parameters
    ----------
    function, args, kwargs
        What is called, as far as it is known.
    """
    return _behind(function, args, kwargs or {}, _MAX_WRAPPERS)


def is_wrapper(function: Any) -> bool:
    """Whether a callable is a wrapper, so that its own name says nothing."""
    return is_named_wrapper(function) if isinstance(function, FunctionType) else _kept(function) is not None


def _behind(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], depth: int) -> list[Any]:
    if depth <= 0:
        return []
    library, inner = "", function
    while (composed := composed_functions(inner)) is None:
        if isinstance(inner, functools.partial):
            args, kwargs = (*inner.args, *args), {**inner.keywords, **kwargs}
        kept = _kept(inner)
        if kept is None:
            break
        library, inner, depth = package_of(inner) or package_of(type(inner)), kept, depth - 1
        if depth <= 0:
            return []  # it keeps itself
    if composed is not None:
        return _unwrap_each(composed, depth)
    if isinstance(inner, FunctionType):
        if is_named_wrapper(inner):
            called = _called_function(args, kwargs) or _listed_calls(args, kwargs)
            return _unwrap_each(called, depth)
    elif inner is not function and library == package_of(type(inner)):
        # The wrapper holds another helper of its library, which takes calls as its arguments.
        return _unwrap_each(_listed_calls(args, kwargs), depth) or [inner]
    return [] if inner is function else [inner]


def _unwrap_each(functions: list[Any], depth: int) -> list[Any]:
    return [behind for function in functions for behind in _behind(function, (), {}, depth - 1) or [function]]


def composed_functions(function: Any) -> list[Any] | None:
    """Return the functions of a composition of toolz, in the order in which they are called; else None."""
    if package_of(type(function)) not in ("toolz", "cytoolz"):
        return None
    funcs = getattr(function, "funcs", None)
    if isinstance(funcs, tuple):
        return [function.first, *funcs] if hasattr(function, "first") else list(funcs)
    func = getattr(function, "func", None)
    return [func] if callable(func) else None  # curry, excepts


def _kept(function: Any) -> Any:
    """Return the function that a wrapper keeps; None if it is no wrapper or keeps none."""
    if isinstance(function, functools.partial):
        return function.func
    if isinstance(function, FunctionType):
        return _kept_by_function(function)
    if isinstance(getattr(function, "__name__", None), str):
        return None  # a builtin, a method, a class, or a wrapper that took the name of its function
    for name in _ATTRIBUTES:
        kept = _attribute(function, name)
        if callable(kept):
            return kept if _wraps(type(function), kept) else None
    return None


def _kept_by_function(function: FunctionType) -> Any:
    if not is_named_wrapper(function):
        return None
    wrapped = function.__dict__.get("__wrapped__")
    if callable(wrapped):
        return wrapped
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    functions = [content for content in cells if callable(content) and not isinstance(content, type)]
    return functions[0] if len(functions) == 1 else None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises if the variable has no value yet
    except ValueError:
        return False
    return True


def _attribute(function: Any, name: str) -> Any:
    """Return what an object keeps under a name, without running its code."""
    values = getattr(function, "__dict__", None)
    if isinstance(values, dict) and name in values:
        return values[name]
    slot: Any = getattr(type(function), name, None)
    if hasattr(slot, "__get__") and type(slot).__name__ in ("member_descriptor", "getset_descriptor"):
        try:
            return slot.__get__(function)
        except AttributeError:  # the slot is empty
            return None
    return None


def _wraps(kind: type, kept: Any) -> bool:
    """Whether a class is a wrapper around a function, and no callable of the user's own that uses one."""
    if kind.__name__.startswith("_") or "wrap" in kind.__name__.lower():
        return True
    package = package_of(kept) or package_of(type(kept))
    return package != package_of(kind) and package not in LIBRARY_PACKAGES


def _called_function(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the function that a helper takes as its first argument, or under a usual name."""
    named = [value for name, value in kwargs.items() if name.strip("_") in _PARAMETERS]
    values = [value for value in (*args[:1], *named) if callable(value) and not isinstance(value, type)]
    return [value for value in values if not task_spec.is_node(value)][:1]


def _listed_calls(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the functions of arguments that are lists of calls: ``[(function, args, kwargs), ...]``."""
    found = []
    for value in (*args, *kwargs.values()):
        for item in islice(_items(value) or (), _MAX_ITEMS):
            call = _items(item)
            if call and callable(call[0]) and not task_spec.is_node(call[0]):
                found.append(call[0])
    return found


def _items(value: Any) -> list[Any] | None:
    """Return the items of a list or tuple, which may be a node of a graph; None for anything else."""
    if type(value) in (list, tuple):
        return list(value)
    if not task_spec.is_node(value):
        return None
    children = task_spec.children_of(value, ())
    return children if isinstance(children, list) else None
