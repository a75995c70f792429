"""The functions that Dask tasks run: their names, their parameters, and whether they are the user's.

Flows in: functions, and the arguments of a call. Flows out: what was looked up of a function, once, and the
arguments by parameter name.

Dask sends a function that workers cannot import (of a script, or a lambda) with each task. Each time it
arrives as a new function object. Its code object equals that of the one before, so what is known of such a
function is kept by its code.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

DASK_PACKAGES = frozenset({"dask", "distributed", "dask_expr", "toolz", "cytoolz", "tlz"})
# Dask builds its collections from functions of these packages.
LIBRARY_PACKAGES = DASK_PACKAGES | {
    "_functools",
    "_operator",
    "builtins",
    "functools",
    "itertools",
    "numpy",
    "operator",
    "pandas",
    "pyarrow",
    "xarray",
}
_MAX_WRAPPERS = 8  # around one function
_WRAPPER_NAMES = frozenset({"wrapped", "wrap", "inner", "decorated", "decorator"})  # beside "...wrapper..."
_VARIADIC = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


class FunctionInfo(NamedTuple):
    """What is looked up of a function once.

    Attributes
    ----------
    name
        Name of the function.
    parameters
        Names of its parameters, if each takes one argument, by position or by name; else None.
    is_users
        Whether the function is the user's own, and not a library's helper that runs another function.
    signature
        Its signature, if it was looked up; None also if it has none.
    code
        The code object under which it is kept.
    is_wrapper
        Whether its name is that of a wrapper, and says nothing.
    """

    name: str
    parameters: Mapping[str, None] | None
    is_users: bool
    signature: inspect.Signature | None = None
    code: CodeType | None = None
    is_wrapper: bool = False


class VarArgs(tuple[Any, ...]):
    """The arguments that ``*args`` took. Each of them is an argument by itself."""

    __slots__ = ()


def function_info(function: Any) -> FunctionInfo:
    """Return what is known of a function, or of any other callable."""
    try:
        info = _infos.get(function)
        if info is None:
            innermost = _unwrap_function(function)
            if innermost is None:
                info = _infos[function] = _inspect_callable(function)
            else:
                info = _inspect_code(
                    innermost.__code__, function.__name__, function.__module__, is_named_wrapper(function)
                )
                if info.code is innermost.__code__:  # not a copy that was sent again: keep it
                    _infos[function] = info
    except TypeError:  # it has no hash, or takes no weak references
        return _inspect_callable(function)
    return info


_infos: weakref.WeakKeyDictionary[Any, FunctionInfo] = weakref.WeakKeyDictionary()


def _unwrap_function(function: Any) -> FunctionType | None:
    """Return the plain function whose parameters a function has: itself, or the one that it wraps."""
    for _ in range(_MAX_WRAPPERS):
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
def _inspect_code(code: CodeType, name: str, module: str | None, is_wrapper: bool) -> FunctionInfo:  # noqa: FBT001 - the key of a cache
    names = code.co_varnames[: code.co_argcount]
    is_plain = not (code.co_posonlyargcount or code.co_kwonlyargcount or code.co_flags & _VARIADIC)
    is_users = _is_users(_top_package(module))
    parameters = dict.fromkeys(names) if is_plain else None
    return FunctionInfo(name, parameters, is_users=is_users, code=code, is_wrapper=is_wrapper)


def is_named_wrapper(function: FunctionType) -> bool:
    """Whether a function has the name of a wrapper: "wrapper", or that of a ``def`` with ``__wrapped__``."""
    name = function.__name__
    if "wrapper" in name.lower() or name.strip("_").lower() in _WRAPPER_NAMES:
        return True
    wrapped = function.__dict__.get("__wrapped__")
    return (
        wrapped is not None
        and name == function.__code__.co_name
        and name != getattr(wrapped, "__name__", name)
    )


def _inspect_callable(function: Any) -> FunctionInfo:
    name = str(getattr(function, "__name__", ""))
    try:
        signature = inspect.signature(function)
    except Exception:  # builtins have none, and a user's own __signature__ may do anything
        return FunctionInfo(name, None, is_users=False)
    return FunctionInfo(name, None, _is_users(package_of(function)), signature)


def _is_users(package: str) -> bool:
    return bool(package) and package not in LIBRARY_PACKAGES


def package_of(definition: Any) -> str:
    """Return the top package in which a function or class was defined."""
    return _top_package(getattr(definition, "__module__", None))


def _top_package(module: object) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


def name_arguments(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], info: FunctionInfo | None = None
) -> dict[str, Any]:
    """Return the arguments of a call by parameter name, defaults included.

    Arguments that do not fit the function, or whose function has no signature, are named by position.

    Parameters
    ----------
    function, args, kwargs
        The call.
    info
        What is known of the function, if it was looked up before.
    """
    try:
        info = info or function_info(function)
        if info.parameters is not None:
            named = _bind_plain(function, info.parameters, args, kwargs)
            if named is not None:
                return named
        signature = info.signature or inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
    except Exception:  # no signature, arguments that do not fit, or whatever a user's own signature raises
        return {**{f"arg_{position}": value for position, value in enumerate(args)}, **kwargs}
    named = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            is_var_args = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            named[name] = VarArgs(value) if is_var_args else value
    return named


def _bind_plain(
    function: Any, parameters: Mapping[str, None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Bind arguments to parameters that take one each; return None if they do not fit."""
    named = {**dict(zip(parameters, args, strict=False)), **kwargs}
    if len(named) != len(args) + len(kwargs):
        return None  # too many arguments, or one of them twice
    if len(named) < len(parameters):
        innermost = _unwrap_function(function)
        defaults = innermost and innermost.__defaults__
        if not defaults:
            return None
        bound = {**dict(zip(list(parameters)[-len(defaults) :], defaults, strict=True)), **named}
        return {name: bound[name] for name in parameters} if bound.keys() == parameters.keys() else None
    return named if named.keys() == parameters.keys() else None
