"""Record the forwards of compiled modules from outside of the compiled code.

Flows in: captured modules that ``torch.compile`` or ``Module.compile`` compiles, before or after capture.
Flows out: the same calls, with a forward of the original module recorded around each.

Inside compiled code a hook is a part of the graph, and nothing can be recorded without breaking it. Two
things run outside of it. ``torch.compile`` returns an ``OptimizedModule``, which takes hooks as any module
does. ``Module.compile`` leaves a function in the module, which is wrapped. Torch announces neither. So once a
model is captured, two methods of torch are wrapped, ``OptimizedModule.__init__`` and ``Module.compile``:
torch's own code runs as before, and a function of this file runs after it. Modules that are not captured are
left alone.

The hooks of one forward may run at up to three places, from outside to inside: at the ``OptimizedModule``, at
the function of ``Module.compile``, and at the module itself, where torch runs it as Python after all. The
first place records the forward (see ``hooks``).
"""

from __future__ import annotations

import functools
import gc
import importlib.machinery
import sys
import weakref
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import (
    CHILD_MODULES,
    COMPILED_CALL,
    EVAL_FRAME,
    OPTIMIZED_MODULE,
    ORIGINAL_MODULE,
)
from flowprov.capture.torch.backward import BackwardWatchHook, is_watched
from flowprov.capture.torch.captured_module import CapturedModule, Forward
from flowprov.capture.torch.encoding import Inputs
from flowprov.capture.torch.hook_registration import register_hooks
from flowprov.capture.torch.hooks import ForwardHook, ForwardPreHook, captured_modules_of
from flowprov.capture.torch.selection import is_optimized_module
from flowprov.capture.torch.tracing import is_compiling
from flowprov.locks import create_lock
from flowprov.runtime.context import Scope

_REASON = "the module was called through torch.compile"
_WRAPPED = "__flowprov__"

_optimized_modules: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
_lock = create_lock()


