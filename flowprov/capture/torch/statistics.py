"""Statistics of what the forwards of a module use and generate: how large it is, and whether it is finite.

Flows in: the tensors of a forward. Flows out: in its record, beside what each tensor of floating-point or
complex numbers is like, its ``statistics``: ``min``, ``max`` and ``mean`` of the finite elements (None where
there are none), ``zero_share``, ``nan_count``, ``inf_count``; for complex numbers, of their magnitudes.

They are computed on the tensor's own device, without reading anything there. On the CPU they stand in the
record itself; from another device they follow as a correction of it, which names inputs or outputs again,
with them.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import torch

from flowprov.capture.recorder import close_task, encode_outputs_and_extras
from flowprov.capture.torch.async_values import defer, flush_ready, is_on_host
from flowprov.capture.torch.encoding import Detail, Inputs, encode, name_outputs
from flowprov.capture.torch.hooks import CapturedModule, Forward
from flowprov.capture.torch.modes import is_computable, suspended_modes
from flowprov.records import Correction
from flowprov.runtime import runtime
from flowprov.runtime.context import Scope
from flowprov.values import Summarizer

_exc_info = sys.exc_info

# Where statistics are to follow, while a line is assembled: JSON itself never holds this byte.
_MARK = re.compile(rb"\x00(\d+)\x00")


class _Numbers(NamedTuple):
    computed: torch.Tensor
    elements: int


class _Assembled(NamedTuple):
    """Encoded inputs or outputs, with a mark in the place of each of the statistics that follow later."""

    template: bytes
    awaited: list[_Numbers]

    def without(self) -> bytes:
        """Give the JSON without what follows later."""
        return _MARK.sub(b"", self.template) if self.awaited else self.template


class _Found(threading.local):
    """What this thread has met since it began to assemble a line."""

    def __init__(self) -> None:
        self.awaited: list[_Numbers] = []
        self.used: _Assembled | None = None


_found = _Found()


class MeasuredModule(CapturedModule):
    """A captured module with statistics; the arguments are those of :class:`CapturedModule`."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._detail = _measuring(self._detail)

    def begin(self, *args: Any) -> Forward:
        """Open the scope of a forward."""
        flush_ready()
        scope = super().begin(*args)
        assembled, _found.used = _found.used, None
        if assembled is not None:
            _await(scope, "used", assembled)
        return scope

    def end(self, scope: Forward, now: int, output: Any) -> None:
        """Record a forward that returned, or raised."""
        error = _exc_info()[1]
        if error is not None and error is not scope.exc_at_start:
            super().end(scope, now, output)
            return
        scope.exc_at_start = scope.frame = None
        generated, extras = name_outputs(output), scope.extras
        if extras is not None:
            generated = {**generated, **extras.generated}
        _found.awaited = []
        assembled = _assembled(encode(generated, self._detail))
        if extras is None:
            tail = self._tail(scope.mode, scope.epoch)
        else:
            _, tail = encode_outputs_and_extras(scope, None, (), self._metadata(scope.mode, scope.epoch))
        close_task(scope, now, b',"generated":' + assembled.without(), tail)
        _await(scope, "generated", assembled)

    def _prepare(self, parent: Scope, module: torch.nn.Module) -> Inputs:
        super()._prepare(parent, module)
        self._inputs = inputs = _MeasuredInputs(module.forward)
        return inputs


class _MeasuredInputs(Inputs):
    """Inputs whose statistics are taken as they are encoded."""

    __slots__ = ()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], detail: Detail) -> bytes:
        """Encode the inputs of one call."""
        _found.awaited = []
        _found.used = assembled = _assembled(encode(self.name(args, kwargs), detail))
        return assembled.without()


def _assembled(template: bytes) -> _Assembled:
    awaited, _found.awaited = _found.awaited, []
    return _Assembled(template, awaited)


def _await(scope: Scope, field: str, assembled: _Assembled) -> None:
    """Have the record of a scope corrected when its statistics have arrived."""
    awaited = assembled.awaited
    if not awaited:
        return
    template, key, sizes = assembled.template, scope.key, [each.elements for each in awaited]

    def correct(numbers: list[float]) -> Correction:
        told = [_told(numbers[n * _SIZE : (n + 1) * _SIZE], size) for n, size in enumerate(sizes)]
        filled = _MARK.sub(lambda mark: told[int(mark[1])], template)
        given: dict[str, Any] = {field: msgspec.Raw(filled)}
        return Correction(task_id=key, **given)  # type: ignore[arg-type]

    by_device: dict[torch.device, list[torch.Tensor]] = {}
    with suspended_modes():
        first = awaited[0].computed.device
        for each in awaited:
            by_device.setdefault(each.computed.device, []).append(each.computed)
        if len(by_device) > 1:  # one after the other, which waits for nothing between devices of one kind
            together = torch.cat([each.computed.to(first, non_blocking=True) for each in awaited])
        else:
            together = torch.cat(by_device[first])
        defer(scope.parent or scope, together, correct)


# -- one tensor ---------------------------------------------------------------------------------------------

_SIZE = 6


def numbers_of(tensor: torch.Tensor) -> torch.Tensor:
    """Compute the statistics of a tensor on its device, where they stay.

    Returns
    -------
    torch.Tensor
        Minimum, maximum and mean of the finite elements, and the numbers of zeros, of NaNs and of infinities.
        Where nothing is finite the first three are inf, -inf and NaN.
    """
    elements = tensor.detach()
    if elements.is_complex():
        elements = elements.abs()
    if elements.element_size() == 1:  # few operations are defined for numbers of eight bits
        elements = elements.to(torch.float32)
    wide = torch.float32 if elements.device.type == "mps" else torch.float64
    finite = torch.isfinite(elements)
    told = [
        torch.where(finite, elements, float("inf")).amin(),
        torch.where(finite, elements, float("-inf")).amax(),
        torch.where(finite, elements, 0.0).sum(dtype=wide) / finite.sum(),
        (elements == 0).sum(),
        torch.isnan(elements).sum(),
        torch.isinf(elements).sum(),
    ]
    return torch.stack([each.to(wide) for each in told])


def describe_statistics(numbers: Sequence[float], elements: int) -> dict[str, Any]:
    """Say what the numbers of :func:`numbers_of` mean, for a tensor of so many elements."""
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


def _told(numbers: Sequence[float], elements: int) -> bytes:
    """Give the part of a tensor's JSON that tells its statistics."""
    return b',"statistics":' + runtime.get().summarizer.encode(describe_statistics(numbers, elements))


def _measuring(detail: Detail) -> Detail:
    """Give a detail that tells statistics beside what another tells."""

    def measure(tensor: Any) -> msgspec.Raw:
        raw = detail.tensor(tensor)
        if not is_computable(tensor):
            return raw
        return msgspec.Raw(bytes(raw)[:-1] + _measure(tensor) + b"}")

    def encode_mapping(named: Mapping[str, Any]) -> bytes:
        redact = runtime.get().settings.privacy.redact
        return Summarizer(redact=redact, arrays=measure).encode_mapping(named)

    return Detail(measure, encode_mapping)


def _measure(tensor: torch.Tensor) -> bytes:
    try:
        with suspended_modes():
            elements, numbers = tensor.numel(), numbers_of(tensor)
            if is_on_host(tensor):
                return _told(numbers.tolist(), elements)
    except Exception as error:  # no memory for it, or a kind of numbers that has no such operations
        return b',"statistics":{"not_computed":%b}' % msgspec.json.encode(type(error).__name__)
    _found.awaited.append(_Numbers(numbers, elements))
    return b"\x00%d\x00" % (len(_found.awaited) - 1)
