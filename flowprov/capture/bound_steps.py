"""Coroutines and generators that a bound function created: the bound scope is current while their body runs.

Flows in: a function that creates such, and a scope. Flows out: the same function, with that scope in its
steps. Between two steps the scope of the caller is current again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any

from flowprov.capture.generators import AsyncGeneratorSteps, wrap_async_generator, wrap_generator
from flowprov.capture.suspended_scope import SuspendedScope
from flowprov.capture.wrapping import is_kind, wraps
from flowprov.runtime import context
from flowprov.runtime.context import Scope


def wrap_steps(function: Any, scope: Scope) -> Any:
    """Return a function whose coroutines or generators run in a scope; None if it creates none."""
    create = functools.partial(_CarriedScope, scope)
    if is_kind(inspect.iscoroutinefunction, function):
        return _wrap_coroutine(function, create)
    if is_kind(inspect.isgeneratorfunction, function):
        return wrap_generator(function, create)
    if is_kind(inspect.isasyncgenfunction, function):
        return wrap_async_generator(function, create, _BoundAsyncGeneratorSteps)
    return None


def _wrap_coroutine(function: Any, create: Callable[[], _CarriedScope]) -> Any:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        steps = _CoroutineSteps(function(*args, **kwargs), create())
        del args, kwargs  # the body may let go of them
        while True:
            try:
                return await steps
            except GeneratorExit:  # noqa: PERF203 - as a rule there is one attempt
                if not steps.answered:
                    raise

    return wrapper


class _CarriedScope(SuspendedScope):
    """A scope that was opened elsewhere and is current in each step of a body; it is not ended here.

    Parameters
    ----------
    scope
        The scope.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = self._innermost = scope
        self._outside: Scope | None = None
        self._is_current = False

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do nothing: the scope is open."""

    def is_open(self) -> bool:
        """Return False: its record is written where it was opened."""
        return False

    def resume(self) -> None:
        """Make the scope, or what the body opened in it, current."""
        if not self._is_current:
            self._outside = context.current.get()
            self._is_current = True
            context.current.set(self._innermost)

    def suspend(self) -> None:
        """Make the scope of the caller current again."""
        if self._is_current:
            self._innermost = context.current.get()
            context.current.set(self._outside)
            self._outside, self._is_current = None, False

    def end(self, result: Any, *, left_early: bool = False) -> None:  # noqa: ARG002 - as for a task
        """Make the scope of the caller current again."""
        self.suspend()

    def fail(self, error: BaseException) -> None:  # noqa: ARG002 - as for a task
        """Make the scope of the caller current again."""
        self.suspend()


class _BoundAsyncGeneratorSteps(AsyncGeneratorSteps):
    """The steps of a bound asynchronous generator: the scope is not current where it awaits, either."""

    def _run(self, go: Callable[..., Any], *args: Any) -> Any:
        self._scope.resume()
        try:
            return super()._run(go, *args)
        finally:
            self._scope.suspend()


class _CoroutineSteps:
    """The steps of a bound coroutine; to await this runs its body to the end.

    Parameters
    ----------
    coroutine
        The coroutine.
    scope
        The scope of its steps.

    Attributes
    ----------
    answered
        Whether the body went on after a GeneratorExit: this is awaited again.
    """

    def __init__(self, coroutine: Any, scope: _CarriedScope) -> None:
        self._coroutine = coroutine
        self._scope = scope
        self._answers: list[Callable[[], Any]] = []  # how the body went on

    @property
    def answered(self) -> bool:
        return bool(self._answers)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __iter__(self) -> _CoroutineSteps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Run the body up to where it awaits next; return what it awaits."""
        if self._answers:
            return self._answers.pop()()
        return self._run(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the body awaits; return what it awaits next."""
        return self._run(self._coroutine.throw, *error)

    def close(self) -> None:
        """Raise a GeneratorExit where the body awaits; ``answered`` says whether it went on."""
        try:
            awaited = self.throw(GeneratorExit)
        except GeneratorExit:
            return  # it will be raised where this is awaited
        except StopIteration as stop:
            self._answers.append(functools.partial(_stop, stop.value))
        else:
            self._answers.append(lambda: awaited)

    def _run(self, go: Callable[..., Any], *args: Any) -> Any:
        self._scope.resume()
        try:
            return go(*args)
        finally:
            self._scope.suspend()
            del args  # an exception refers to this frame: it must not refer to the exception


def _stop(value: Any) -> Any:
    raise StopIteration(value)
