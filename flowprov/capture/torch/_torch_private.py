"""Every private or undocumented part of torch that capture leans on, each with what stands in for it.

Flows in: the torch that is installed. Flows out: functions, classes and names for the other files of this
folder. Those name no private part of torch themselves.

``PARTS`` lists the parts: what flowprov uses each for, the versions of torch in which it was seen, and what
happens where it is missing. A part that is missing stops neither an import nor a forward. A test looks up
each part in the torch that is installed, and names the one that a new version moved.

The tests ran with torch 2.13.0. In 2.4.1, 2.6.0, 2.9.1 and 2.14.1 each name was looked up in the files of
torch.
"""

from __future__ import annotations

import contextlib
import pkgutil
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from flowprov.capture.replay import MARKED_CONSTANT, READ_INSTEAD

_ALL = ("2.4", "2.6", "2.9", "2.13", "2.14")


class TorchPart(NamedTuple):
    """A private or undocumented part of torch.

    Attributes
    ----------
    name
        Where it lies in torch. An attribute of instances is named after their class.
    used_for
        What flowprov does with it.
    if_missing
        What happens where torch has no such part.
    seen
        The versions in which it was seen. Versions before the first have no such part.
    replaced_by
        The part that takes its place in later versions, and that flowprov uses there.
    """

    name: str
    used_for: str
    if_missing: str
    seen: tuple[str, ...] = _ALL
    replaced_by: str | None = None


PARTS: list[TorchPart] = []


def _find(name: str, default: Any, used_for: str, if_missing: str, seen: tuple[str, ...] = _ALL) -> Any:
    """Return a part of torch, or the default where this version has none."""
    PARTS.append(TorchPart(name, used_for, if_missing, seen))
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return default


def _name(
    name: str,
    used_for: str,
    if_missing: str,
    seen: tuple[str, ...] = _ALL,
    replaced_by: str | None = None,
) -> str:
    """Return the last word of a part's name, for what is looked up where it is used."""
    PARTS.append(TorchPart(name, used_for, if_missing, seen, replaced_by))
    return name.rpartition(".")[2]


# -- whether torch traces what runs ----------------------------------------------------------------------

_is_jit_tracing: Callable[[], bool] = _find(
    "torch._C._is_tracing", bool, "see that torch.jit traces", "forwards under torch.jit.trace are recorded"
)
_NO_FLAGS = types.SimpleNamespace(_trace_module_map=None, _is_fx_tracing_flag=False)
_jit: Any = _find("torch.jit._trace", _NO_FLAGS, "read _trace_module_map", "it is as if that were missing")
_name(
    "torch.jit._trace._trace_module_map",
    "see that torch.jit.trace runs a module, also where it runs it plainly to compare",
    "the forward that torch.jit.trace compares with is recorded",
)
_fx: Any = _find(
    "torch.fx._symbolic_trace", _NO_FLAGS, "read _is_fx_tracing_flag", "it is as if that were missing"
)
_name(
    "torch.fx._symbolic_trace._is_fx_tracing_flag",
    "see that torch.fx traces",
    "forwards under torch.fx.symbolic_trace are recorded",
    _ALL[:-1],
    "torch.fx._symbolic_trace._is_fx_tracing_tls",
)
_FAKE_MODE = ("see that a fake mode runs, as under torch.export", "forwards on fake tensors are recorded")
_fake_mode_key: object = _find("torch._C._TorchDispatchModeKey.FAKE", None, *_FAKE_MODE)
_get_dispatch_mode: Any = _find("torch._C._get_dispatch_mode", lambda _: None, *_FAKE_MODE)
if _fake_mode_key is None:
    _get_dispatch_mode = lambda _: None  # noqa: E731 - as short as the default above


class _FlagOfThread:
    """The flag of torch.fx since 2.14, where each thread has one, under the name that it had before."""

    def __init__(self, of_thread: object) -> None:
        self._of_thread = of_thread

    @property
    def _is_fx_tracing_flag(self) -> bool:
        return getattr(self._of_thread, "flag", False)


if hasattr(_fx, "_is_fx_tracing_tls"):
    _fx = _FlagOfThread(_fx._is_fx_tracing_tls)  # noqa: SLF001 - this file is there for it
