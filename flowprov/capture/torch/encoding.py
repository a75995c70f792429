"""What a forward used and generated, by name, as JSON.

Flows in: the arguments and the output of a forward. Flows out: the parts of its line that hold them.

A tensor is described by shape, dtype, device and size, or, where it is inspected, by layout and more. Nothing
of its contents is read, so nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

import msgspec
import torch

from flowprov import guard
from flowprov.capture import function_spec
from flowprov.capture.torch._torch_private import (
    STORED_ELEMENTS,
    DisableTorchFunction,
    count_function_modes,
)
from flowprov.runtime import runtime
from flowprov.values import Summarizer, array_summary, tensor_raw


class Detail(NamedTuple):
    """How closely inputs and outputs are described.

    Attributes
    ----------
    tensor
        Encodes one tensor.
    mapping
        Encodes inputs or outputs by name.
    telemetry
        Whether telemetry is recorded, if any is.
    """

    tensor: Callable[[Any], msgspec.Raw]
    mapping: Callable[[Mapping[str, Any]], bytes]
    telemetry: bool = True


# -- inputs and outputs by name --------------------------------------------------------------------------


class Inputs:
    """The names under which the inputs of a forward are recorded.

    Parameters
    ----------
    forward
        The bound ``forward`` of a module.

    Notes
    -----
    Only what the caller passed is recorded: the defaults of a forward belong to its code.
    """

    __slots__ = ("_first", "_names", "_rest")

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._names: tuple[str, ...] = ()
        self._rest: str | None = None
        self._first: bytes | None = None
        try:
            parameters = signature(forward).parameters.values()
        except (TypeError, ValueError):  # a callable of C
            return
        kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        self._names = tuple(parameter.name for parameter in parameters if parameter.kind in kinds)
        self._rest = next(
            (parameter.name for parameter in parameters if parameter.kind is Parameter.VAR_POSITIONAL), None
        )
        if self._names:
            self._first = b'{"%b":%%b}' % msgspec.json.encode(self._names[0])[1:-1].replace(b"%", b"%%")

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], detail: Detail) -> bytes:
        """Encode the inputs of one call."""
        first = self._first
        if (
            len(args) == 1
            and not kwargs
            and args[0].__class__ is torch.Tensor
            and first is not None
            and not count_function_modes()
        ):
            return first % detail.tensor(args[0])
        return encode(self.name(args, kwargs), detail)

    def name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of one call by name."""
        names = self._names
        used = dict(zip(names, args))  # noqa: B905 - the arguments beyond the names follow
        if len(args) > len(names):
            rest = args[len(names) :]
            if self._rest is not None:
                used[self._rest] = rest
            else:
                used.update((f"arg_{position}", value) for position, value in enumerate(rest, len(names)))
        if kwargs:
            used.update(kwargs)
        return used


def name_outputs(output: Any) -> dict[str, Any]:
    """Return what a forward generated, by name.

    The names are the keys of a mapping, the fields of a named tuple, and ``output_0``, ``output_1``, … for a
    tuple or list. Anything else, None included, is named ``output``.
    """
    if isinstance(output, torch.Tensor):
        return {"output": output}
    if isinstance(output, Mapping):  # ModelOutput too, which has no key for what it left as None
        return dict(output)
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", None)
        if names is None:
            return {f"output_{position}": value for position, value in enumerate(output)}
        return dict(zip(names, output, strict=True))
    return {"output": output}


def encode_output(output: Any, detail: Detail) -> bytes:
    """Encode the output of one call: the part of a line that says what was generated."""
    if output.__class__ is torch.Tensor and not count_function_modes():
        return b',"generated":{"output":%b}' % detail.tensor(output)
    return b',"generated":' + encode(name_outputs(output), detail)


