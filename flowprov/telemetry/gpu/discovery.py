"""Which probes of GPUs there are on this machine.

Flows in: the packages that are installed, and the drivers. Flows out: one probe of kind "gpu" for the devices
of all makes, and one for torch's allocator. Where no GPU can be read, one line says why and what to install.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flowprov import guard
from flowprov.telemetry.gpu.base import DeviceProbe
from flowprov.telemetry.gpu.torch_allocator import TorchAllocatorProbe
from flowprov.telemetry.probe import Probe, say_missing


class Loaded(NamedTuple):
    """The adapters that could be imported, and why others could not."""

    adapters: tuple[Callable[[], DeviceProbe], ...]
    reasons: tuple[str, ...]


class GpuProbe:
    """Reads the devices of all makes: NVIDIA's as "0", "1", AMD's as "amd:0", "amd:1"."""

    kind = "gpu"

    def __init__(self, probes: Sequence[DeviceProbe]) -> None:
        self._probes = tuple(probes)

    def read(self) -> dict[str, Any]:
        """Read every device, by its key; a make that fails as a whole takes no other with it."""
        readings: dict[str, Any] = {}
        for probe in self._probes:
            readings.update(_read(probe))
        return readings

    def describe(self) -> dict[str, Any]:
        """Give devices and versions by make ("nvidia", "amd"), for the record of the machine."""
        return {probe.vendor.lower(): found for probe in self._probes if (found := probe.describe())}

    def close(self) -> None:
        """Let go of the vendors' libraries."""
        for probe in self._probes:
            probe.close()


def load() -> Loaded:
    """Import the adapters of the makes whose packages are installed.

    Call it in the thread that starts flowprov, not in the sampler's: a program that forks while a background
    thread imports leaves its child with the lock of that import.
    """
    adapters: list[Callable[[], DeviceProbe]] = []
    reasons: list[str] = []
    for make, package, extra, importer in (
        ("NVIDIA", "nvidia-ml-py", "nvidia", _nvidia),
        ("AMD", "amdsmi", "amd", _amd),
    ):
        adapter = _import(make, package, extra, importer)
        if isinstance(adapter, str):
            reasons.append(adapter)
        else:
            adapters.append(adapter)
    return Loaded(tuple(adapters), tuple(reasons))


def gpu_probes(loaded: Loaded | None = None) -> list[Probe]:
    """Give the probes of GPUs that can read something, and say in one line if no vendor's can.

    Parameters
    ----------
    loaded
        What ``load`` gave; called here where it is left out.

    Returns
    -------
    list of Probe
        One of kind "gpu" (``GpuProbe``, which has ``describe()`` too) where a driver answers, and the one of
        kind "torch_allocator", which waits for torch.
    """
    loaded = load() if loaded is None else loaded
    probes = [adapter() for adapter in loaded.adapters]
    reasons = [*loaded.reasons, *(f"{probe.vendor}: {probe.missing}" for probe in probes if probe.missing)]
    for probe in probes:
        if probe.missing:
            probe.close()
    there = [probe for probe in probes if not probe.missing]
    if not there:
        guard.warn_once(
            "telemetry gpu none",
            "flowprov can read no GPU here (%s); all other telemetry goes on.",
            "; ".join(reasons),
        )
        return [TorchAllocatorProbe()]
    for reason in reasons:
        guard.logger.debug("flowprov reads no GPU of another make (%s).", reason)
    return [GpuProbe(there), TorchAllocatorProbe()]


def describe_gpus(probes: Sequence[Probe]) -> Mapping[str, Any]:
    """Give what the record of a machine says about its GPUs, by make; empty where none can be read."""
    return next((probe.describe() for probe in probes if isinstance(probe, GpuProbe)), {})


def _read(probe: DeviceProbe) -> dict[str, Any]:
    try:
        return probe.read()
    except Exception as error:  # the other make is still read
        say_missing("gpu", f"the devices of {probe.vendor}", error)
        return {}


def _import(
    make: str, package: str, extra: str, importer: Callable[[], Callable[[], DeviceProbe]]
) -> Callable[[], DeviceProbe] | str:
    """Give an adapter, or why there is none."""
    try:
        return importer()
    except ModuleNotFoundError:
        return f'{make}: {package} is not installed: pip install "flowprov[{extra}]"'
    except Exception as error:  # amdsmi without ROCm raises what it likes
        return f"{make}: {package} cannot be used here ({type(error).__name__}: {error})"


def _nvidia() -> Callable[[], DeviceProbe]:
    from flowprov.telemetry.gpu.nvidia import NvidiaProbe

    return NvidiaProbe


def _amd() -> Callable[[], DeviceProbe]:
    with _unprinted():  # amdsmi prints that it cannot find ROCm, into the program's own output
        from flowprov.telemetry.gpu.amd import AmdProbe

    return AmdProbe


@contextlib.contextmanager
def _unprinted() -> Iterator[None]:
    """Keep what this thread prints from the program's output; other threads print on."""
    before = sys.stdout
    if before is None:  # a program without a console
        yield
        return
    with contextlib.redirect_stdout(_Unprinted(before)):
        yield


class _Unprinted(io.TextIOBase):
    """A standard output that leaves out what one thread writes."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            self._output.write(text)
        return len(text)

    def flush(self) -> None:
        self._output.flush()
