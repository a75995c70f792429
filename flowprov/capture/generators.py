"""Generators that are tasks or workflows: one record per generator, current while its body runs.

Flows in: generators of decorated functions, step by step. Flows out: the same values; and one task each, with
the number of values that it yielded. What is a workflow instead is in ``workflow``.

What the program gets is a generator that hands each step to the generator of its function. It does so by hand
and not by ``yield from``, which closes the inner generator where the program throws a GeneratorExit into the
outer one. Whatever the program sends or throws reaches the body, and the body may answer as it likes. Between
two steps nothing here refers to a value: what the program lets go of is freed, as without capture.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from flowprov.capture.suspended_scope import SuspendedScope
from flowprov.capture.wrapping import wraps


def can_be_awaited(function: Any) -> bool:
    """Whether ``types.coroutine`` marked a generator function: its generators are awaited."""
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def wrap_generator(function: Any, create: Callable[[], SuspendedScope]) -> Any:
    """Return a generator function that records each generator. They can be awaited if the function's can.

    Parameters
    ----------
    function
        The function of the program.
    create
        Creates the scope of one generator. It can be pickled.
    """

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = GeneratorSteps(create())
        try:
            steps.start(function, args, kwargs)
            del args, kwargs  # the body may let go of them
            while steps.advance():
                try:
                    steps.sent = yield steps.take()
                except BaseException as error:  # noqa: PERF203 - thrown in: it is for the body
                    steps.thrown = error
            return steps.take()
        except BaseException as error:  # recorded, and raised on unchanged
            steps.fail(error)
            raise

    return types.coroutine(wrapper) if can_be_awaited(function) else wrapper


def wrap_async_generator(
    function: Any,
    create: Callable[[], SuspendedScope],
    kind: Callable[[SuspendedScope], AsyncGeneratorSteps] | None = None,
) -> Any:
    """Return an asynchronous generator function that records each generator.

    Parameters
    ----------
    function, create
        As for :func:`wrap_generator`.
    kind
        The class of the steps of one generator, if it is another one than :class:`AsyncGeneratorSteps`.
    """

    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = (kind or AsyncGeneratorSteps)(create())
        try:
            steps.start(function, args, kwargs)
            del args, kwargs
            while True:
                try:
                    await steps
                except GeneratorExit:
                    if steps.answered:
                        continue
                    raise
                if steps.ended:
                    return
                try:
                    steps.sent = yield steps.take()
                except BaseException as error:  # thrown in: it is for the body
                    steps.thrown = error
        except BaseException as error:  # as above
            await steps.fail(error)
            raise

    return wrapper


class _BodySteps:
    """The steps of one generator, each in its scope.

    Parameters
    ----------
    scope
        The scope.

    Attributes
    ----------
    sent, thrown
        What the program gave for the next step: a value, or an exception that is raised in the body.
    """

    _generator: Any = None

    def __init__(self, scope: SuspendedScope) -> None:
        self._scope = scope
        self._values: list[Any] = []  # what the last step yielded or returned, until it is taken
        self._leaves = False  # whether the step raises a GeneratorExit in the body
        self._remainder: _Remainder | None = None
        self.sent: Any = None
        self.thrown: BaseException | None = None

    def start(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Open the scope, and create the generator of the function."""
        self._scope.start(args, kwargs)
        self._generator = function(*args, **kwargs)

    def take(self) -> Any:
        """Return what the last step yielded, or what the generator returned."""
        return self._values.pop()

    def _given(self) -> tuple[Any, BaseException | None]:
        given = self.sent, self.thrown
        self.sent = self.thrown = None
        self._leaves = isinstance(given[1], GeneratorExit)
        return given

    def _has_yielded(self, value: Any) -> None:
        self._scope.suspend()
        self._scope.yielded += 1
        self._values.append(value)
        if self._leaves:
            self._expect_to_be_let_go()

    def _expect_to_be_let_go(self) -> None:
        self._remainder = self._remainder or _Remainder(self._scope)


