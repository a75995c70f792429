"""Count the floating point operations of one forward while it runs for the program anyway.

Flows in: the operators that torch runs in the first forward of a model. Flows out: the number of their
operations, by the formulas of ``torch.utils.flop_counter``. These know matrix products, convolutions and
attention, and count a multiplication and an addition as two. Operations element by element are not counted.

The same operators run with the same arguments in the same order; each is only looked at. Where looking could
change what runs, nothing is counted: in models with compiled or scripted modules or sharded parameters, under
other modes of the program, in inference mode (where torch does not take composite operators apart), and in
versions of torch that lack what counting needs.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import (
    CAN_COUNT_OPERATIONS,
    COMPILED_CALL,
    COMPILER,
    OPERATORS_WITHOUT_FORMULA,
    ORIGINAL_MODULE,
    OVERLOAD_PACKET,
    SAME_FORMULA,
    HigherOrderOperator,
    TorchDispatchMode,
    count_dispatch_modes,
    dispatch_mode_at,
    flop_registry,
    is_wrapper_tensor,
)
from flowprov.runtime.context import Scope


def can_count(module: torch.nn.Module) -> bool:
    """Whether the operations of the next forward of a model may be counted."""
    return (
        CAN_COUNT_OPERATIONS
        and not count_dispatch_modes()
        and not torch.is_inference_mode_enabled()
        and not any(_is_compiled(child) for child in module.modules())
        and not any(is_wrapper_tensor(parameter) for parameter in module.parameters())
    )


def _is_compiled(module: torch.nn.Module) -> bool:
    return (
        getattr(module, COMPILED_CALL, None) is not None
        or hasattr(module, ORIGINAL_MODULE)
        or isinstance(module, torch.jit.ScriptModule)
    )


class FlopCount(TorchDispatchMode):  # type: ignore[misc]
    """Counts operations from its start until the scope of a forward ends.

    Parameters
    ----------
    on_end
        Called with the counts after a forward that returned.
    """

    supports_higher_order_operators = True

    def __init__(self, on_end: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._on_end = on_end
        self._by_operator: dict[str, int] = {}
        self._uncounted: set[str] = set()
        self._thread = threading.get_ident()
        self._is_over = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: else torch imports its compiler at the first operator, which takes a second."""
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Return True: functions that the program compiles in the forward stay compiled."""
        return True

    def start(self, scope: Scope) -> None:
        """Count until a scope ends."""
        scope.ensure_extras().on_end.append(self.stop)
        self.__enter__()

    def stop(self, error: BaseException | None) -> None:
        """Stop counting; report the counts if the forward returned."""
        self._is_over = True
        # After an interrupt this mode may lie below a mode of the program, or in a thread that is gone. There
        # it stays and does nothing.
        if (
            threading.get_ident() == self._thread
            and count_dispatch_modes()
            and dispatch_mode_at(count_dispatch_modes() - 1) is self
        ):
            self.__exit__(None, None, None)
        if error is None:
            self._on_end(self._result())

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
        """Run an operator as it is, and count its operations."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._is_over:
            return output
        try:
            self._count(func, args, kwargs, output)
        except Exception as error:  # a formula that does not know such arguments: only the number is lost
            guard.pass_on(error)
            self._uncounted.add(_operator_name(func))
        return output

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if isinstance(func, HigherOrderOperator):
            self._uncounted.add(_operator_name(func))
            return
        packet = getattr(func, OVERLOAD_PACKET)
        formula = flop_registry.get(SAME_FORMULA.get(packet, packet))
        name = _operator_name(func)
        if formula is not None:
            count = int(formula(*args, **kwargs, out_val=output))
            self._by_operator[name] = self._by_operator.get(name, 0) + count
        elif not name.startswith(("aten::", "prim::", "prims::")) or name.startswith(
            OPERATORS_WITHOUT_FORMULA
        ):
            self._uncounted.add(name)


@functools.cache
def _hidden_from_compiler() -> type[FlopCount]:
    """Return the class for a process that has imported the compiler, which must not compile the counting."""

    class HiddenFlopCount(FlopCount):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return True

        __torch_dispatch__ = FlopCount.__torch_dispatch__

    return HiddenFlopCount


def _operator_name(func: Any) -> str:
    """Return the name of an operator without the name of its overload."""
    return str(func.name() if callable(func.name) else func.name).partition(".")[0]


def start(module: torch.nn.Module, scope: Scope, on_end: Callable[[dict[str, Any]], None]) -> None:
    """Count the operations of the forward that runs in a scope, if they can be counted.

    Parameters
    ----------
    module
        The model.
    scope
        The scope of its forward.
    on_end
        Called with the counts after a forward that returned.
    """
    if can_count(module):
        cls = _hidden_from_compiler() if COMPILER in sys.modules else FlopCount
        cls(on_end).start(scope)
