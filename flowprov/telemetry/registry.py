"""From the settings to the probes: which kinds are read, and what is said where one cannot be.

Flows in: the settings. Flows out: probes. What a probe needs is imported here, in the thread that captures
first: a thread that imports while the program forks leaves its child with a lock that nobody opens.
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


def prepare(settings: TelemetrySettings) -> list[Callable[[], list[Probe]]]:
    """Import what the kinds need that are asked for, and give what makes their probes.

    The probes are made later, in the sampler's thread: a driver may take its time to answer, or never answer.
    Of what cannot be had it is said why, once.
    """
    makers: list[Callable[[], list[Probe]]] = []
    kinds = [kind for kind in procfs_probes.KINDS if getattr(settings, kind)]
    if kinds and (host := _host(kinds)) is not None:
        makers.append(host)
    if settings.gpu:
        makers.append(functools.partial(discovery.gpu_probes, discovery.load()))
    return makers


def _host(kinds: list[str]) -> Callable[[], list[Probe]] | None:
    if Path("/proc/self/stat").exists():
        return lambda: _make({kind: procfs_probes.KINDS[kind] for kind in kinds})
    try:
        from flowprov.telemetry import psutil_probes
    except ImportError:
        guard.warn_once(
            "psutil",
            'flowprov needs psutil to read %s: pip install "flowprov[telemetry]". All else is recorded.',
            ", ".join(kinds),
        )
        return None
    return lambda: _make({kind: psutil_probes.KINDS[kind] for kind in kinds})


def _make(makers: Mapping[str, Callable[[], Probe]]) -> list[Probe]:
    """Make probes; where a system hides what one of them needs, the others are made."""
    return list(read_each("the host", makers).values())


def read_all(probes: list[Probe]) -> dict[str, Any]:
    """Take one reading of each probe; a kind that fails is left out, and that is said once."""
    told = read_each("telemetry", {probe.kind: probe.read for probe in probes})
    return {kind: values for kind, values in told.items() if values}


def describe_machine(probes: list[Probe]) -> dict[str, Any]:
    """Describe what this process runs on and with."""
    made = discovery.describe_gpus(probes)
    devices = [
        {"make": make, **device} for make, found in made.items() for device in found.get("devices", ())
    ]
    drivers = {
        f"{make}_{name}": version
        for make, found in made.items()
        for name, version in found.items()
        if name != "devices"
    }
    return machine.describe_machine(devices, drivers)
