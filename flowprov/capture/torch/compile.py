"""Forwards of compiled modules, recorded around the compiled code.

Flows in: modules that were compiled, or are later, by ``torch.compile`` or in their place by
``Module.compile``. Flows out: the same calls, with a forward recorded around each, as of the original module.

Inside compiled code nothing can be recorded without breaking the graph: a hook there is part of it. What runs
outside is the module that ``torch.compile`` returns, which takes hooks as any module does, and the function
that ``Module.compile`` leaves in a module. torch tells nobody that it made them, so two of its methods are
followed by a function of ours once a model was captured, ``OptimizedModule.__init__`` and ``Module.compile``.
Their bodies, results and exceptions are torch's, and a module that is not captured is left alone.

One forward is met in up to three ways, from outside to inside: at what ``torch.compile`` returned, at what
``Module.compile`` left, and at the module's own hooks, where torch runs them as Python after all. The first
that is met records it (see ``hooks``).
"""

from __future__ import annotations

import functools
import gc
import importlib.machinery
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch.backward import BackwardWatchHook, is_watched
from flowprov.capture.torch.encoding import Inputs
from flowprov.capture.torch.hook_registration import register_hooks
from flowprov.capture.torch.hooks import (
    CapturedModule,
    Forward,
    ForwardHook,
    ForwardPreHook,
    captured_modules_of,
)
from flowprov.capture.torch.selection import is_optimized_module
from flowprov.capture.torch.tracing import is_compiling
from flowprov.runtime.context import Scope

_REASON = "the module was called through torch.compile"
_HOME = "torch._dynamo.eval_frame"  # where OptimizedModule is defined; to import it takes a second
_MARK = "__flowprov__"

_optimized_modules: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
_lock = threading.Lock()