_fx = _fx if hasattr(_fx, "_is_fx_tracing_flag") else _NO_FLAGS
_jit = _jit if hasattr(_jit, "_trace_module_map") else _NO_FLAGS


# -- under which modes torch runs ------------------------------------------------------------------------

current_graph_task_id: Callable[[], int] = _find(
    "torch._C._current_graph_task_id",
    lambda: -1,
    "tell in which run of autograd something happens",
    "recomputed forwards are not flagged, and backward passes that overlap are one record",
)
StopRecomputation: type[BaseException] | tuple[()] = _find(
    "torch.utils.checkpoint._StopRecomputationError",
    (),
    "see that checkpointing stopped a recomputed forward, as it had all that it needs",
    "such a forward is recorded as ERROR",
)
is_any_autocast_enabled: Callable[[], bool] = _find(
    "torch._C._is_any_autocast_enabled",
    torch.is_autocast_enabled,
    "see whether autocast is on, for whatever device",
    "autocast is recorded only where it is on for CUDA",
)
count_function_modes: Callable[[], int] = _find(
    "torch._C._len_torch_function_stack",
    int,
    "see whether function modes are on",
    "function modes of the program see what capture reads of a tensor",
)
count_dispatch_modes: Callable[[], int] = _find(
    "torch._C._len_torch_dispatch_stack",
    int,
    "see whether dispatch modes are on",
    "dispatch modes of the program see how statistics are computed; operations are not counted",
)
DisableTorchFunction: Any = _find(
    "torch._C.DisableTorchFunction",
    contextlib.nullcontext,
    "read tensors unseen by function modes and subclasses of the program",
    "function modes and subclasses of the program see what capture reads of a tensor",
)
disable_dispatch_modes: Any = _find(
    "torch.utils._python_dispatch._disable_current_modes",
    contextlib.nullcontext,
    "compute statistics unseen by dispatch modes of the program",
    "dispatch modes of the program see how statistics are computed",
)
is_functorch_tensor: Callable[[torch.Tensor], bool] = _find(
    "torch._C._functorch.is_functorch_wrapped_tensor",
    lambda _: False,
    "leave out tensors that stand for others under torch.func",
    "the statistics of such tensors are recorded as not computed",
)

# -- backward passes and optimizers ----------------------------------------------------------------------

execution_engine: Any = _find(
    "torch.autograd.Variable._execution_engine",
    None,
    "be called at the end of a run of autograd, as DDP and FSDP are",
    "backward passes are not recorded, which a warning says",
)
_CALLER = (
    "read in a thread of autograd the context in which backward was called",
    "a backward on a GPU belongs to the scope around its forward",
)
has_context_of_caller: Callable[[str], bool] = _find("torch._C._is_key_in_tls", lambda _: False, *_CALLER)
get_context_of_caller: Callable[[str], Any] = _find("torch._C._get_obj_in_tls", lambda _: {}, *_CALLER)
_name(
    "torch.optim.Optimizer.profile_hook_step",
    "tell one step from another: one frame of its wrapper calls the hooks before and after a step",
    "the next step, or the scope around, closes a step as ERROR",
)
_LOSS_SCALE = (
    "read the scale of the loss from the GradScaler that calls a step, without waiting for the device",
    "the scale of the loss is not recorded",
)
GRAD_SCALER = _name("torch.amp.grad_scaler", *_LOSS_SCALE)
LOSS_SCALE = _name("torch.amp.GradScaler._scale", *_LOSS_SCALE)
GRADIENT_SCALE = _name(
    "torch.optim.Optimizer.grad_scale",
    "unscale the norm of the gradients where the optimizer unscales them itself",
    "the recorded norm is that of the scaled gradients",
)

# -- code that is traced or recomputed -------------------------------------------------------------------


def is_traced() -> bool:
    """Whether torch.jit, torch.fx, torch.export or a fake mode runs what runs now.

    ``torch.jit.trace`` also runs a module plainly, to compare. That counts as traced too. The question costs
    a tenth of a microsecond, as the names of attributes are written out.
    """
    return (
        _is_jit_tracing()
        or _jit._trace_module_map is not None  # noqa: SLF001 - this file is there for it
        or _fx._is_fx_tracing_flag  # noqa: SLF001 - as above
        or (count_dispatch_modes() > 0 and _get_dispatch_mode(_fake_mode_key) is not None)
    )


