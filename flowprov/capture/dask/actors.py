"""What the methods of an actor record: it belongs to the task that made the actor.

Flows in: the calls of an actor's methods and the reads of its attributes, in the worker that has it. Flows
out: the same, with the actor's execution as the current scope.

Dask calls a method in a thread of its own or, if it is a coroutine or is asked to, in the worker's event
loop. So both the handlers of the calls and the executor of that thread are replaced. ``_dask_private`` lists
them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from flowprov.capture.dask import _dask_private
from flowprov.capture.dask.task_recorder import Executions
from flowprov.runtime import context
from flowprov.runtime.context import Scope


def follow_actors(worker: Any, executions: Executions) -> None:
    """Have the methods of a worker's actors run in the scopes of the actors' executions."""
    for operation in _dask_private.ACTOR_OPERATIONS:
        handler = _dask_private.handler_of(worker, operation)
        if handler is not None and not hasattr(handler, "_flowprov"):
            _dask_private.add_handler(worker, operation, _wrap_handler(handler, executions))
    executor = _dask_private.actor_executor(worker)
    if executor is not None and "submit" not in vars(executor):
        executor.submit = _wrap_submit(executor.submit)


def stop_following_actors(worker: Any) -> None:
    """Undo :func:`follow_actors`."""
    for operation in _dask_private.ACTOR_OPERATIONS:
        handler = _dask_private.handler_of(worker, operation)
        if hasattr(handler, "_flowprov"):
            _dask_private.add_handler(worker, operation, handler._flowprov)  # noqa: SLF001 - ours
    executor = _dask_private.actor_executor(worker)
    if executor is not None:
        vars(executor).pop("submit", None)


def _wrap_handler(original: Callable[..., Any], executions: Executions) -> Callable[..., Any]:
    async def handler(actor: Any = None, **message: Any) -> Any:
        execution = executions.actors.get(actor)
        if execution is None:
            result = original(actor=actor, **message)
            return await result if inspect.isawaitable(result) else result
        before = context.current.get()
        context.current.set(execution.scope)
        try:
            result = original(actor=actor, **message)
            return await result if inspect.isawaitable(result) else result
        finally:
            context.current.set(before)

    handler.__name__ = getattr(original, "__name__", "handler")  # Dask logs it
    handler._flowprov = original  # type: ignore[attr-defined]  # noqa: SLF001 - the mark
    return handler


def _wrap_submit(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        scope = context.current.get()  # that of the handler, which waits for the result
        if scope is None:
            return original(function, *args, **kwargs)
        return original(_run_in, scope, function, *args, **kwargs)

    return submit


def _run_in(scope: Scope, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    context.current.set(scope)
    try:
        return function(*args, **kwargs)
    finally:
        context.current.set(None)