class CompiledCapture(CapturedModule):
    """What captures a compiled module from outside; ``original`` captures it where it runs uncompiled."""

    __slots__ = ("_hides_children",)

    def end(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward, and why its children are not."""
        plainly = self.inner
        if plainly is None or (self._hides_children and not scope.child_seen):
            super().end(scope, now, output)
        else:
            plainly.end(scope, now, output)

    def _prepare(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        inside = original_module(module)
        inputs = super()._prepare(parent, inside)
        self._hides_children = any(
            captured.model is self.model and captured is not self.inner
            for part in inside.modules()
            if part is not inside
            for captured in captured_modules_of(part)
        )
        return inputs

    def _metadata(self, mode: Any, epoch: Any) -> dict[str, Any]:
        return {**super()._metadata(mode, epoch), "children_not_recorded": _REASON}


def compiled_capture_of(captured: CapturedModule) -> CompiledCapture:
    """Give what captures the same module from outside of compiled code."""
    made = captured.outer
    if not isinstance(made, CompiledCapture):
        kind: Any = type(captured)
        made = captured.copy_as(_kind_of(kind))
        made.inner = captured
        captured.outer = made
    return made


@functools.cache
def _kind_of(kind: Any) -> type[CompiledCapture]:
    return (
        CompiledCapture
        if kind is CapturedModule
        else type("CompiledCapture", (CompiledCapture, kind), {"__slots__": ()})
    )


def original_module(module: torch.nn.Module) -> torch.nn.Module:
    """Give the module that was compiled, for what ``torch.compile`` made of it."""
    while is_optimized_module(module):
        module = module._modules["_orig_mod"]  # type: ignore[assignment]  # noqa: SLF001 - torch gives no other way
    return module


def wrap_compiled(module: torch.nn.Module) -> None:
    """Record what compiled forms a captured module has by now."""
    for shell in _optimized_modules_of(module):
        _wrap_optimized_module(shell, module)
    if module._compiled_call_impl is not None:  # noqa: SLF001 - torch gives no other way
        _wrap_compiled_call(module)


def optimized_modules_in(module: torch.nn.Module) -> list[torch.nn.Module]:
    """List what ``torch.compile`` made of a module and its parts."""
    return [shell for part in module.modules() for shell in _optimized_modules_of(part)]


def unwrap_compiled(module: torch.nn.Module) -> None:
    """Take the recording off the compiled call of a module that is not captured any more."""
    call: Any = vars(module).get("_compiled_call_impl")
    if getattr(call, _MARK, None) is not None and not captured_modules_of(module):
        vars(module)["_compiled_call_impl"] = call.__wrapped__


def follow_torch_compile() -> None:
    """Learn from now on what is compiled; once in a process, however often it is called."""
    if _MARK in vars(torch.nn.Module.compile):
        return
    with _lock, guard.guarded("preparing for torch.compile"):
        if _MARK in vars(torch.nn.Module.compile):
            return
        home = sys.modules.get(_HOME)
        if home is None or not hasattr(home, "OptimizedModule"):
            sys.meta_path.insert(0, DynamoImportHook())
        else:
            _follow_optimized_modules(home)
            made = home.OptimizedModule  # before anything was captured: an instance refers to its class
            _optimized_modules.update(each for each in gc.get_referrers(made) if type(each) is made)
        call_after(torch.nn.Module, "compile", _after_compile)


def _after_compile(module: torch.nn.Module) -> None:
    if captured_modules_of(module):
        _wrap_compiled_call(module)


def _after_optimized_module(shell: torch.nn.Module) -> None:
    _optimized_modules.add(shell)
    _wrap_optimized_module(shell, original_module(shell))


def call_after(owner: type[torch.nn.Module], name: str, then: Callable[[torch.nn.Module], None]) -> None:
    """Have a method of torch followed by a function of ours, which torch and the program never notice."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if not is_compiling():
            with guard.guarded("following torch.compile"):
                then(self)
        return result

    setattr(method, _MARK, then)
    setattr(owner, name, method)


def _follow_optimized_modules(home: ModuleType) -> None:
    call_after(home.OptimizedModule, "__init__", _after_optimized_module)


class DynamoImportHook:
    """A finder of modules that finds none, and learns when the one that matters is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find none; follow the import of the module that matters."""
        if name != _HOME:
            return None
        with guard.guarded("preparing for torch.compile"):
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                _follow_import(spec.loader)
            return spec
        return None


def _follow_import(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        with guard.guarded("preparing for torch.compile"):
            _follow_optimized_modules(module)

    loader.exec_module = exec_module


def _optimized_modules_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    return [shell for shell in list(_optimized_modules) if original_module(shell) is module]


def _wrap_optimized_module(shell: torch.nn.Module, module: torch.nn.Module) -> None:
    """Put hooks on what ``torch.compile`` made of a captured module; they run outside of the graph."""
    there, watched = captured_modules_of(shell), is_watched(module)
    for captured in captured_modules_of(module):
        outside = compiled_capture_of(captured)
        if outside not in there:
            register_hooks(shell, outside, backward=watched)


def _wrap_compiled_call(module: torch.nn.Module) -> None:
    """Have the compiled call of a captured module recorded."""
    compiled = module._compiled_call_impl  # noqa: SLF001 - torch gives no other way
    if compiled is None or getattr(compiled, _MARK, None) is not None:
        return

    @functools.wraps(compiled)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return compiled(*args, **kwargs)
        return _record(module, compiled, args, kwargs)

    setattr(call, _MARK, _record)
    # Not by setattr: modules may have one of their own.
    vars(module)["_compiled_call_impl"] = call


def _record(
    self: torch.nn.Module, compiled: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a compiled module; like ``Module._call_impl`` this frame tells the call from others."""
    hooks = _before(self, args, kwargs)
    output = None
    try:
        output = compiled(*args, **kwargs)
    finally:
        _after(hooks, self, args, kwargs, output)
    return output


# Hooks look for the frame of the call behind the one that calls them: hence these two.
def _before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ForwardHook]:
    try:
        captures = [compiled_capture_of(captured) for captured in captured_modules_of(module)]
    except Exception as error:  # the guard: the forward runs whatever happens to us
        guard.report_internal_error("recording the start of a forward", error)
        return []
    for captured in captures:
        ForwardPreHook(captured)(module, args, kwargs)
    return [ForwardHook(captured) for captured in captures]


def _after(
    hooks: list[ForwardHook],
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    watched = is_watched(module)
    for hook in hooks:
        if watched:
            BackwardWatchHook(hook.captured)(module, args, output)
        hook(module, args, kwargs, output)