def encode(named: Mapping[str, Any], detail: Detail) -> bytes:
    """Encode inputs or outputs by name."""
    if count_function_modes():
        # Torch calls a function mode for each attribute of a tensor that is read (a default device is such a
        # mode, and the program may have one that counts). What capture reads is none of its business.
        with DisableTorchFunction():
            return detail.mapping(named)
    return detail.mapping(named)


# -- inspected tensors -----------------------------------------------------------------------------------

_MAX_READY = 4096
_READY_CLASSES = (torch.Tensor, torch.nn.Parameter)

_ready: dict[tuple[object, ...], msgspec.Raw] = {}
_encode = msgspec.json.Encoder().encode
_jagged = getattr(torch, "jagged", None)
_inspecting: tuple[runtime.Runtime, Summarizer] | None = None


def inspect_tensor(tensor: Any) -> msgspec.Raw:
    """Describe a tensor closely; never raises.

    Parameters
    ----------
    tensor
        A tensor, or an array of another framework.

    Returns
    -------
    msgspec.Raw
        Shape, dtype, device and size, and ``layout``, ``numel`` and ``requires_grad``. A sparse tensor also
        has ``nnz``, a quantized one ``qscheme``, and a nested one ``components``, the number of its tensors.
    """
    if not isinstance(tensor, torch.Tensor):
        return tensor_raw(tensor)
    try:
        # Two tensors of these classes that are equal here are described alike.
        key = (
            tensor.__class__,
            tensor.shape,
            tensor.dtype,
            tensor.device,
            tensor.layout,
            tensor.requires_grad,
        )
        ready = _ready.get(key)
        if ready is not None:
            return ready
        encoded = _encode(_describe_tensor(tensor))
    except Exception as error:  # a nested tensor has no shape, a sparse one no size, a subclass anything
        guard.pass_on(error)
        return msgspec.Raw(_encode(_describe_tensor(tensor)))
    raw = msgspec.Raw(encoded)
    if (
        tensor.__class__ in _READY_CLASSES
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and all(type(size) is int for size in key[1])
    ):
        if len(_ready) >= _MAX_READY:
            _ready.clear()
        _ready[key] = raw
    return raw


def encode_inspected(named: Mapping[str, Any]) -> bytes:
    """Encode inputs or outputs by name, with every tensor inspected, by the settings in force."""
    global _inspecting  # noqa: PLW0603 - kept for as long as the settings are
    active = runtime.get()
    if _inspecting is None or _inspecting[0] is not active:
        _inspecting = active, active.summarizer.with_arrays(inspect_tensor)
    return _inspecting[1].encode_mapping(named)


def _describe_tensor(tensor: torch.Tensor) -> dict[str, Any]:
    described: dict[str, Any] = dict(array_summary(tensor))
    for name, read in _READERS.items():
        try:
            value = read(tensor)
        except Exception as error:  # a kind of tensor without such a property: it is left out
            guard.pass_on(error)
            continue
        if value is not None:
            described[name] = value
    return described


def _numel(tensor: torch.Tensor) -> int | None:
    count = tensor.numel()
    return count if type(count) is int else None  # symbolic, while torch learns a graph


def _nnz(tensor: torch.Tensor) -> int | None:
    return None if tensor.layout in (torch.strided, _jagged) else int(getattr(tensor, STORED_ELEMENTS)())


def _qscheme(tensor: torch.Tensor) -> str | None:
    return str(tensor.qscheme()).removeprefix("torch.") if tensor.is_quantized else None


def _components(tensor: torch.Tensor) -> int | None:
    return int(tensor.size(0)) if tensor.is_nested else None


_READERS: dict[str, Callable[[torch.Tensor], Any]] = {
    "layout": lambda tensor: str(tensor.layout).removeprefix("torch."),
    "numel": _numel,
    "requires_grad": lambda tensor: tensor.requires_grad,
    "nnz": _nnz,
    "qscheme": _qscheme,
    "components": _components,
}

PLAIN = Detail(tensor_raw, function_spec.encode)
INSPECTED = Detail(inspect_tensor, encode_inspected)