class CompiledCapture(CapturedModule):
    """The capture of a compiled module from outside; ``inner`` captures it where it runs uncompiled."""

    __slots__ = ("_hides_children",)

    def close_forward(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward, and why its children are not recorded."""
        inner = self.inner
        if inner is None or (self._hides_children and not scope.child_seen):
            super().close_forward(scope, now, output)
        else:
            inner.close_forward(scope, now, output)

    def _prepare_first_forward(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        original = original_module(module)
        inputs = super()._prepare_first_forward(parent, original)
        self._hides_children = any(
            captured.model is self.model and captured is not self.inner
            for child in original.modules()
            if child is not original
            for captured in captured_modules_of(child)
        )
        return inputs

    def _metadata(self, mode: Any, epoch: Any) -> dict[str, Any]:
        return {**super()._metadata(mode, epoch), "children_not_recorded": _REASON}


def compiled_capture_of(captured: CapturedModule) -> CompiledCapture:
    """Return the capture of the same module from outside of compiled code."""
    outer = captured.outer
    if not isinstance(outer, CompiledCapture):
        cls: Any = type(captured)
        outer = captured.copy_as(_compiled_class(cls))
        outer.inner = captured
        captured.outer = outer
    return outer


@functools.cache
def _compiled_class(cls: Any) -> type[CompiledCapture]:
    if cls is CapturedModule:
        return CompiledCapture
    return type("CompiledCapture", (CompiledCapture, cls), {"__slots__": ()})


def original_module(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that ``torch.compile`` compiled; a module that it did not make, as it is."""
    while is_optimized_module(module):
        original = getattr(module, CHILD_MODULES, {}).get(ORIGINAL_MODULE)
        if original is None:
            break
        module = original
    return module


def wrap_compiled(module: torch.nn.Module) -> None:
    """Record the compiled forms that a captured module has by now."""
    for optimized in _optimized_modules_of(module):
        _wrap_optimized_module(optimized, module)
    if getattr(module, COMPILED_CALL, None) is not None:
        _wrap_compiled_call(module)


def optimized_modules_in(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return what ``torch.compile`` made of a module and of the modules in it."""
    return [optimized for child in module.modules() for optimized in _optimized_modules_of(child)]


def unwrap_compiled(module: torch.nn.Module) -> None:
    """Restore the compiled call of a module that is not captured any more."""
    call: Any = vars(module).get(COMPILED_CALL)
    if getattr(call, _WRAPPED, None) is not None and not captured_modules_of(module):
        vars(module)[COMPILED_CALL] = call.__wrapped__


def follow_torch_compile() -> None:
    """Record from now on what torch compiles; the first call in a process does it."""
    if _WRAPPED in vars(torch.nn.Module.compile):
        return
    with _lock, guard.guarded("preparing for torch.compile"):
        if _WRAPPED in vars(torch.nn.Module.compile):
            return
        eval_frame = sys.modules.get(EVAL_FRAME)
        cls = getattr(eval_frame, OPTIMIZED_MODULE, None)
        if eval_frame is None or cls is None:
            sys.meta_path.insert(0, DynamoImportHook())
        else:
            _follow_optimized_modules(eval_frame)
            # What was compiled before a model was captured: an instance refers to its class.
            _optimized_modules.update(instance for instance in gc.get_referrers(cls) if type(instance) is cls)
        call_after(torch.nn.Module, "compile", _after_compile)


def _after_compile(module: torch.nn.Module) -> None:
    if captured_modules_of(module):
        _wrap_compiled_call(module)


def _after_optimized_module(optimized: torch.nn.Module) -> None:
    _optimized_modules.add(optimized)
    _wrap_optimized_module(optimized, original_module(optimized))


def call_after(owner: type[torch.nn.Module], name: str, then: Callable[[torch.nn.Module], None]) -> None:
    """Wrap a method of torch so that a function is called after it, unseen by torch and the program.

    Parameters
    ----------
    owner
        The class.
    name
        The name of the method.
    then
        Called with the instance after each call of the method that returned.
    """
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if not is_compiling():
            with guard.guarded("following torch.compile"):
                then(self)
        return result

    setattr(method, _WRAPPED, then)
    setattr(owner, name, method)


def _follow_optimized_modules(eval_frame: ModuleType) -> None:
    call_after(getattr(eval_frame, OPTIMIZED_MODULE), "__init__", _after_optimized_module)


class DynamoImportHook:
    """An import hook that waits for the module that defines ``OptimizedModule``.

    It changes no import: torch finds and loads the module as before, and its class is followed from then on.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the ordinary spec of the module that is waited for, and None for any other."""
        if name != EVAL_FRAME:
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
    return [optimized for optimized in list(_optimized_modules) if original_module(optimized) is module]


def _wrap_optimized_module(optimized: torch.nn.Module, module: torch.nn.Module) -> None:
    """Put hooks on what ``torch.compile`` made of a captured module; they run outside of the graph."""
    captures, watched = captured_modules_of(optimized), is_watched(module)
    for captured in captured_modules_of(module):
        outer = compiled_capture_of(captured)
        if outer not in captures:
            register_hooks(optimized, outer, backward=watched)


def _wrap_compiled_call(module: torch.nn.Module) -> None:
    """Wrap the compiled call of a captured module, so that it is recorded."""
    compiled = getattr(module, COMPILED_CALL, None)
    if compiled is None or getattr(compiled, _WRAPPED, None) is not None:
        return

    @functools.wraps(compiled)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return compiled(*args, **kwargs)
        return _record(module, compiled, args, kwargs)

    setattr(call, _WRAPPED, _record)
    # Not by setattr: a module may have a __setattr__ of its own.
    vars(module)[COMPILED_CALL] = call


def _record(
    self: torch.nn.Module, compiled: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a compiled module; this frame identifies the call, as that of ``Module._call_impl`` does."""
    hooks = _before(self, args, kwargs)
    output = None
    try:
        output = compiled(*args, **kwargs)
    finally:
        _after(hooks, self, args, kwargs, output)
    return output


# Hooks take the frame of a call from behind the frame that calls them: hence these two functions.
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
