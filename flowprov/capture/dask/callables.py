"""What is known of the functions that tasks run, looked up once.

Flows in: functions, and the arguments they are called with. Flows out: whose they are, and the arguments by
name.

What a worker cannot import (the functions of a script, lambdas) Dask sends with each task, and each time it
is a new function there. Its code is equal to that of the one before, and is what such a function is known by.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

DASK = frozenset({"dask", "distributed", "dask_expr", "toolz", "cytoolz", "tlz"})
# What collections of Dask are built from.
LIBRARIES = DASK | {
    "_functools",
    "_operator",
    "builtins",
    "functools",
    "itertools",
    "numpy",
    "operator",
    "pandas",
    "pyarrow",
}
_DEEPEST = 8  # wrappers around a function
_NOT_SIMPLE = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


class FunctionInfo(NamedTuple):
    """What is looked up of a function once.

    Attributes
    ----------
    name
        Its name.
    simple
        Its parameters, where each simply takes one argument; else None.
    is_users
        Whether it is the user's own, and no helper of a library that runs another one.
    signature
        Its signature, where that was asked for; None too where it has none.
    code
        The code by which it is known, as it was met first.
    """

    name: str
    simple: Mapping[str, None] | None
    is_users: bool
    signature: inspect.Signature | None = None
    code: CodeType | None = None


class VarArgs(tuple[Any, ...]):
    """What ``*args`` took: each of them an argument by itself."""

    __slots__ = ()


def function_info(function: Any) -> FunctionInfo:
    """Look up what is known of a function, or of anything else that can be called."""
    try:
        found = _known.get(function)
        if found is None:
            plain = _unwrap_function(function)
            if plain is None:
                found = _known[function] = _inspected(function)
            else:
                found = _of_code(plain.__code__, function.__name__, function.__module__)
                if found.code is plain.__code__:  # it was not sent once more: it may stay
                    _known[function] = found
    except TypeError:  # no hash, or no weak references to it
        return _inspected(function)
    return found


_known: weakref.WeakKeyDictionary[Any, FunctionInfo] = weakref.WeakKeyDictionary()


def _unwrap_function(function: Any) -> FunctionType | None:
    """Give the plain function whose parameters a function has: itself, or the one that it wraps."""
    for _ in range(_DEEPEST):
        if type(function) is not FunctionType:
            return None
        attributes = function.__dict__
        if "__signature__" in attributes:
            return None
        if "__wrapped__" not in attributes:
            return function
        function = attributes["__wrapped__"]
    return None


@functools.lru_cache(maxsize=256)
def _of_code(code: CodeType, name: str, module: str | None) -> FunctionInfo:
    names = code.co_varnames[: code.co_argcount]
    simple = not (code.co_posonlyargcount or code.co_kwonlyargcount or code.co_flags & _NOT_SIMPLE)
    is_users = _is_users(_package(module))
    return FunctionInfo(name, dict.fromkeys(names) if simple else None, is_users=is_users, code=code)


def _inspected(function: Any) -> FunctionInfo:
    name = str(getattr(function, "__name__", ""))
    try:
        signature = inspect.signature(function)
    except Exception:  # builtins have none, and what a user put in its place may do anything
        return FunctionInfo(name, None, is_users=False)
    return FunctionInfo(name, None, _is_users(package_of(function)), signature)


def _is_users(package: str) -> bool:
    return bool(package) and package not in LIBRARIES


def package_of(thing: Any) -> str:
    """Name the top package in which a function or class was defined."""
    return _package(getattr(thing, "__module__", None))


def _package(module: object) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def name_arguments(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], known: FunctionInfo | None = None
) -> dict[str, Any]:
    """Give the arguments of a call by parameter name, defaults included; by position where names fail.

    Parameters
    ----------
    function, args, kwargs
        The call.
    known
        What is known of the function, where that was looked up before.
    """
    try:
        known = known or function_info(function)
        if known.simple is not None:
            named = _simply_named(function, known.simple, args, kwargs)
            if named is not None:
                return named
        signature = known.signature or inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
    except Exception:  # builtins have no signature, calls may not fit it, and a user's own may do anything
        return {**{f"arg_{position}": value for position, value in enumerate(args)}, **kwargs}
    named = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            named[name] = VarArgs(value) if several else value
    return named


def _simply_named(
    function: Any, simple: Mapping[str, None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Name arguments where each parameter simply takes one; None if they do not fit."""
    named = {**dict(zip(simple, args, strict=False)), **kwargs}
    if len(named) != len(args) + len(kwargs):
        return None  # there are too many, or one was given twice
    if len(named) < len(simple):
        plain = _unwrap_function(function)
        defaults = plain and plain.__defaults__
        if not defaults:
            return None
        given = {**dict(zip(list(simple)[-len(defaults) :], defaults, strict=True)), **named}
        return {name: given[name] for name in simple} if given.keys() == simple.keys() else None
    return named if named.keys() == simple.keys() else None
