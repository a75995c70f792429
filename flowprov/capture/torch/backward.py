"""Backward passes through a captured model as tasks.

Flows in: the outputs of recorded forwards. Flows out: one task record for each run of autograd that reaches
such an output. The task begins when the first gradient arrives there, and ends with the run.

The backward hooks of a module would wrap its inputs and outputs, which changes the graph. Instead, a prehook
is put on each node that made an output, and a callback runs when the engine ends. Neither changes the graph.
Both refer to a few bytes and ids, never to tensors or to a scope of the program, whose values may refer to
the graph: the garbage collector does not see what autograd keeps.

On the CPU autograd runs backward in the thread that called it. On other devices it runs in threads of its
own, where no scope is current, but torch keeps the context in which backward was called. A task belongs to
the scope that was current in that context. Where torch does not know the context, the task belongs to the
innermost scope around the forward that is still open.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import torch

from flowprov import guard
from flowprov.capture.detached_scope import DetachedScope
from flowprov.capture.task_records import enclosing_scope, thread_field
from flowprov.capture.torch._torch_private import (
    FORWARD_HOOKS,
    DisableTorchFunction,
    current_graph_task_id,
    execution_engine,
    get_context_of_caller,
    has_context_of_caller,
)
from flowprov.capture.torch.captured_module import CapturedModule, Forward
from flowprov.capture.torch.hooks import CaptureHook, forward_opened_by
from flowprov.capture.torch.model import ModelWorkflow
from flowprov.capture.torch.tracing import is_compiling
from flowprov.runtime import context
from flowprov.runtime.context import Scope

SUBTYPE = "backward"

_get_frame = sys._getframe  # noqa: SLF001 - the only way to tell the program's thread from one of autograd
_MAX_NODES = 100
_MAX_DEPTH = 4
_JSON_BOOL = {True: b"true", False: b"false"}


def can_record_backward() -> bool:
    """Whether this version of torch lets backward passes be recorded; warns once if not."""
    if execution_engine is None:
        guard.warn_once(
            "no execution engine",
            "flowprov records no backward passes: torch %s lacks Variable._execution_engine, which says when "
            "one ends. Everything else is recorded.",
            torch.__version__,
        )
        return False
    return True


class BackwardWatchHook(CaptureHook):
    """Watches for the backward of an output; it runs before the hook that ends the forward's record."""

    __slots__ = ()

    def __call__(self, _module: torch.nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Run after a forward that returned."""
        if is_compiling():
            return
        try:
            captured = self.captured
            scope = forward_opened_by(captured, context.current.get(), _get_frame(1))
            # A forward that checkpointing computes again is part of a backward that runs already.
            if scope is None or scope.parent is None or current_graph_task_id() != -1:
                return
            with DisableTorchFunction():
                nodes = _nodes_of(output)
                if nodes:
                    prehook = _GradientPrehook(captured, scope, scope.parent)
                    for node in nodes:
                        node.register_prehook(prehook)
        except Exception as error:  # the guard
            guard.report_internal_error("watching for the backward of a model", error)


def is_watched(module: torch.nn.Module) -> bool:
    """Whether backward passes through a module are recorded."""
    hooks = list(getattr(module, FORWARD_HOOKS, {}).values())
    return any(isinstance(hook, BackwardWatchHook) for hook in hooks)


class _GradientPrehook:
    """The prehook on the outputs of one forward: autograd calls it when a gradient arrives there.

    Parameters
    ----------
    captured
        The capture of the model.
    scope
        The scope of the forward.
    parent
        The scope in which the forward ran.
    """

    __slots__ = ("_fragment", "_parent", "_running", "_thread", "_used", "_workflow")

    def __init__(self, captured: CapturedModule, scope: Forward, parent: Scope) -> None:
        self._workflow: ModelWorkflow = captured.model.workflow_in(parent)
        self._fragment = captured.model.fragment(f"{captured.model.name}_backward", SUBTYPE)
        self._parent = weakref.ref(parent)
        self._thread = thread_field() if scope.thread != scope.journal.main_thread else b""
        self._used = b'{"forward":%b}' % msgspec.json.encode(scope.full_task_id())
        self._running: dict[int, DetachedScope] = {}

    def __call__(self, _gradients: Any) -> None:
        """Open the task, once in each run of autograd."""
        if is_compiling():
            return
        try:
            run = current_graph_task_id()
            if run in self._running:
                return
            in_calling_thread = _get_frame(0).f_back is not None
            parent = _scope_of_this_thread() if in_calling_thread else _scope_of_caller(self._parent())
            if parent is None:
                return
            line_prefix = self._workflow.parent_fields(parent) + self._fragment + self._thread
            backward = self._running[run] = DetachedScope(parent, line_prefix, self._used)
            tail = b',"custom_metadata":{"create_graph":%b}' % _JSON_BOOL[torch.is_grad_enabled()]

            def end() -> None:
                self._end(run, backward, tail)

            # Callbacks of others are part of the backward: by one of them DDP waits for its gradients. A
            # callback that is queued by a callback runs behind all that were queued before.
            execution_engine.queue_callback(lambda: execution_engine.queue_callback(end))
        except Exception as error:  # the guard: what a prehook raises would end the program's backward
            guard.report_internal_error("recording the start of a backward", error)

    def _end(self, run: int, backward: DetachedScope, tail: bytes) -> None:
        try:
            self._running.pop(run, None)
            backward.end(tail)
        except Exception as error:  # the guard, as above
            guard.report_internal_error("recording the end of a backward", error)


def _scope_of_this_thread() -> Scope | None:
    current = context.current.get()
    return enclosing_scope(current) if current is None or current.muted else current


def _scope_of_caller(scope: Scope | None) -> Scope | None:
    """Find the scope in which another thread called backward, else the innermost open one around the forward.

    Parameters
    ----------
    scope
        The scope in which the forward ran; None if it is gone.
    """
    if has_context_of_caller("context"):
        calling = get_context_of_caller("context").get(context.current)
        if calling is not None:
            return enclosing_scope(calling)
    while scope is not None and not (scope.recorded and context.is_open(scope)):
        scope = scope.parent
    return enclosing_scope(scope)


def _nodes_of(output: Any) -> list[Any]:
    """Return the nodes of autograd's graph that made the tensors in the output of a forward."""
    nodes: list[Any] = []
    for tensor in _tensors_in(output, 0):
        node = tensor.grad_fn
        if node is not None and not any(node is other for other in nodes):
            nodes.append(node)
            if len(nodes) == _MAX_NODES:
                break
    return nodes


def _tensors_in(value: Any, depth: int) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, (Mapping, tuple, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item, depth + 1)
