"""``@task``: a function call as a task.

Flows in: calls of decorated functions. Flows out: one task record each. A wrapper refers only to
the function and its spec, and both can be pickled. So a function that is decorated in ``__main__`` or in a
notebook still goes to another process.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from flowprov.capture import replay
from flowprov.capture.failures import close_left_open
from flowprov.capture.function_spec import FunctionSpec
from flowprov.capture.generators import can_be_awaited, wrap_async_generator, wrap_generator
from flowprov.capture.suspended_scope import AwaitedTask, GeneratorTask
from flowprov.capture.task_records import (
    end_call,
    end_with_error,
    start_call,
    undo_returned_start,
)
from flowprov.capture.wrapping import is_kind, is_no_function, wraps
from flowprov.errors import UsageError
from flowprov.runtime import context, runtime
from flowprov.values import as_name
from flowprov.versioning.function_sources import note_function

get_current = context.current.get


replay.compiled_as(replay.not_recorded)(start_call)

P = ParamSpec("P")
R = TypeVar("R")


@overload
def task(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def task(
    *,
    activity_id: str | None = None,
    output_names: str | Sequence[str] | None = None,
    subtype: str | None = None,
    tags: Sequence[str] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Record each call of a function as a task.

    The decorator takes functions, methods, ``async`` functions and those of ``types.coroutine``, generators
    and asynchronous generators. What it returns has the same signature.

    Parameters
    ----------
    activity_id
        Name of the activity. By default the function's name.
    output_names
        Names under which the result is recorded: one name, or one for each element of a returned tuple. By
        default a dictionary is recorded as it is, and any other result as ``result``. None generates nothing.
    subtype, tags, custom_metadata
        Recorded with each call.

    Raises
    ------
    UsageError
        When it decorates: for an unknown option, and for what is no function, as a class is none.

    Notes
    -----
    ``used`` holds the arguments by parameter name, defaults included, as they were before the call. It leaves
    out the object of a method (``self``, ``cls``). An exception passes through unchanged and is recorded with
    its traceback. Under ``FLOWPROV_DISABLED=1`` the decorator returns the function itself.

    Any other object that can be called becomes a function, which has the object as ``__wrapped__`` and the
    attributes of its ``__dict__``. Over ``functools.lru_cache`` it has the methods of the cache, too.
    """
    for name in options:
        if name not in _OPTIONS:
            raise UsageError(_describe_unknown_option(name))
    if function is None:
        return functools.partial(_decorate, options=options)
    return _decorate(function, options)


_OPTIONS = ("activity_id", "output_names", "subtype", "tags", "custom_metadata")


def _describe_unknown_option(name: str) -> str:
    import difflib  # costs a millisecond, and is needed for a mistake only

    nearest = "activity_id" if name == "name" else next(iter(difflib.get_close_matches(name, _OPTIONS)), None)
    hint = f" Did you mean {nearest}?" if nearest else ""
    return f"flowprov.task() has no option {name!r}. Its options are {', '.join(_OPTIONS)}.{hint}"


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    if is_no_function(function):
        hint = f" Write @flowprov.task(activity_id={function!r})." if isinstance(function, str) else ""
        hint = " Decorate the methods of a class." if isinstance(function, type) else hint
        raise UsageError(f"flowprov.task decorates functions; it was given {as_name(function)}.{hint}")
    if runtime.disabled():
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, options))
    spec = FunctionSpec(function, **options)
    note_function(function)
    if is_kind(inspect.isasyncgenfunction, function):
        return wrap_async_generator(function, functools.partial(GeneratorTask, spec))
    if is_kind(inspect.iscoroutinefunction, function):
        return _wrap_coroutine(function, spec)
    if is_kind(inspect.isgeneratorfunction, function):
        kind = AwaitedTask if can_be_awaited(function) else GeneratorTask
        return wrap_generator(function, functools.partial(kind, spec))
    return _wrap_function(function, spec)


def _wrap_function(function: Any, spec: FunctionSpec) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            scope = start_call(spec, args, kwargs)
        except BaseException as error:  # from outside, raised on unchanged
            undo_returned_start(error)
            raise
        if scope is None:
            return function(*args, **kwargs)
        try:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # recorded, and raised on unchanged
                end_with_error(scope, error, spec.tags, spec.custom_metadata)
                raise
            end_call(scope, spec, result)
        except BaseException as error:  # raised on; it may have arrived before the scope could be closed
            close_left_open(scope, error)
            raise
        return result

    return wrapper


def _wrap_coroutine(function: Any, spec: FunctionSpec) -> Any:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            scope = start_call(spec, args, kwargs)
        except BaseException as error:  # from outside, raised on unchanged
            undo_returned_start(error)
            raise
        if scope is None:
            return await function(*args, **kwargs)
        try:
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:  # recorded, and raised on unchanged
                end_with_error(scope, error, spec.tags, spec.custom_metadata)
                raise
            end_call(scope, spec, result)
        except BaseException as error:  # raised on; it may have arrived before the scope could be closed
            close_left_open(scope, error)
            raise
        return result

    return wrapper
