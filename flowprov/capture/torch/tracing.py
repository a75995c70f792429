"""Whether a forward is a real one, or torch runs it to learn its graph.

Flows in: torch's own marks of its tracers. Flows out: yes or no, in a fifth of a microsecond. The marks are
private names of torch; one that a version does not have counts as "not tracing".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.fx._symbolic_trace
import torch.jit._trace

from flowprov import guard
from flowprov.runtime import context

# Dynamo knows this function and makes it a constant: a hook that asks it first leaves no mark in a graph.
is_compiling: Callable[[], bool] = torch.compiler.is_compiling

_C: Any = torch._C  # noqa: SLF001 - there is no public way to ask
_jit: Any = torch.jit._trace  # noqa: SLF001 - as above
_fx: Any = torch.fx._symbolic_trace  # noqa: SLF001 - as above


def _nothing(*_: object) -> None:
    return None


_fake_key = getattr(getattr(_C, "_TorchDispatchModeKey", None), "FAKE", None)
_tracing_state: Callable[[], object] = getattr(_C, "_get_tracing_state", _nothing)
_dispatch_mode: Callable[[object], object] = (
    _nothing if _fake_key is None else getattr(_C, "_get_dispatch_mode", _nothing)
)


def is_traced() -> bool:
    """Whether torch.jit, torch.fx, torch.export or a fake mode runs what runs now.

    ``torch.jit.trace`` of a module also runs it once more, plainly, to compare; that counts as traced too.
    """
    return (
        _tracing_state() is not None
        or getattr(_jit, "_trace_module_map", None) is not None
        or getattr(_fx, "_is_fx_tracing_flag", False)
        or _dispatch_mode(_fake_key) is not None
    )


# The first that was tried; an earlier compiler may not take an object as argument of such a function.
_FROM_TORCH = "2.13"

_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", bool)


def _warn_inlined(hook: Any) -> None:
    """Say once of a model that its forwards in the code that is compiled now are not recorded."""
    try:
        captured = hook.captured
        scope = context.current.get()
        if captured.path or scope is None or scope.muted or _is_exporting() or is_traced():
            return
        while scope is not None:
            if getattr(scope.opener, "inner", None) is not None:
                return  # it is a compiled model, or in one, whose forward is recorded
            scope = scope.previous
        guard.warn_once(
            f"{captured.name} in compiled code",
            "flowprov: %s is called by other compiled code, inside of which no forward is recorded. Compile "
            "the model, not what calls it, to have them recorded. This is said once.",
            captured.name,
        )
    except Exception as error:  # the guard: the compiler goes on whatever happens to us
        guard.report_internal_error("following the compiler", error)


if torch.__version__ >= _FROM_TORCH:
    _warn_inlined._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001 - see below
    meet: Callable[[Any], None] = (
        _warn_inlined  # torch.compiler.assume_constant_result does this, and imports the compiler
    )
else:
    meet = _nothing
