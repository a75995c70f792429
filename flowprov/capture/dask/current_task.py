"""Which Dask task a piece of code runs in.

Flows in: the thread, or asyncio task, of the caller. Flows out: the execution to which it belongs.
``context`` asks here when its own variable holds nothing.

A function runs in a thread of the worker, and Dask keeps its key in ``thread_state``. A coroutine runs in the
worker's event loop, in an asyncio task that is named after its key.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from distributed import get_worker
from distributed.utils import thread_state  # type: ignore[attr-defined]  # defined elsewhere, by version

from flowprov.capture.dask.task_recorder import Execution, Executions
from flowprov.runtime import context
from flowprov.runtime.context import Scope

_of_workers: weakref.WeakKeyDictionary[Any, Executions] = weakref.WeakKeyDictionary()


def executions_of(worker: Any) -> Executions:
    """Give what runs in a worker; it outlives the plugin, which may be registered anew at any time."""
    found = _of_workers.get(worker)
    if found is None:
        found = _of_workers[worker] = Executions(worker)
    return found


def install() -> None:
    """Have the current scope found inside Dask tasks of this process."""
    if current_scope not in context.resolvers:
        context.resolvers.append(current_scope)


def current_execution() -> Execution | None:
    """Find the execution in which the caller runs, None outside of any."""
    key = getattr(thread_state, "key", None)
    if key is not None:
        state = getattr(thread_state, "execution_state", None)
        executions = _of_workers.get(state["worker"]) if state else None
        return None if executions is None else executions.running.get(key)
    return _coroutine_here()


def _coroutine_here() -> Execution | None:
    try:
        task = asyncio.current_task()
        name = "" if task is None else task.get_name()
        if not name.startswith("execute("):
            return None
        executions = _of_workers.get(get_worker())
    except (RuntimeError, ValueError):  # no event loop runs in this thread, or no worker
        return None
    if executions is not None:
        for key, execution in executions.running.items():
            if name == f"execute({key!r})":
                return execution
    return None


def current_scope() -> Scope | None:
    """Find the scope in which the caller runs; never raises.

    A thread that a task started is in the workflow of that task, where that is the only one whose tasks run
    here and this process opened no workflow of its own.
    """
    try:
        execution = current_execution()
        if execution is not None:
            if getattr(thread_state, "key", None) is None:
                # What the coroutine spawns inherits its context, but not the name of its asyncio task.
                context.current.set(execution.scope)
            return execution.scope
        neighbour = sole_execution_in_process()
    except Exception:  # asked at every event: a race with the end of a task must not cost the event
        return None
    return None if neighbour is None else neighbour.scope.parent


def sole_execution_in_process() -> Execution | None:
    """Find a running execution of the only workflow whose tasks run in this process, None if there are more.

    None also where this process has an open workflow of its own: then that is the one of its threads.
    """
    if not _of_workers or any(map(_is_open, context.open_workflows)):
        return None
    found: dict[str, Execution] = {}
    for executions in list(_of_workers.values()):
        for execution in list(executions.running.values()):
            if _is_open(execution.scope):
                found[execution.scope.workflow_id] = execution
    return next(iter(found.values())) if len(found) == 1 else None


def _is_open(scope: Scope) -> bool:
    """Whether a scope was opened by this process and has not ended."""
    return (scope.workflow_id if scope.key is None else scope.key) in scope.journal.open_scopes
