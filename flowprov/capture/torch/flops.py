"""The floating point operations of one forward, counted while it runs for the program anyway.

Flows in: the operators that torch runs in the first forward of a model. Flows out: their number, by the
formulas of ``torch.utils.flop_counter``: matrix products, convolutions and attention, a multiplication and an
addition as two; what is done element by element is not counted.

The same operators run with the same arguments in the same order; each is only looked at. Where looking could
change what runs, nothing is counted: compiled or scripted parts, sharded parameters, other modes of the
program, inference mode (there torch does not take composite operators apart), versions of torch that lack
what is needed.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils.flop_counter import flop_registry

from flowprov.capture.torch.modes import dispatch_modes
from flowprov.runtime.context import Scope

_C: Any = torch._C  # noqa: SLF001 - there is no public way to ask for the modes that are active
_mode_at: Callable[[int], object] = getattr(_C, "_get_dispatch_stack_at", int)
_is_able = hasattr(TorchDispatchMode, "ignore_compile_internals")
_HIGHER: Any = torch._ops.HigherOrderOperator  # noqa: SLF001 - the class of torch.cond and its like
# Operators that hold products for which torch has no formula.
_UNCOUNTED = (
    "aten::_transformer_encoder_layer_fwd",
    "aten::_native_multi_head_attention",
    "aten::mkldnn_rnn_layer",
    "aten::_cudnn_rnn",
    "aten::miopen_rnn",
    "aten::_scaled_dot_product",
    "aten::linear",  # these two of nested tensors, which take them as they are
    "aten::matmul",
)
# On the CPU attention is an operator of its own; torch has the formula under the name of the others.
_aten = torch.ops.aten
_SAME_AS = {
    getattr(_aten, "_scaled_dot_product_flash_attention_for_cpu", None): getattr(
        _aten, "_scaled_dot_product_flash_attention", None
    )
}


def can_count(module: torch.nn.Module) -> bool:
    """Whether the next forward of a model may be looked at."""
    return (
        _is_able
        and not dispatch_modes()
        and not torch.is_inference_mode_enabled()
        and not any(_is_compiled(part) for part in module.modules())
        and not any(is_traceable_wrapper_subclass(each) for each in module.parameters())
    )


def _is_compiled(module: torch.nn.Module) -> bool:
    return (
        getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module, "_orig_mod")
        or isinstance(module, torch.jit.ScriptModule)
    )


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts from its start until the scope of a forward ends.

    Parameters
    ----------
    tell
        Called with what was counted.
    """

    supports_higher_order_operators = True

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tell = tell
        self._by_operator: dict[str, int] = {}
        self._uncounted: set[str] = set()
        self._thread = threading.get_ident()
        self._is_over = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: torch would import its compiler at the first operator, which takes a second."""
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Leave alone what the program compiles while this looks on."""
        return True

    def start(self, scope: Scope) -> None:
        """Count until a scope ends."""
        scope.ensure_extras().on_end.append(self.stop)
        self.__enter__()  # type: ignore[no-untyped-call]

    def stop(self, error: BaseException | None) -> None:
        """Look no longer; a forward that returned is told of."""
        self._is_over = True
        # An interrupt may have left it below a mode of the program's, or in a thread that is gone: there it
        # stays and does nothing.
        if (
            threading.get_ident() == self._thread
            and dispatch_modes()
            and _mode_at(dispatch_modes() - 1) is self
        ):
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if error is None:
            self._tell(self._result())

    def _result(self) -> dict[str, Any]:
        counted = sum(self._by_operator.values())
        if not self._uncounted:
            return {"flops": counted, "flops_by_operator": self._by_operator}
        return {
            "flops_at_least": counted,
            "flops_by_operator": self._by_operator,
            "flops_not_counted": sorted(self._uncounted),
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator as it is, and look up what it costs."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._is_over:
            return output
        try:
            self._count(func, args, kwargs, output)
        except Exception:  # a formula that does not know such arguments: that costs the number only
            self._uncounted.add(_name(func))
        return output

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if isinstance(func, _HIGHER):
            self._uncounted.add(_name(func))
            return
        packet = func._overloadpacket  # noqa: SLF001 - the registry's key
        formula = flop_registry.get(_SAME_AS.get(packet, packet))
        name = _name(func)
        if formula is not None:
            count = int(formula(*args, **kwargs, out_val=output))
            self._by_operator[name] = self._by_operator.get(name, 0) + count
        elif not name.startswith(("aten::", "prim::", "prims::")) or name.startswith(_UNCOUNTED):
            self._uncounted.add(name)


@functools.cache
def _beside_the_compiler() -> type[FlopCount]:
    """Give the kind for a process that has imported the compiler, which is to leave it alone."""

    class Count(FlopCount):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return True

        __torch_dispatch__ = FlopCount.__torch_dispatch__

    return Count


def _name(func: Any) -> str:
    """Give the name of an operator without that of its overload."""
    return str(func.name() if callable(func.name) else func.name).partition(".")[0]


def start(module: torch.nn.Module, scope: Scope, tell: Callable[[dict[str, Any]], None]) -> None:
    """Count the operations of the forward that runs in a scope, if they can be counted."""
    if can_count(module):
        kind = _beside_the_compiler() if "torch._dynamo" in sys.modules else FlopCount
        kind(tell).start(scope)
