"""Statistics of the tensors that forwards use and generate: how large they are, and whether they are finite.

Flows in: the tensors of a forward. Flows out: ``statistics`` in the description of each tensor of
floating-point or complex numbers. They are ``min``, ``max`` and ``mean`` of the finite elements (None where
there are none), ``zero_share``, ``nan_count`` and ``inf_count``. Those of complex numbers are the statistics
of their magnitudes. Beside them stands the ``bit_sum``, which tensors of integers have, too: see
:mod:`flowprov.capture.torch.bit_sum`.

Statistics are computed on the tensor's own device, and nothing is read there. On the CPU they stand in the
record itself. From another device they follow as a correction of the record, which holds all inputs or
outputs again.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import torch

from flowprov import guard
from flowprov.capture.task_records import close_task, encode_outputs_and_extras
from flowprov.capture.torch import bit_sum
from flowprov.capture.torch.async_values import defer, flush_ready, is_on_host
from flowprov.capture.torch.captured_module import CapturedModule, Forward
from flowprov.capture.torch.encoding import Detail, Inputs, encode, name_outputs
from flowprov.capture.torch.modes import has_numbers, is_computable, suspended_modes, widest_float
from flowprov.records import Correction
from flowprov.runtime import runtime
from flowprov.runtime.context import Scope

_exc_info = sys.exc_info

# Stands for statistics that follow, while a line is put together: JSON itself never holds this byte.
_PLACEHOLDER = re.compile(rb"\x00(\d+)\x00")


class _PendingStatistics(NamedTuple):
    """What a device computes of a tensor: its bit sum in pieces, then its statistics, if it has any."""

    computed: torch.Tensor
    elements: int


class _Encoded(NamedTuple):
    """Encoded inputs or outputs, with a placeholder for all statistics that follow."""

    template: bytes
    pending: list[_PendingStatistics]

    def without_pending(self) -> bytes:
        """Return the JSON without the statistics that follow."""
        return _PLACEHOLDER.sub(b"", self.template) if self.pending else self.template


class _State(threading.local):
    """What this thread has collected since it began to put a line together."""

    def __init__(self) -> None:
        self.pending: list[_PendingStatistics] = []
        self.used: _Encoded | None = None


_state = _State()


class MeasuredModule(CapturedModule):
    """The capture of a module with statistics; the arguments are those of :class:`CapturedModule`."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._detail = _with_statistics(self._detail)

    def open_forward(self, *args: Any) -> Forward:
        """Open the scope of a forward."""
        flush_ready()
        scope = super().open_forward(*args)
        encoded, _state.used = _state.used, None
        if encoded is not None:
            _defer_statistics(scope, "used", encoded)
        return scope

    def close_forward(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward that returned or raised."""
        error = _exc_info()[1]
        if error is not None and error is not scope.exc_at_start:
            super().close_forward(scope, now, output)
            return
        scope.exc_at_start = scope.frame = None
        generated, extras = name_outputs(output), scope.extras
        if extras is not None:
            generated = {**generated, **extras.generated}
        _state.pending = []
        encoded = _take_pending(encode(generated, self._detail))
        if extras is None:
            tail = self._tail(scope.mode, scope.epoch)
        else:
            _, tail = encode_outputs_and_extras(scope, None, (), self._metadata(scope.mode, scope.epoch))
        close_task(scope, now, b',"generated":' + encoded.without_pending(), tail)
        _defer_statistics(scope, "generated", encoded)

    def _prepare_first_forward(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        super()._prepare_first_forward(parent, module)
        self._inputs = inputs = _MeasuredInputs(module.forward)
        return inputs


class _MeasuredInputs(Inputs):
    """Inputs whose statistics are computed when they are encoded."""

    __slots__ = ()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], detail: Detail) -> bytes:
        """Encode the inputs of one call."""
        _state.pending = []
        _state.used = encoded = _take_pending(encode(self.name(args, kwargs), detail))
        return encoded.without_pending()


def _take_pending(template: bytes) -> _Encoded:
    pending, _state.pending = _state.pending, []
    return _Encoded(template, pending)


def _defer_statistics(scope: Scope, field: str, encoded: _Encoded) -> None:
    """Correct the record of a scope when the statistics of its inputs or outputs are ready."""
    pending = encoded.pending
    if not pending:
        return
    template, key = encoded.template, scope.key
    sizes = [(tensor.elements, tensor.computed.numel()) for tensor in pending]

    def create_correction(numbers: list[float]) -> Correction:
        left = iter(numbers)
        fields = [_fields(list(islice(left, count)), elements) for elements, count in sizes]
        complete = _PLACEHOLDER.sub(lambda match: fields[int(match[1])], template)
        corrected: dict[str, Any] = {field: msgspec.Raw(complete)}
        return Correction(task_id=key, **corrected)  # type: ignore[arg-type]

    by_device: dict[torch.device, list[torch.Tensor]] = {}
    with suspended_modes():
        first = pending[0].computed.device
        for tensor in pending:
            by_device.setdefault(tensor.computed.device, []).append(tensor.computed)
        if len(by_device) > 1:  # one after the other: between devices of one kind nothing waits
            together = torch.cat([tensor.computed.to(first, non_blocking=True) for tensor in pending])
        else:
            together = torch.cat(by_device[first])
        defer(scope.parent or scope, together, create_correction)


# -- one tensor ---------------------------------------------------------------------------------------------


def compute_statistics(tensor: torch.Tensor) -> torch.Tensor:
    """Compute the statistics of a tensor on its device, where they stay.

    Returns
    -------
    torch.Tensor
        Six numbers: minimum, maximum and mean of the finite elements, and the counts of zeros, NaNs and
        infinities. If no element is finite, the first three are inf, -inf and NaN.
    """
    elements = tensor.detach()
    if elements.is_complex():
        elements = elements.abs()
    if elements.element_size() == 1:  # torch defines few operations for numbers of eight bits
        elements = elements.to(torch.float32)
    wide = widest_float(elements.device)
    finite = torch.isfinite(elements)
    numbers = [
        torch.where(finite, elements, float("inf")).amin(),
        torch.where(finite, elements, float("-inf")).amax(),
        torch.where(finite, elements, 0.0).sum(dtype=wide) / finite.sum(),
        (elements == 0).sum(),
        torch.isnan(elements).sum(),
        torch.isinf(elements).sum(),
    ]
    return torch.stack([number.to(wide) for number in numbers])


def describe_statistics(numbers: Sequence[float], elements: int) -> dict[str, Any]:
    """Return the numbers of :func:`compute_statistics` by name, for a tensor of so many elements."""
    least, most, mean, zeros, nans, infinities = numbers
    finite = elements > nans + infinities
    return {
        "min": least if finite else None,
        "max": most if finite else None,
        "mean": mean if finite else None,
        "zero_share": zeros / elements,
        "nan_count": int(nans),
        "inf_count": int(infinities),
    }


def _fields(numbers: Sequence[float], elements: int) -> bytes:
    """Encode what a device computed: the part of a tensor's JSON that holds it."""
    pieces, statistics = numbers[: bit_sum.PIECES], numbers[bit_sum.PIECES :]
    return _statistics_field(statistics, elements) + bit_sum.field(bit_sum.from_pieces(pieces))


def _statistics_field(numbers: Sequence[float], elements: int) -> bytes:
    if not numbers:
        return b""
    return b',"statistics":' + runtime.get().summarizer.encode(describe_statistics(numbers, elements))


def _with_statistics(detail: Detail) -> Detail:
    """Return a detail that adds statistics to what another describes of a tensor."""

    def measure(tensor: Any) -> msgspec.Raw:
        raw = detail.tensor(tensor)
        if not has_numbers(tensor):
            return raw
        return msgspec.Raw(bytes(raw)[:-1] + _measure(tensor) + b"}")

    def encode_mapping(named: Mapping[str, Any]) -> bytes:
        return runtime.get().summarizer.with_arrays(measure).encode_mapping(named)

    return Detail(measure, encode_mapping)


def _measure(tensor: torch.Tensor) -> bytes:
    """Return what is computed of a tensor as a part of its JSON, or a placeholder if that follows."""
    try:
        with suspended_modes():
            elements, total = tensor.numel(), bit_sum.compute(tensor)
            numbers = compute_statistics(tensor) if is_computable(tensor) else None
            if is_on_host(tensor):
                known = [] if numbers is None else numbers.tolist()
                return _statistics_field(known, elements) + bit_sum.field(int(total))
            pieces = bit_sum.to_pieces(total)
            computed = pieces if numbers is None else torch.cat([pieces, numbers])
    except Exception as error:  # no memory for it, or a kind of numbers that has no such operations
        guard.pass_on(error)
        return b',"statistics":{"not_computed":%b}' % msgspec.json.encode(type(error).__name__)
    _state.pending.append(_PendingStatistics(computed, elements))
    return b"\x00%d\x00" % (len(_state.pending) - 1)
