"""The probe of torch's memory allocator on GPUs.

Flows in: the counters that the allocator keeps anyway. Flows out: for each device ("cuda:0", "xpu:0") how
much memory is allocated by tensors and reserved by torch, now and at most so far. torch is never imported
here, no device is started or waited for, and the program's own peaks are never reset. Devices that torch has
not used are left out.

Apple's GPUs (``torch.mps``) are left out: torch does not say whether they were started, and asking may start
them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

_READINGS = {
    "allocated_bytes": ("allocated_bytes", "current"),
    "reserved_bytes": ("reserved_bytes", "current"),
    "peak_allocated_bytes": ("allocated_bytes", "peak"),
    "peak_reserved_bytes": ("reserved_bytes", "peak"),
}


def initialized_backends() -> Iterator[tuple[str, Any]]:
    """Give the parts of torch whose devices the program has started, with their names ("cuda", "xpu").

    ROCm's devices are torch's "cuda" too.
    """
    torch = sys.modules.get("torch")
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        # While another thread imports torch, its parts are there before what they hold.
        is_initialized = getattr(backend, "is_initialized", None)
        if is_initialized is not None and is_initialized():
            yield name, backend


class TorchAllocatorProbe:
    """Reads how much memory torch's allocator holds on each device that the program uses."""

    kind = "torch_allocator"

    def read(self) -> dict[str, Any]:
        """Read every device that torch has allocated on, by its name in torch."""
        readings: dict[str, Any] = {}
        for name, backend in initialized_backends():
            for index in range(backend.device_count()):
                # Public since torch 1.4; memory_stats() flattens and sorts the same, several times slower.
                statistics = backend.memory_stats_as_nested_dict(index)
                reading = _reading(statistics)
                if reading.get("peak_reserved_bytes"):
                    readings[f"{name}:{index}"] = reading
        return readings

    def close(self) -> None:
        """Nothing is held."""


def _reading(statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: statistics[counter]["all"][when]
        for name, (counter, when) in _READINGS.items()
        if counter in statistics
    }
