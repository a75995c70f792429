"""``bind``: a function that carries the current task into another thread.

Flows in: a function, and the current scope. Flows out: the function, in whose calls that scope is current,
and in the steps of the coroutines and generators that it creates.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar

from flowprov.capture import replay
from flowprov.capture.bound_steps import wrap_steps
from flowprov.capture.wrapping import look_like
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

P = ParamSpec("P")
R = TypeVar("R")


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry the current task into another thread.

    Parameters
    ----------
    function
        The function that the thread runs.

    Returns
    -------
    callable
        A wrapper of the function. What is recorded inside belongs to the task in which ``bind`` was called.
        That holds for the body of an ``async`` function and of a generator, too, whoever runs it.

    Notes
    -----
    Without ``bind``, the events of a thread belong to the innermost open workflow of the process, and to no
    task. A task is carried into threads only: a copy of the wrapper, pickled for example, calls the function
    and carries nothing.
    """
    if replay.is_traced() or runtime.disabled() or (scope := context.current_scope()) is None:
        return function
    return BoundFunction(function, scope)


class BoundFunction:
    """A function with the scope that is current while it runs.

    Parameters
    ----------
    function
        The function.
    scope
        The scope.
    """

    __qualname__: str

    def __init__(self, function: Callable[..., Any], scope: Scope) -> None:
        look_like(self, function)  # before the attributes: it copies those of the function
        self._function = function
        self._scope = scope
        self._stepwise = wrap_steps(function, scope)
        if self._stepwise is not None:
            self._look_like(self._stepwise)

    def _look_like(self, function: FunctionType) -> None:
        """Have ``inspect`` say what a call creates: it reads these of whatever looks like a function."""
        for name in ("__name__", "__code__", "__defaults__", "__kwdefaults__", "__annotations__"):
            setattr(self, name, getattr(function, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in its scope."""
        if self._stepwise is not None:
            return self._stepwise(*args, **kwargs)
        previous = context.current.get()
        context.current.set(self._scope)
        try:
            return self._function(*args, **kwargs)
        finally:
            context.current.set(previous)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Return itself as a method of an instance, as a function does."""
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._is_global():  # pickled by name, as a function would be: that name means this wrapper
            return self.__qualname__
        return (functools.partial, (self._function,))

    def _is_global(self) -> bool:
        try:
            module = sys.modules[self.__module__]
            return operator.attrgetter(self.__qualname__)(module) is self
        except (AttributeError, KeyError, TypeError):
            return False

    def __repr__(self) -> str:
        return f"<{self._function!r}, bound by flowprov>"
