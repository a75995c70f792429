"""``@task`` on generators: one task per generator, current while its body runs.

Flows in: generators of decorated functions, step by step. Flows out: one task record each, with the number of
values that it yielded.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from flowprov.capture.failures import close_after_fault
from flowprov.capture.function_spec import FunctionSpec
from flowprov.capture.task_records import (
    close_task,
    encode_outputs_and_extras,
    end_with_error,
    start_call,
    undo_returned_start,
)
from flowprov.clock import ticks
from flowprov.runtime import context
from flowprov.runtime.context import Scope


def wrap_generator(function: Any, spec: FunctionSpec) -> Any:
    """Return a generator function that records each generator as a task."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        scope = SuspendedScope(spec)
        try:
            if scope.start(args, kwargs):
                return (yield from RecordedGenerator(function(*args, **kwargs), scope))
            return (yield from function(*args, **kwargs))
        except BaseException as error:  # recorded, and raised on unchanged
            scope.fail(error)
            raise

    return wrapper


def wrap_async_generator(function: Any, spec: FunctionSpec) -> Any:
    """Return an asynchronous generator function that records each generator as a task."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope = SuspendedScope(spec)
        generator = None
        try:
            scope.start(args, kwargs)
            generator = function(*args, **kwargs)
            sent = None
            while True:
                scope.resume()
                try:
                    value = await generator.asend(sent)
                finally:
                    scope.suspend()
                scope.yielded += 1
                sent = yield value
        except StopAsyncIteration:
            scope.end(None)
        except GeneratorExit:
            if generator is not None:
                await generator.aclose()
            scope.end(None, left_early=True)
            raise
        except BaseException as error:  # recorded, and raised on unchanged
            scope.fail(error)
            raise

    return wrapper


class RecordedGenerator(Generator[Any, Any, Any]):
    """A generator whose scope is current while its body runs.

    The generator that wraps it records its failure.
    """

    def __init__(self, generator: Generator[Any, Any, Any], scope: SuspendedScope) -> None:
        self._generator = generator
        self._scope = scope

    def send(self, value: Any) -> Any:
        """Run the body up to its next yield."""
        return self._step(self._generator.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the body, at the yield where it waits."""
        return self._step(self._generator.throw, *error)

    def close(self) -> None:
        """Close the body before its end."""
        self._scope.resume()
        self._generator.close()
        self._scope.end(None, left_early=True)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        scope = self._scope
        scope.resume()
        try:
            value = step(*args)
        except StopIteration as stop:
            scope.end(stop.value)
            raise
        scope.suspend()
        scope.yielded += 1
        return value


class SuspendedScope:
    """The scope of a generator: current while its body runs, and only then.

    Attributes
    ----------
    yielded
        How many values the generator yielded.
    """

    def __init__(self, spec: FunctionSpec) -> None:
        self._spec = spec
        self._scope: Scope | None = None
        self._innermost: Scope | None = None
        self.yielded = 0

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Open the scope, suspended; return whether the generator is recorded."""
        try:
            self._scope = self._innermost = start_call(self._spec, args, kwargs)
        except BaseException as error:  # from outside, raised on unchanged
            undo_returned_start(error)
            raise
        self.suspend()
        return self._scope is not None

    def suspend(self) -> None:
        """Take the scope out of the context, with those of loops in the body, while the body waits."""
        scope, innermost = self._scope, context.current.get()
        opened = innermost
        while opened is not None and opened is not scope:
            opened = opened.previous
        if scope is not None and opened is not None:  # else another context
            self._innermost = innermost
            context.current.set(scope.previous)

    def resume(self) -> None:
        """Make the scopes of the body current again, inside the scope that is current where it resumes."""
        if self._scope is not None:
            self._scope.previous = context.current.get()
            context.current.set(self._innermost)

    def end(self, result: Any, *, left_early: bool = False) -> None:
        """Record the end of the generator: how many values it yielded, and what it returned."""
        scope, spec = self._scope, self._spec
        if scope is None:
            return
        try:
            ended = ticks()
            outputs = {"yielded": self.yielded, **(spec.name_outputs(result) or {})}
            metadata = {**spec.custom_metadata, "left_early": True} if left_early else spec.custom_metadata
            close_task(scope, ended, *encode_outputs_and_extras(scope, outputs, spec.tags, metadata))
        except BaseException as error:  # the guard; what came from outside passes on from there
            close_after_fault(scope, "recording the end of a generator", error)

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        scope = self._scope
        if scope is not None and scope.key in scope.journal.open_scopes:
            end_with_error(scope, error, self._spec.tags, self._spec.custom_metadata)