def is_replayed() -> bool:
    """Whether the code that runs now is traced, or computed again by activation checkpointing.

    That runs inside autograd's own run and with gradients; hooks and backward functions run without.
    """
    return (
        _is_jit_tracing()
        or _jit._trace_module_map is not None  # noqa: SLF001 - as above
        or _fx._is_fx_tracing_flag  # noqa: SLF001 - as above
        or (count_dispatch_modes() > 0 and _get_dispatch_mode(_fake_mode_key) is not None)
        or (current_graph_task_id() != -1 and torch.is_grad_enabled())
    )


# -- modules ---------------------------------------------------------------------------------------------

_name(
    "torch.nn.Module._call_impl",
    "tell one call of a module from another: its frame, or that of a function in it, calls the hooks",
    "the scope around closes forwards, as ERROR",
)
_HOOKS = ("find the hooks of capture on a module", "a module may be captured twice, and is not released")
FORWARD_PRE_HOOKS = _name("torch.nn.Module._forward_pre_hooks", *_HOOKS)
FORWARD_HOOKS = _name("torch.nn.Module._forward_hooks", *_HOOKS)
_HOOK_NUMBERS = (
    "give the hooks of capture numbers that no other hook gets",
    "a hook that is put on a model which was saved while captured may be called as a hook of capture is",
)
FORWARD_PRE_HOOKS_WITH_KWARGS = _name("torch.nn.Module._forward_pre_hooks_with_kwargs", *_HOOK_NUMBERS)
FORWARD_HOOKS_WITH_KWARGS = _name("torch.nn.Module._forward_hooks_with_kwargs", *_HOOK_NUMBERS)
FORWARD_HOOKS_ALWAYS_CALLED = _name("torch.nn.Module._forward_hooks_always_called", *_HOOK_NUMBERS)


def hook_dicts(module: torch.nn.Module) -> tuple[tuple[dict[int, Any], ...], ...]:
    """Return the dicts in which torch keeps the hooks of a module: those before a forward, those after it.

    The first dict of each holds the hooks by number, the others which of them have which option.
    """
    before = (FORWARD_PRE_HOOKS, FORWARD_PRE_HOOKS_WITH_KWARGS)
    after = (FORWARD_HOOKS, FORWARD_HOOKS_WITH_KWARGS, FORWARD_HOOKS_ALWAYS_CALLED)
    return tuple(tuple(getattr(module, name, {}) for name in names) for names in (before, after))


FUSED_ACTIVATION = _name(
    "torch.nn.TransformerEncoderLayer.activation_relu_or_gelu",
    "see whether a layer has a fast path, which it leaves where a hook is in it",
    "no warning says that a layer leaves its fast path",
)
COMPILED_CALL = _name(
    "torch.nn.Module._compiled_call_impl",
    "record calls of a module that Module.compile compiled",
    "such calls are not recorded, and the operations in such modules are counted",
)
COMPILER = "torch._dynamo"
EVAL_FRAME = "torch._dynamo.eval_frame"  # it defines OptimizedModule; importing it takes a second
_OPTIMIZED = (
    "record calls of what torch.compile makes of a captured module",
    "such calls are not recorded, and an internal error is counted",
)
OPTIMIZED_MODULE = _name("torch._dynamo.eval_frame.OptimizedModule", *_OPTIMIZED)
CHILD_MODULES = _name("torch.nn.Module._modules", *_OPTIMIZED)
ORIGINAL_MODULE = _name("torch._dynamo.eval_frame.OptimizedModule._orig_mod", *_OPTIMIZED)
_name(
    f"function.{MARKED_CONSTANT}",
    "warn, when torch compiles code that calls a captured model or a task, without a mark in the graph",
    "the warning may break the graph",
)
_name(
    f"torch.compile.{READ_INSTEAD}",
    "leave tasks and loops out of code that torch compiles",
    "torch.compile breaks the graph at them, and raises under fullgraph=True",
    _ALL[3:4],
)
TRACED_MODULE = _name(
    "torch.jit._trace.TopLevelTracedModule",
    "tell script modules that take hooks from those that do not",
    "modules that torch.jit traced are not recorded",
)
_OWN_NAME = (
    "name a module after its own class",
    "a sharded or replicated module is named after torch's class",
)
WRAPPER_CLASSES = frozenset(
    {
        _name("torch.distributed.fsdp.FSDPModule", *_OWN_NAME, _ALL[1:]),
        _name("torch.distributed._composable.replicate.DDP", *_OWN_NAME),
        _name("torch.distributed._composable.replicate_with_fsdp.ReplicateModule", *_OWN_NAME, _ALL[3:]),
    }
)

