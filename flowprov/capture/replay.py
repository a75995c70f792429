"""Code that runs not for its own sake: a framework traces it, or computes it again. Capture steps aside.

Flows in: what the adapter of a framework knows of the code that runs now. Flows out: whether it is traced or
recomputed, and which exceptions only end a recomputation.

The core imports no framework. The adapter of a framework registers what it knows. If the program imports the
framework and not the adapter, the adapter is loaded at the first event that may be traced. Where torch
compiles a function, nothing of it runs: torch reads its code, and reads the function that
:func:`compiled_as` names in the place of one of ours. That needs no import at all.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flowprov import guard
from flowprov.runtime.encoders import encoder_globals

F = TypeVar("F", bound=Callable[..., Any])

# Attributes of functions that torch's compiler knows, whoever sets them.
READ_INSTEAD = "_torchdynamo_inline"
MARKED_CONSTANT = "_dynamo_marked_constant"

_ADAPTERS = {"torch": "flowprov.capture.torch.tracing"}  # by the framework


class Replay(Exception):  # noqa: N818 - it is no error
    """Says that a call is traced or recomputed.

    Attributes
    ----------
    used
        The encoded inputs of a call that is recomputed; None if it is traced, and not recorded.
    """

    def __init__(self, used: bytes | None = None) -> None:
        super().__init__(used)
        self.used = used


def register(
    is_traced: Callable[[], bool],
    is_replayed: Callable[[], bool],
    stops: tuple[type[BaseException], ...],
) -> None:
    """Register what an adapter knows.

    Parameters
    ----------
    is_traced, is_replayed
        Whether the code that runs now is traced, and whether it is traced or recomputed.
    stops
        The types of the exceptions that end a recomputation when it has all that it needs.
    """
    adapter.is_traced, adapter.stops = is_traced, stops
    encoder_globals["_flowprov_is_replayed"] = is_replayed


class Adapter:
    """What the adapter that is registered knows; nothing without one."""

    is_traced: Callable[[], bool] = bool
    stops: tuple[type[BaseException], ...] = ()


adapter = Adapter()


def load_adapter() -> bool:
    """Load the adapter of a framework that the program has imported; return whether code is replayed."""
    for framework, name in _ADAPTERS.items():
        module = sys.modules.get(framework)
        spec = getattr(module, "__spec__", None)
        if spec is None or getattr(spec, "_initializing", False):  # its import still runs
            continue
        encoder_globals["_flowprov_is_replayed"] = bool  # tried once
        with guard.guarded(f"preparing for {framework}"):
            importlib.import_module(name)
        return bool(encoder_globals["_flowprov_is_replayed"]())
    return False


def compiled_as(instead: Callable[..., Any]) -> Callable[[F], F]:
    """Create a decorator that names the function which torch's compiler reads in the place of another."""

    def mark(function: F) -> F:
        setattr(function, READ_INSTEAD, instead)
        return function

    return mark


def warn_compiled() -> None:
    """Warn once that nothing is recorded inside compiled code; the compiler calls this while it compiles."""
    guard.warn_once(
        "compiled code",
        "flowprov: tasks or loops are in code that torch compiles or exports. Inside of a graph they are "
        "not recorded. This is said once.",
    )


# The compiler calls a function with this mark, and puts its result into the graph.
setattr(warn_compiled, MARKED_CONSTANT, True)


def not_recorded(*_: Any, **__: Any) -> None:
    """Stand for a function that records, in code that torch compiles."""
    warn_compiled()


def _true() -> bool:
    warn_compiled()
    return True


@compiled_as(_true)
def is_traced() -> bool:
    """Whether a framework traces the code that runs now."""
    if "torch" not in sys.modules:
        return False
    if encoder_globals["_flowprov_is_replayed"] is load_adapter:
        load_adapter()
    return adapter.is_traced()


@compiled_as(_true)
def is_replayed() -> bool:
    """Whether a framework traces or recomputes the code that runs now."""
    return "torch" in sys.modules and encoder_globals["_flowprov_is_replayed"]()


def is_stop(error: BaseException) -> bool:
    """Whether an exception only ends a recomputation that has all that it needs."""
    return isinstance(error, adapter.stops)


def encode_replayed(named: Mapping[str, Any]) -> bytes:
    """Raise :class:`Replay` for a call that is replayed, with its inputs if it is recomputed."""
    raise Replay(None if adapter.is_traced() else encoder_globals["_flowprov_encode"](named))


# What the generated encoders of arguments need of this file (see function_spec).
encoder_globals.update(
    _flowprov_modules=sys.modules,
    _flowprov_is_replayed=load_adapter,
    _flowprov_encode_replayed=encode_replayed,
)
