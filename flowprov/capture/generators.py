"""Generators that are tasks or workflows: one record per generator, current while its body runs.

Flows in: generators of decorated functions, step by step. Flows out: the same values; and one task each, with
the number of values that it yielded. What is a workflow instead is in ``workflow``.
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


def wrap_generator(function: Any, create: Callable[[], SuspendedScope]) -> Any:
    """Return a generator function that records each generator.

    Parameters
    ----------
    function
        The function of the program.
    create
        Creates the scope of one generator. It can be pickled.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        scope = create()
        try:
            if scope.start(args, kwargs):
                return (yield from RecordedGenerator(function(*args, **kwargs), scope))
            return (yield from function(*args, **kwargs))
        except BaseException as error:  # recorded, and raised on unchanged
            scope.fail(error)
            raise

    return wrapper


def wrap_async_generator(function: Any, create: Callable[[], SuspendedScope]) -> Any:
    """Return an asynchronous generator function that records each generator; see :func:`wrap_generator`."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope, generator = create(), None
        try:
            scope.start(args, kwargs)
            generator = function(*args, **kwargs)
            step = generator.asend(None)
            while True:
                value = await scope.run(step)
                scope.yielded += 1
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:  # thrown in: it is for the body
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)
        except StopAsyncIteration:
            scope.end(None)
        except GeneratorExit:
            if generator is not None:
                await scope.run(generator.aclose())
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
    scope
        The scope; None if nothing is recorded.
    yielded
        How many values the generator yielded.
    """

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self._innermost: Scope | None = None
        self.yielded = 0

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Open the scope, suspended; return whether the generator is recorded."""
        self._open(args, kwargs)
        self._innermost = self.scope
        self.suspend()
        return self.scope is not None

    async def run(self, step: Any) -> Any:
        """Await a step of the body in its scope."""
        self.resume()
        try:
            return await step
        finally:
            self.suspend()

    def suspend(self) -> None:
        """Take the scope out of the context, with those of loops in the body, while the body waits."""
        scope, innermost = self.scope, context.current.get()
        opened = innermost
        while opened is not None and opened is not scope:
            opened = opened.previous
        if scope is not None and opened is not None:  # else another context
            self._innermost = innermost
            context.current.set(scope.previous)

    def resume(self) -> None:
        """Make the scopes of the body current again, inside the scope that is current where it resumes."""
        if self.scope is not None:
            self.scope.previous = context.current.get()
            context.current.set(self._innermost)

    def end(self, result: Any, *, left_early: bool = False) -> None:
        """Record the end of the generator, and whether it was closed before its end."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        raise NotImplementedError

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Open the scope and make it current; leave it None if nothing is recorded."""
        raise NotImplementedError


class GeneratorTask(SuspendedScope):
    """The scope of a generator that is a task.

    Parameters
    ----------
    spec
        The generator's function.
    """

    def __init__(self, spec: FunctionSpec) -> None:
        super().__init__()
        self._spec = spec

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.scope = start_call(self._spec, args, kwargs)
        except BaseException as error:  # from outside, raised on unchanged
            undo_returned_start(error)
            raise

    def end(self, result: Any, *, left_early: bool = False) -> None:
        """Record the end of the generator: how many values it yielded, and what it returned."""
        scope, spec = self.scope, self._spec
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
        scope = self.scope
        if scope is not None and scope.key in scope.journal.open_scopes:
            end_with_error(scope, error, self._spec.tags, self._spec.custom_metadata)
