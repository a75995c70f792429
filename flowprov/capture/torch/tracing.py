"""Whether torch compiles, traces or recomputes what runs, and the warning that says what is lost by it.

Flows in: what torch says of its compiler and tracers, and calls of hooks in code that it compiles. Flows out:
whether it compiles, and one warning per model whose forwards are lost in compiled code. Tasks and loops
learn from here, by way of ``capture.replay``, what torch says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flowprov import guard
from flowprov.capture import replay
from flowprov.capture.replay import MARKED_CONSTANT
from flowprov.capture.torch._torch_private import StopRecomputation, is_replayed, is_traced
from flowprov.runtime import context

# Dynamo knows this function and makes it a constant: a hook that asks it first leaves no mark in a graph.
is_compiling: Callable[[], bool] = torch.compiler.is_compiling
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", bool)  # since 2.9

# The first version that was tried. An earlier compiler may refuse an object as argument of such a function.
_WARNS_FROM = "2.13"


def _warn_inlined(hook: Any) -> None:
    """Warn once per model that its forwards in the code that torch compiles now are not recorded."""
    try:
        captured = hook.captured
        scope = context.current.get()
        if captured.path or scope is None or scope.muted or _is_exporting() or is_traced():
            return
        while scope is not None:
            if getattr(scope.opener, "inner", None) is not None:
                return  # a compiled model, or one inside of it: its forward is recorded
            scope = scope.previous
        guard.warn_once(
            f"{captured.name} in compiled code",
            "flowprov: %s is called by other compiled code, inside of which no forward is recorded. Compile "
            "the model, not what calls it, to have them recorded. This is said once.",
            captured.name,
        )
    except Exception as error:  # the guard: the compiler goes on whatever happens to us
        guard.report_internal_error("following the compiler", error)


def _ignore(_hook: Any) -> None:
    return None


warn_if_inlined: Callable[[Any], None] = _ignore
if torch.__version__ >= _WARNS_FROM:
    # Dynamo calls a function with this mark, and puts its result into the graph. The public decorator
    # torch.compiler.assume_constant_result sets the mark too, but imports the compiler.
    setattr(_warn_inlined, MARKED_CONSTANT, True)
    warn_if_inlined = _warn_inlined

replay.register(
    is_traced,
    is_replayed,
    StopRecomputation if isinstance(StopRecomputation, tuple) else (StopRecomputation,),
)
