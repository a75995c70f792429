"""Captured models that run inside of other compiled code, where no forward of theirs is recorded.

Flows in: the hook that the compiler met while it traced such code. Flows out: one log line for each model.

The compiler runs a function that is marked as constant once, while it traces, and keeps its result: it may do
what would break the graph, and costs the compiled code nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from flowprov import context, guard
from flowprov.capture.torch.tracing import is_traced

# The first that was tried; an earlier compiler may not take an object as argument of such a function.
_FROM_TORCH = "2.13"

_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", bool)


def tell(hook: Any) -> None:
    """Say once of a model that its forwards in the code that is compiled now are not recorded."""
    try:
        captured = hook.captured
        scope = context.current.get()
        if captured.path or scope is None or scope.muted or _is_exporting() or is_traced():
            return
        while scope is not None:
            if getattr(scope.site, "original", None) is not None:
                return  # it is a compiled model, or in one, whose forward is recorded
            scope = scope.previous
        guard.say_once(
            f"{captured.name} in compiled code",
            "flowprov: %s is called by other compiled code, inside of which no forward is recorded. Compile "
            "the model, not what calls it, to have them recorded. This is said once.",
            captured.name,
        )
    except Exception as error:  # the guard: the compiler goes on whatever happens to us
        guard.fault("following the compiler", error)


def _nothing(_: Any) -> None:
    """Leave no mark in a graph."""


if torch.__version__ >= _FROM_TORCH:
    tell._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001 - see below
    meet: Callable[[Any], None] = (
        tell  # torch.compiler.assume_constant_result does this, and imports the compiler
    )
else:
    meet = _nothing
