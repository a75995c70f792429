"""Find out which GPUs can be read on this machine, and create their probes.

Flows in: the packages that are installed, and the drivers. Flows out: one probe of kind "gpu" for the devices
of all vendors, and one for torch's allocator. If no GPU can be read, one line says why and what to install.
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
from flowprov.telemetry.probe import Probe, warn_unreadable


class LoadedAdapters(NamedTuple):
    """The adapters that could be imported, and the reasons why others could not."""

    adapters: tuple[Callable[[], DeviceProbe], ...]
    reasons: tuple[str, ...]


class GpuProbe:
    """Reads the devices of all vendors: those of NVIDIA as "0", "1", those of AMD as "amd:0", "amd:1"."""

    kind = "gpu"

    def __init__(self, probes: Sequence[DeviceProbe]) -> None:
        self._probes = tuple(probes)

    def read(self) -> dict[str, Any]:
        """Return a reading of every device, by key; a vendor's library that fails costs only its devices."""
        readings: dict[str, Any] = {}
        for probe in self._probes:
            readings.update(_read_vendor(probe))
        return readings

    def describe(self) -> dict[str, Any]:
        """Return devices and versions by vendor ("nvidia", "amd"), for the record of the machine."""
        return {
            probe.vendor.lower(): description for probe in self._probes if (description := probe.describe())
        }

    def close(self) -> None:
        """Close the vendors' libraries."""
        for probe in self._probes:
            probe.close()


def load_adapters() -> LoadedAdapters:
    """Import and return the adapters of the vendors whose packages are installed.

    Call it in the thread that starts flowprov, not in the sampler's thread: if the program forks while a
    background thread imports, the child inherits the lock of that import.
    """
    adapters: list[Callable[[], DeviceProbe]] = []
    reasons: list[str] = []
    for vendor, package, extra, importer in (
        ("NVIDIA", "nvidia-ml-py", "nvidia", _import_nvidia),
        ("AMD", "amdsmi", "amd", _import_amd),
    ):
        adapter = _import_adapter(vendor, package, extra, importer)
        if isinstance(adapter, str):
            reasons.append(adapter)
        else:
            adapters.append(adapter)
    return LoadedAdapters(tuple(adapters), tuple(reasons))


def create_gpu_probes(loaded: LoadedAdapters | None = None) -> list[Probe]:
    """Create the probes of GPUs that can read something; if none can, log one line that says why.

    Parameters
    ----------
    loaded
        What :func:`load_adapters` returned; None: it is called here.

    Returns
    -------
    list of Probe
        One of kind "gpu" (``GpuProbe``, which also has ``describe()``) if a driver answers, and one of kind
        "torch_allocator", which reads nothing until the program uses torch.
    """
    loaded = load_adapters() if loaded is None else loaded
    probes = [adapter() for adapter in loaded.adapters]
    reasons = [
        *loaded.reasons,
        *(f"{probe.vendor}: {probe.unavailable}" for probe in probes if probe.unavailable),
    ]
    for probe in probes:
        if probe.unavailable:
            probe.close()
    available = [probe for probe in probes if not probe.unavailable]
    if not available:
        guard.warn_once(
            "telemetry gpu none",
            "flowprov can read no GPU here (%s); all other telemetry goes on.",
            "; ".join(reasons),
        )
        return [TorchAllocatorProbe()]
    for reason in reasons:
        guard.logger.debug("flowprov reads no GPU of another vendor (%s).", reason)
    return [GpuProbe(available), TorchAllocatorProbe()]


def describe_gpus(probes: Sequence[Probe]) -> Mapping[str, Any]:
    """Return the description of the GPUs for the record of the machine, by vendor; empty without GPUs."""
    return next((probe.describe() for probe in probes if isinstance(probe, GpuProbe)), {})


def _read_vendor(probe: DeviceProbe) -> dict[str, Any]:
    try:
        return probe.read()
    except Exception as error:  # the other vendors' devices are still read
        warn_unreadable("gpu", f"the devices of {probe.vendor}", error)
        return {}


def _import_adapter(
    vendor: str, package: str, extra: str, importer: Callable[[], Callable[[], DeviceProbe]]
) -> Callable[[], DeviceProbe] | str:
    """Return an adapter, or the reason why there is none."""
    try:
        return importer()
    except ModuleNotFoundError:
        return f'{vendor}: {package} is not installed: pip install "flowprov[{extra}]"'
    except Exception as error:  # amdsmi without ROCm may raise any exception
        return f"{vendor}: {package} cannot be used here ({type(error).__name__}: {error})"


def _import_nvidia() -> Callable[[], DeviceProbe]:
    from flowprov.telemetry.gpu.nvidia import NvidiaProbe

    return NvidiaProbe


def _import_amd() -> Callable[[], DeviceProbe]:
    with _silenced():  # amdsmi prints into the program's output that it cannot find ROCm
        from flowprov.telemetry.gpu.amd import AmdProbe

    return AmdProbe


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppress what this thread prints; other threads print as before."""
    before = sys.stdout
    if before is None:  # a program without a console
        yield
        return
    with contextlib.redirect_stdout(_SilencedOutput(before)):
        yield


class _SilencedOutput(io.TextIOBase):
    """A standard output that drops what one thread writes."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            self._output.write(text)
        return len(text)

    def flush(self) -> None:
        self._output.flush()
