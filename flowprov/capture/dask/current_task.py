"""Which Dask task the caller runs in.

Flows in: the thread, or the asyncio task, of the caller. Flows out: the execution to which it belongs.
``context`` asks here when its ContextVar holds no scope.

A function runs in a thread of the worker, and Dask keeps its key in ``thread_state``. A coroutine runs in the
worker's event loop, in an asyncio task that is named after its key. Both are private parts of Dask:
``_dask_private`` lists them.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from distributed import get_worker

from flowprov.capture.dask._dask_private import thread_state
from flowprov.capture.dask.execution import Execution
from flowprov.capture.dask.task_recorder import Executions
from flowprov.runtime import context
from flowprov.runtime.context import Scope

_executions_by_worker: weakref.WeakKeyDictionary[Any, Executions] = weakref.WeakKeyDictionary()


def executions_of(worker: Any) -> Executions:
    """Return the executions of a worker. They outlive the plugin, which may be replaced at any time."""
    executions = _executions_by_worker.get(worker)
    if executions is None:
        executions = _executions_by_worker[worker] = Executions(worker)
    return executions


def install() -> None:
    """Have ``context`` find the current scope inside the Dask tasks of this process."""
    if current_scope not in context.resolvers:
        context.resolvers.append(current_scope)


def current_execution() -> Execution | None:
    """Return the execution in which the caller runs; None outside of any."""
    key = getattr(thread_state, "key", None)
    if key is not None:
        state = getattr(thread_state, "execution_state", None)
        executions = _executions_by_worker.get(state["worker"]) if state else None
        return None if executions is None else executions.running.get(key)
    return _execution_of_coroutine()


def execution_around(scope: Scope | None) -> Execution | None:
    """Return what stands for an actor's task, or for a workflow of another process, around a scope."""
    while scope is not None:
        if isinstance(scope.opener, Execution):
            return scope.opener
        scope = scope.previous or scope.parent
    return None


def _execution_of_coroutine() -> Execution | None:
    try:
        task = asyncio.current_task()
        name = "" if task is None else task.get_name()
        if not name.startswith("execute("):  # private: see _dask_private
            return None
        executions = _executions_by_worker.get(get_worker())
    except (RuntimeError, ValueError):  # this thread runs no event loop, or no worker is here
        return None
    if executions is not None:
        for key, execution in executions.running.items():
            if name == f"execute({key!r})":
                return execution
    return None


def current_scope() -> Scope | None:
    """Return the scope in which the caller runs; None outside of any. It never raises.

    A thread that a task started belongs to the workflow of that task, if two conditions hold: all tasks that
    run in this process are of one workflow, and this process has no open workflow of its own.
    """
    try:
        execution = current_execution()
        if execution is not None:
            if getattr(thread_state, "key", None) is None:
                # An asyncio task that the coroutine starts inherits its context, but not its name.
                context.current.set(execution.scope)
            return execution.scope
        execution = sole_execution_in_process()
    except Exception:  # asked at every event: a race with the end of a task must not cost the event
        return None
    return None if execution is None else execution.scope.parent


def sole_execution_in_process() -> Execution | None:
    """Return a running execution of the only workflow whose tasks run in this process.

    Return None if there are several such workflows, or if this process has an open workflow of its own: then
    its threads belong to that one.
    """
    if not _executions_by_worker or any(map(_is_open, context.open_workflows)):
        return None
    by_workflow: dict[str, Execution] = {}
    for executions in list(_executions_by_worker.values()):
        for execution in list(executions.running.values()):
            if _is_open(execution.scope):
                by_workflow[execution.scope.workflow_id] = execution
    return next(iter(by_workflow.values())) if len(by_workflow) == 1 else None


def _is_open(scope: Scope) -> bool:
    """Whether this process opened a scope and has not closed it."""
    return (scope.workflow_id if scope.key is None else scope.key) in scope.journal.open_scopes