# -- tensors and parameters ------------------------------------------------------------------------------

STORED_ELEMENTS = _name(
    "torch.Tensor._nnz",
    "read how many elements a sparse tensor stores, without coalescing it",
    "nnz is not recorded",
)
is_lazy: Callable[[torch.Tensor], bool] = _find(
    "torch.nn.parameter.is_lazy",
    lambda _: False,
    "leave out parameters that have no shape yet",
    "the profile of a model with such parameters lacks what depends on shapes",
)

# -- counting operations ---------------------------------------------------------------------------------

_NOT_COUNTED = "operations are not counted"
_DISPATCH = "torch.utils._python_dispatch."
TorchDispatchMode: Any = _find(
    f"{_DISPATCH}TorchDispatchMode", object, "look at each operator that runs", _NOT_COUNTED
)
_ignores_compiled: Any = _find(
    f"{_DISPATCH}TorchDispatchMode.ignore_compile_internals",
    None,
    "leave alone what the program compiles while operations are counted",
    _NOT_COUNTED,
    _ALL[2:],
)
_name(
    f"{_DISPATCH}TorchDispatchMode.supports_higher_order_operators",
    "let torch.cond and its like run while operations are counted",
    "a first forward that calls these raises, where the model has a profile",
    _ALL[2:],
)
_name(
    f"{_DISPATCH}TorchDispatchMode._should_skip_dynamo",
    "keep torch from importing its compiler while operations are counted",
    "the first forward of a model with a profile takes a second longer",
    _ALL[3:],
)
dispatch_mode_at: Callable[[int], object] = _find(
    "torch._C._get_dispatch_stack_at", None, "see whether counting is the innermost mode", _NOT_COUNTED
)
is_wrapper_tensor: Callable[[object], bool] = _find(
    f"{_DISPATCH}is_traceable_wrapper_subclass", None, "see that parameters are sharded", _NOT_COUNTED
)
flop_registry: dict[Any, Any] = _find(
    "torch.utils.flop_counter.flop_registry", None, "look up the formula of an operator", _NOT_COUNTED
)
HigherOrderOperator: Any = _find(
    "torch._ops.HigherOrderOperator", (), "recognize torch.cond and its like", "they count as nothing"
)
OVERLOAD_PACKET = _name(
    "torch._ops.OpOverload._overloadpacket", "look up the formula of an operator", "no operator has a formula"
)
CAN_COUNT_OPERATIONS = count_dispatch_modes is not int and None not in (
    _ignores_compiled,
    dispatch_mode_at,
    is_wrapper_tensor,
    flop_registry,
)
_UNNAMED = ("name an operator that holds products and has no formula", "a total leaves it out unsaid")
# The beginnings of their names; torch has the last two for nested tensors, which it does not take apart.
OPERATORS_WITHOUT_FORMULA = (
    *(
        f"aten::{_name(f'torch.ops.aten.{operator}', *_UNNAMED)}"
        for operator in (
            "_transformer_encoder_layer_fwd",
            "_native_multi_head_attention",
            "mkldnn_rnn_layer",
            "_cudnn_rnn",
            "miopen_rnn",
        )
    ),
    "aten::_scaled_dot_product",
    "aten::linear",
    "aten::matmul",
)
_ATTENTION = ("count attention on the CPU by the formula of another operator", "it is named as not counted")
_ATTENTION_OPERATOR = "torch.ops.aten._scaled_dot_product_flash_attention"
# An operator for which torch has the formula under the name of another.
SAME_FORMULA = {
    _find(f"{_ATTENTION_OPERATOR}_for_cpu", None, *_ATTENTION): _find(_ATTENTION_OPERATOR, None, *_ATTENTION)
}
