"""Create the probes that the settings ask for, and read them.

Flows in: the settings. Flows out: probes, and their readings. If a probe cannot be had, one warning says why.

The libraries that probes need are imported here, in the thread that captures first. If a background thread
imported them while the program forks, the child would inherit an import lock that nobody releases.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.settings import TelemetrySettings
from flowprov.telemetry import machine, procfs_probes
from flowprov.telemetry.gpu import discovery
from flowprov.telemetry.probe import Probe, read_each


def load_factories(settings: TelemetrySettings) -> list[Callable[[], list[Probe]]]:
    """Import what the requested kinds need, and return the functions that create their probes.

    The sampler's thread calls these functions later, as a driver may answer slowly or never.
    """
    factories: list[Callable[[], list[Probe]]] = []
    kinds = [kind for kind in procfs_probes.KINDS if getattr(settings, kind)]
    if kinds and (host := _host_factory(kinds)) is not None:
        factories.append(host)
    if settings.gpu:
        factories.append(functools.partial(discovery.create_gpu_probes, discovery.load_adapters()))
    return factories


def _host_factory(kinds: list[str]) -> Callable[[], list[Probe]] | None:
    if Path("/proc/self/stat").exists():
        return lambda: _create_probes({kind: procfs_probes.KINDS[kind] for kind in kinds})
    try:
        from flowprov.telemetry import psutil_probes
    except ImportError:
        guard.warn_once(
            "psutil",
            'flowprov needs psutil to read %s: pip install "flowprov[telemetry]". The rest is recorded.',
            ", ".join(kinds),
        )
        return None
    return lambda: _create_probes({kind: psutil_probes.KINDS[kind] for kind in kinds})


def _create_probes(factories: Mapping[str, Callable[[], Probe]]) -> list[Probe]:
    """Return the probes that could be created; a system may hide what one of them needs."""
    return list(read_each("the host", factories).values())


def read_all(probes: list[Probe]) -> dict[str, Any]:
    """Return one reading of each probe, by kind; a kind that fails is left out and logged once."""
    readings = read_each("telemetry", {probe.kind: probe.read for probe in probes})
    return {kind: values for kind, values in readings.items() if values}


def machine_values(probes: list[Probe]) -> dict[str, Any]:
    """Return the values of a `Machine` record: what this process runs on, and its software."""
    by_vendor = discovery.describe_gpus(probes)
    devices = [
        {"make": vendor, **device}
        for vendor, description in by_vendor.items()
        for device in description.get("devices", ())
    ]
    drivers = {
        f"{vendor}_{name}": version
        for vendor, description in by_vendor.items()
        for name, version in description.items()
        if name != "devices"
    }
    return machine.describe_machine(devices, drivers)
