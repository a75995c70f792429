"""Work items: a function that is handed to a pool of processes takes the current scope with it.

Flows in: the current scope where ``ProcessPoolExecutor.submit`` or a method of ``multiprocessing.Pool`` is
called. Flows out: the same scope, current in the worker while the function runs.

No hook of the standard library does this: a pool pickles its items in a thread of its own, where the context
of the caller is gone. So five methods are wrapped, once, when their modules are there. Nothing is imported
for it. Pools of other libraries (loky, ``DataLoader``) are not touched: their workers ask the scoreboard.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from flowprov import guard
from flowprov.runtime import context, inheritance, runtime
from flowprov.runtime.context import Scope
from flowprov.runtime.inheritance import Slot

_wrapped: set[str] = set()

_LOAD = (
    "__import__('flowprov.runtime.work_items', fromlist=['load']).load(function, scope)"
    " if __import__('importlib.util', fromlist=['find_spec']).find_spec('flowprov') else function"
)


class ItemScope(msgspec.Struct, frozen=True, array_like=True):
    """The scope of a work item, as it travels; the slots are for children that the item starts."""

    campaign_id: str
    workflow_id: str
    task_id: str | None
    buffer: str
    muted: bool
    forwards: bool
    workflow_slot: Slot | None
    task_slot: Slot | None


class WorkItem:
    """A function with the scope in which it was handed to a pool.

    Parameters
    ----------
    function
        The function.
    scope
        Where it belongs.
    """

    def __init__(self, function: Callable[..., Any], scope: ItemScope) -> None:
        self.function = function
        self.scope = scope

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker may run an interpreter without flowprov: there the item is the function alone.
        return eval, (_LOAD, {"function": self.function, "scope": pickle.dumps(self.scope)})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns; its scope is current meanwhile."""
        previous = context.current.get()
        with guard.guarded("joining the workflow of a work item"):
            context.current.set(_scope_of(runtime.get(), self.scope))
        try:
            return self.function(*args, **kwargs)
        finally:
            context.current.set(previous)


def load(function: Callable[..., Any], scope: bytes) -> WorkItem:
    """Return the work item of a function, in the worker."""
    return WorkItem(function, _load_scope(scope))


@functools.lru_cache(maxsize=64)
def _load_scope(pickled: bytes) -> ItemScope:
    scope: ItemScope = pickle.loads(pickled)  # noqa: S301 - from the process that handed the item over
    return scope


@functools.lru_cache(maxsize=64)
def _scope_of(active: runtime.Runtime, item: ItemScope) -> Scope:
    journal = active.journal(item.campaign_id, item.buffer)
    scope = Scope(journal, None, item.workflow_id, muted=item.muted, forwards=item.forwards)
    inheritance.remember(scope, item.workflow_slot)
    if item.task_id is not None:
        scope = Scope(
            journal, item.task_id, item.workflow_id, parent=scope, muted=item.muted, forwards=item.forwards
        )
        inheritance.remember(scope, item.task_slot)
    return scope


def bind_item(function: Any) -> Any:
    """Return a work item of a function in the current scope; the function itself where there is none."""
    with guard.guarded("carrying the workflow to a pool of processes"):
        scope = context.current_scope()
        if scope is not None and not isinstance(function, WorkItem):
            journal = scope.journal
            heritage = inheritance.heritage_of(scope)
            item_scope = ItemScope(
                journal.identity.campaign_id,
                scope.workflow_id,
                context.recorded(scope).full_task_id(),
                journal.settings.path,
                scope.muted,
                scope.forwards,
                heritage.workflow,
                heritage.task,
            )
            return WorkItem(function, item_scope)
    return function


def wrap_pools() -> None:
    """Wrap the pools of the standard library whose modules are there; a second call wraps the rest."""
    _wrap("concurrent.futures.process", "ProcessPoolExecutor", "submit", 1, "fn")
    for method, position, parameter in _POOL_METHODS:
        _wrap("multiprocessing.pool", "Pool", method, position, parameter)


# The mapper of `_map_async` runs once for each chunk of items, the function once for each item.
_POOL_METHODS = (
    ("apply_async", 1, "func"),
    ("_map_async", 3, "mapper"),
    ("imap", 1, "func"),
    ("imap_unordered", 1, "func"),
)


def _wrap(module_name: str, class_name: str, method: str, position: int, parameter: str) -> None:
    """Wrap a method so that the function among its arguments is bound to the current scope.

    Parameters
    ----------
    module_name, class_name, method
        Which method.
    position, parameter
        Where the function stands among its arguments.
    """
    name = f"{module_name}.{class_name}.{method}"
    module: Any = sys.modules.get(module_name)
    if module is None or name in _wrapped:
        return
    _wrapped.add(name)
    with guard.guarded("preparing to carry the workflow to a pool of processes"):
        owner = getattr(module, class_name)
        original = getattr(owner, method)
        in_threads = getattr(module, "ThreadPool", ())  # a thread belongs to a workflow, but to no task

        @functools.wraps(original)
        def with_scope(*args: Any, **kwargs: Any) -> Any:
            if len(args) > position and not isinstance(args[0], in_threads):
                args = (*args[:position], bind_item(args[position]), *args[position + 1 :])
            elif parameter in kwargs and not isinstance(args[0], in_threads):
                kwargs[parameter] = bind_item(kwargs[parameter])
            return original(*args, **kwargs)

        setattr(owner, method, with_scope)
