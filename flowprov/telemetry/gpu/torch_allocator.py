"""The probe of torch's memory allocator on GPUs.

Flows in: the counters that the allocator keeps anyway. Flows out: for each device ("cuda:0", "xpu:0") the
memory that tensors have allocated and that torch has reserved, now and at its peak. Devices that torch has
not used are left out.

The probe never imports torch, starts no device, waits for none, and does not reset the program's peaks.
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
    """Yield the backends of torch whose devices the program has started, with their names ("cuda", "xpu").

    The devices of ROCm belong to torch's "cuda" too.
    """
    torch = sys.modules.get("torch")
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        # While another thread imports torch, a backend may exist before its functions do.
        is_initialized = getattr(backend, "is_initialized", None)
        if is_initialized is not None and is_initialized():
            yield name, backend


class TorchAllocatorProbe:
    """Reads how much memory torch's allocator holds on each device that the program uses."""

    kind = "torch_allocator"

    def read(self) -> dict[str, Any]:
        """Return a reading of every device that torch has allocated memory on, by its name in torch."""
        readings: dict[str, Any] = {}
        for name, backend in initialized_backends():
            for index in range(backend.device_count()):
                # Public since torch 1.4. memory_stats() returns the same, flat and sorted, but takes several
                # times as long.
                statistics = backend.memory_stats_as_nested_dict(index)
                reading = _reading(statistics)
                if reading.get("peak_reserved_bytes"):
                    readings[f"{name}:{index}"] = reading
        return readings

    def close(self) -> None:
        """Do nothing: the probe holds nothing."""


def _reading(statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: statistics[counter]["all"][when]
        for name, (counter, when) in _READINGS.items()
        if counter in statistics
    }