class _Remainder:
    """Ends the scope of a generator that goes on when it is to be closed, as soon as it is let go.

    Others end as they are closed: a ``__del__`` of theirs would be one more place where the interpreter loses
    what a signal handler raises.
    """

    def __init__(self, scope: SuspendedScope) -> None:
        self._scope = scope

    def __del__(self) -> None:
        if self._scope.is_open():
            self._scope.end(None, left_early=True)
        self._scope.close_inner()


class GeneratorSteps(_BodySteps):
    """The steps of a generator."""

    def advance(self) -> bool:
        """Run the body up to its next yield; return False if it returned.

        Raises
        ------
        BaseException
            What the body raised.
        """
        sent, thrown = self._given()
        self._scope.resume()
        try:
            value = self._generator.send(sent) if thrown is None else self._generator.throw(thrown)
        except StopIteration as stop:
            self._scope.end(stop.value, left_early=self._leaves)
            self._values.append(stop.value)
            return False
        except GeneratorExit:
            if self._leaves:
                self._scope.end(None, left_early=True)
            raise
        finally:
            del sent, thrown  # an exception refers to this frame: it must not refer to the exception
        self._has_yielded(value)
        return True

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        self._scope.fail(error)
        if self._generator is not None:
            self._generator.close()  # an exception from outside may have come between two steps


class AsyncGeneratorSteps(_BodySteps):
    """The steps of an asynchronous generator; to await this runs the body up to its next yield.

    Attributes
    ----------
    ended
        Whether the body returned.
    answered
        Whether the body went on after a GeneratorExit that met it where it awaits: the step is awaited again.

    Notes
    -----
    An ``await`` of the inner generator's own step would not hand on a GeneratorExit: CPython up to 3.12 only
    marks that step as closed, and the body hears nothing.
    """

    def __init__(self, scope: SuspendedScope) -> None:
        super().__init__(scope)
        self.ended = self.answered = False
        self._step: Any = None
        self._pauses: list[Any] = []  # what the body awaits since a GeneratorExit

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def __iter__(self) -> AsyncGeneratorSteps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Begin a step, or go on with it where the body awaits; return what it awaits next."""
        if self.answered:
            self.answered = False
            if self._pauses:
                return self._pauses.pop()
            raise StopIteration
        if self._step is None:
            self._begin()
        return self._run(self._step.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the body awaits; return what it awaits next."""
        return self._run(self._step.throw, *error)

    def close(self) -> None:
        """Raise a GeneratorExit where the body awaits. Nothing can be awaited here: see ``answered``."""
        try:
            self._pauses.append(self.throw(GeneratorExit))
        except GeneratorExit:
            return  # it will be raised where the step is awaited
        except StopIteration:  # the body yielded, or returned
            pass
        self.answered = True

    async def fail(self, error: BaseException) -> None:
        """Record that an exception ended the generator, unless it has its record."""
        self._scope.fail(error)
        if self._generator is not None and self._step is None:
            await self._generator.aclose()  # an exception from outside may have come between two steps

    def _begin(self) -> None:
        sent, thrown = self._given()
        if self._leaves:
            self._expect_to_be_let_go()  # without an event loop that is where it awaits
        self._scope.resume()
        try:
            self._step = self._asend(sent) if thrown is None else self._generator.athrow(thrown)
        finally:
            del sent, thrown

    def _run(self, go: Callable[..., Any], *args: Any) -> Any:
        try:
            return go(*args)
        except StopIteration as stop:
            self._step = None
            self._has_yielded(stop.value)
            raise StopIteration from None
        except StopAsyncIteration:
            self.ended = True
            self._scope.end(None, left_early=self._leaves)
            raise StopIteration from None
        except GeneratorExit:
            if self._leaves:
                self._scope.end(None, left_early=True)
            raise
        finally:
            del args

    def _asend(self, value: Any) -> Any:
        """Return a step of the body. The event loop knows the outer generator, and does not hear of this one.

        The loop closes each generator that it knows when the loop ends, or when nobody refers to it any more.
        To close both at once would fail; and one that a cycle of references held would be closed without it.
        """
        hooks = sys.get_asyncgen_hooks()
        try:
            sys.set_asyncgen_hooks(firstiter=None, finalizer=_leave_to_outer)
            return self._generator.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)


def _leave_to_outer(generator: Any) -> None:
    """Do nothing for a generator that is let go: the outer one closes it."""
