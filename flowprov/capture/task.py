"""``@task`` and ``task_scope``: a function call, or a block of code, as a task.

Flows in: calls of decorated functions, and blocks. Flows out: one task record each. A wrapper refers only to
the function and its spec, and both can be pickled. So a function that is decorated in ``__main__`` or in a
notebook still goes to another process.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

import msgspec

from flowprov.capture.failures import close_after_fault, count_lost_event
from flowprov.capture.function_spec import FunctionSpec, encode
from flowprov.capture.handles import TaskHandle
from flowprov.capture.task_records import (
    close_task,
    enclosing_scope,
    encode_outputs_and_extras,
    end_call,
    end_with_error,
    open_task,
    start_call,
)
from flowprov.clock import ticks
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

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

    The decorator takes functions, methods, ``async`` functions, generators and asynchronous generators. What
    it returns has the same signature.

    Parameters
    ----------
    activity_id
        Name of the activity. By default the function's name.
    output_names
        Names under which the result is recorded: one name, or one for each element of a returned tuple. By
        default a dictionary is recorded as it is, and any other result as ``result``. None generates nothing.
    subtype, tags, custom_metadata
        Recorded with each call.

    Notes
    -----
    ``used`` holds the arguments by parameter name, defaults included, as they were before the call. It leaves
    out the object of a method (``self``, ``cls``). An exception passes through unchanged and is recorded with
    its traceback. Under ``FLOWPROV_DISABLED=1`` the decorator returns the function itself.
    """
    if function is None:
        return functools.partial(_decorate, options=options)
    return _decorate(function, options)


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    if runtime.disabled():
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, options))
    spec = FunctionSpec(function, **options)
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, spec)
    if inspect.iscoroutinefunction(function):
        return _wrap_coroutine(function, spec)
    if inspect.isgeneratorfunction(function):
        return _wrap_generator(function, spec)
    return _wrap_function(function, spec)


def _wrap_function(function: Any, spec: FunctionSpec) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        scope = start_call(spec, args, kwargs)
        if scope is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # recorded, and raised on unchanged
            end_with_error(scope, error, spec.tags, spec.custom_metadata)
            raise
        end_call(scope, spec, result)
        return result

    return wrapper


def _wrap_coroutine(function: Any, spec: FunctionSpec) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        scope = start_call(spec, args, kwargs)
        if scope is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:  # recorded, and raised on unchanged
            end_with_error(scope, error, spec.tags, spec.custom_metadata)
            raise
        end_call(scope, spec, result)
        return result

    return wrapper


def _wrap_generator(function: Any, spec: FunctionSpec) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        scope = start_call(spec, args, kwargs)
        if scope is None:
            return (yield from function(*args, **kwargs))
        suspend(scope)
        return (yield from RecordedGenerator(function(*args, **kwargs), scope, spec))

    return wrapper


def _wrap_async_generator(function: Any, spec: FunctionSpec) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope = start_call(spec, args, kwargs)
        generator = function(*args, **kwargs)
        if scope is not None:
            suspend(scope)
        sent, count = None, 0
        try:
            while True:
                if scope is not None:
                    resume(scope)
                try:
                    value = await generator.asend(sent)
                finally:
                    if scope is not None:
                        suspend(scope)
                count += 1
                sent = yield value
        except StopAsyncIteration:
            end_generator(scope, spec, count, None, left_early=False)
        except GeneratorExit:
            await generator.aclose()
            end_generator(scope, spec, count, None, left_early=True)
            raise
        except BaseException as error:  # recorded, and raised on unchanged
            if scope is not None:
                end_with_error(scope, error, spec.tags, spec.custom_metadata)
            raise

    return wrapper


class RecordedGenerator(Generator[Any, Any, Any]):
    """A generator whose scope is current while its body runs, and only then."""

    def __init__(self, generator: Generator[Any, Any, Any], scope: Scope, spec: FunctionSpec) -> None:
        self._generator = generator
        self._scope = scope
        self._spec = spec
        self._count = 0

    def send(self, value: Any) -> Any:
        """Run the body up to its next yield."""
        return self._step(self._generator.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the body, at the yield where it waits."""
        return self._step(self._generator.throw, *error)

    def close(self) -> None:
        """Close the body before its end."""
        resume(self._scope)
        try:
            self._generator.close()
        except BaseException as error:  # recorded, and raised on unchanged
            end_with_error(self._scope, error, self._spec.tags, self._spec.custom_metadata)
            raise
        end_generator(self._scope, self._spec, self._count, None, left_early=True)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        resume(self._scope)
        try:
            value = step(*args)
        except StopIteration as stop:
            end_generator(self._scope, self._spec, self._count, stop.value, left_early=False)
            raise
        except BaseException as error:  # recorded, and raised on unchanged
            end_with_error(self._scope, error, self._spec.tags, self._spec.custom_metadata)
            raise
        suspend(self._scope)
        self._count += 1
        return value


def suspend(scope: Scope) -> None:
    """Take a generator's scope out of the context while its body waits."""
    context.deactivate(scope)


def resume(scope: Scope) -> None:
    """Make a generator's scope current, inside the scope that is current where it resumes."""
    scope.previous = context.current.get()
    context.current.set(scope)


def end_generator(
    scope: Scope | None, spec: FunctionSpec, count: int, result: Any, *, left_early: bool
) -> None:
    """Record the end of a generator: how many values it yielded, and what it returned."""
    if scope is None:
        return
    ended = ticks()
    try:
        outputs = {"yielded": count, **(spec.name_outputs(result) or {})}
        metadata = {**spec.custom_metadata, "left_early": True} if left_early else spec.custom_metadata
        close_task(scope, ended, *encode_outputs_and_extras(scope, outputs, spec.tags, metadata))
    except Exception as error:  # the guard
        close_after_fault(scope, "recording the end of a generator", error)


class task_scope:  # noqa: N801 - used like a function, as contextlib's own are
    """Record a block of code as a task.

    Parameters
    ----------
    name
        Name of the activity.
    used
        What the block uses, by name.
    subtype, tags, custom_metadata
        Recorded with the task.

    Examples
    --------
    >>> with task_scope("tokenize", used={"files": 3}) as step:  # doctest: +SKIP
    ...     step.set_generated(tokens=1_000)
    """

    def __init__(
        self,
        name: str,
        *,
        used: Mapping[str, Any] | None = None,
        subtype: str | None = None,
        tags: Sequence[str] | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._name = name
        self._used = used or {}
        self._subtype = subtype
        self._tags = list(tags or ())
        self._custom_metadata = dict(custom_metadata or {})
        self._scope: Scope | None = None

    def __enter__(self) -> TaskHandle:
        previous = context.current.get()
        parent = None if runtime.disabled() else enclosing_scope(previous)
        if parent is not None:
            try:
                fields = b',"activity_id":' + msgspec.json.encode(str(self._name))
                if self._subtype is not None:
                    fields += b',"subtype":' + msgspec.json.encode(str(self._subtype))
                self._scope = open_task(parent, previous, fields, encode(self._used))
            except Exception as error:  # the guard
                count_lost_event(parent, "recording the start of a task_scope", error)
        return TaskHandle(self._scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is None:
            return
        if error is not None:
            end_with_error(scope, error, self._tags, self._custom_metadata)
            return
        ended = ticks()
        try:
            close_task(
                scope, ended, *encode_outputs_and_extras(scope, None, self._tags, self._custom_metadata)
            )
        except Exception as fault:  # the guard
            close_after_fault(scope, "recording the end of a task_scope", fault)
