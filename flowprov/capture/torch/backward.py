"""Backward passes through a captured model as tasks.

Flows in: what recorded forwards returned. Flows out: one task record per run of autograd that reaches such an
output: from the moment at which the first gradient arrives there to the end of the run.

Torch's backward hooks of modules would wrap inputs and outputs, which changes the graph. A prehook on the
node that made an output, and a callback at the end of the engine's run, change nothing. Both refer to a few
bytes and ids, never to tensors or to a scope of the program's, whose values may refer to the graph again:
what autograd keeps is not seen by the garbage collector.

Autograd runs backward on the CPU in the thread that asked for it; for other devices in threads of its own,
where nothing is current, but torch tells the context in which backward was asked for. A task belongs to what
was current there; where that is not known, to the scope in which the forward ran, if it is still open.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import torch
from torch.autograd import Variable

from flowprov import guard
from flowprov.capture.detached_scope import DetachedScope
from flowprov.capture.recorder import enclosing_scope, thread_field
from flowprov.capture.torch.hooks import CapturedModule, CaptureHook, Forward, forward_opened_by
from flowprov.capture.torch.model import Model
from flowprov.capture.torch.modes import graph_task
from flowprov.capture.torch.tracing import is_compiling
from flowprov.runtime import context
from flowprov.runtime.context import Scope

SUBTYPE = "backward"

_C: Any = torch._C  # noqa: SLF001 - as elsewhere
_frame = sys._getframe  # noqa: SLF001 - the only way to tell the program's thread from one of autograd
_engine: Any = Variable._execution_engine  # noqa: SLF001 - DDP and FSDP end their backward by it, too
_is_known: Callable[[str], bool] = getattr(_C, "_is_key_in_tls", lambda _: False)
_of_caller: Any = getattr(_C, "_get_obj_in_tls", None)
_MOST_NODES = 100
_DEEPEST = 4


class BackwardWatchHook(CaptureHook):
    """Watches what a forward returned; it runs before the hook that ends the forward's record."""

    __slots__ = ()

    def __call__(self, _module: torch.nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Run after a forward that returned."""
        if is_compiling():
            return
        try:
            captured = self.captured
            scope = forward_opened_by(captured, context.current.get(), _frame(1))
            # What checkpointing computes again is part of a backward that runs already.
            if scope is None or scope.parent is None or graph_task() != -1:
                return
            with _C.DisableTorchFunction():
                nodes = _nodes_of(output)
                if nodes:
                    reached = _Reached(captured, scope, scope.parent)
                    for node in nodes:
                        node.register_prehook(reached)
        except Exception as error:  # the guard
            guard.report_internal_error("watching for the backward of a model", error)


def is_watched(module: torch.nn.Module) -> bool:
    """Whether backward passes through a module are recorded."""
    hooks = list(module._forward_hooks.values())  # noqa: SLF001 - torch has no other way to ask
    return any(isinstance(hook, BackwardWatchHook) for hook in hooks)


class _Reached:
    """What the prehooks on the outputs of one forward call: a gradient has arrived.

    Parameters
    ----------
    captured
        What captures the model.
    scope
        Of the forward.
    parent
        The scope in which the forward ran.
    """

    __slots__ = ("_fragment", "_model", "_parent", "_running", "_thread", "_used")

    def __init__(self, captured: CapturedModule, scope: Forward, parent: Scope) -> None:
        self._model: Model = captured.model
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
            run = graph_task()
            if run in self._running:
                return
            asked_for_here = _frame(0).f_back is not None
            parent = _current() if asked_for_here else _elsewhere(self._parent())
            if parent is None:
                return
            place = self._model.parent_fields(parent) + self._fragment + self._thread
            span = self._running[run] = DetachedScope(parent, place, self._used)
            tail = b',"custom_metadata":{"create_graph":%b}' % _JSON[torch.is_grad_enabled()]

            def end() -> None:
                self._end(run, span, tail)

            # Those of others, as that by which DDP waits for its gradients, are part of the backward: a
            # callback that another one adds runs behind those that were there.
            _engine.queue_callback(lambda: _engine.queue_callback(end))
        except Exception as error:  # the guard: what a prehook raises would end the program's backward
            guard.report_internal_error("recording the start of a backward", error)

    def _end(self, run: int, span: DetachedScope, tail: bytes) -> None:
        try:
            self._running.pop(run, None)
            span.end(tail)
        except Exception as error:  # the guard, as above
            guard.report_internal_error("recording the end of a backward", error)


_JSON = {True: b"true", False: b"false"}


def _current() -> Scope | None:
    current = context.current.get()
    return enclosing_scope(current) if current is None or current.muted else current


def _elsewhere(scope: Scope | None) -> Scope | None:
    """Find the scope in which another thread asked for backward, else the innermost around the forward."""
    if _is_known("context"):
        asked = _of_caller("context").get(context.current)
        if asked is not None:
            return enclosing_scope(asked)
    while scope is not None and not (scope.recorded and context.is_open(scope)):
        scope = scope.parent
    return enclosing_scope(scope)


def _nodes_of(output: Any) -> list[Any]:
    """List the nodes of autograd's graph that made the tensors in what a forward returned."""
    nodes: list[Any] = []
    for tensor in _tensors_in(output, 0):
        node = tensor.grad_fn
        if node is not None and not any(node is each for each in nodes):
            nodes.append(node)
            if len(nodes) == _MOST_NODES:
                break
    return nodes


def _tensors_in(value: Any, depth: int) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < _DEEPEST and isinstance(value, (Mapping, tuple, list)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(each, depth + 1)
