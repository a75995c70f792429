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
from flowprov.telemetry import gpus, machine, procfs
from flowprov.telemetry.probe import Probe, say_missing

_HOST = ("cpu", "mem", "swap", "disk", "network", "process")


def prepare(settings: TelemetrySettings) -> list[Callable[[], list[Probe]]]:
    """Import what the kinds need that are asked for, and give what makes their probes.

    The probes are made later, in the sampler's thread: a driver may take its time to answer, or never answer.
    Of what cannot be had it is said why, once.
    """
    makers: list[Callable[[], list[Probe]]] = []
    kinds = [kind for kind in _HOST if getattr(settings, kind)]
    if kinds and (host := _host(kinds)) is not None:
        makers.append(host)
    if settings.gpu:
        makers.append(functools.partial(gpus.gpu_probes, gpus.load()))
    return makers


def _host(kinds: list[str]) -> Callable[[], list[Probe]] | None:
    if Path("/proc/self/stat").exists():
        return lambda: _made({kind: procfs.KINDS[kind] for kind in kinds})
    try:
        from flowprov.telemetry import host
    except ImportError:
        guard.say_once(
            "psutil",
            'flowprov needs psutil to read %s: pip install "flowprov[telemetry]". All else is recorded.',
            ", ".join(kinds),
        )
        return None
    return lambda: _made({kind: host.KINDS[kind] for kind in kinds})


def _made(makers: Mapping[str, Callable[[], Probe]]) -> list[Probe]:
    made: list[Probe] = []
    for kind, make in makers.items():
        try:
            made.append(make())
        except Exception as error:  # noqa: PERF203 - a system that hides /proc: the other kinds go on
            say_missing("the host", kind, error)
    return made


def read_all(probes: list[Probe]) -> dict[str, Any]:
    """Take one reading of each probe; a kind that fails is left out, and that is said once."""
    values: dict[str, Any] = {}
    for probe in probes:
        try:
            told = probe.read()
        except Exception as error:  # a probe should not, but the others' readings do not depend on it
            say_missing("telemetry", probe.kind, error)
            continue
        if told:
            known = values.get(probe.kind)
            values[probe.kind] = dict(told) if known is None else {**known, **told}
    return values


def machine_of(probes: list[Probe]) -> dict[str, Any]:
    """Describe what this process runs on and with."""
    made = gpus.describe(probes)
    devices = [
        {"make": make, **device} for make, found in made.items() for device in found.get("devices", ())
    ]
    drivers = {
        f"{make}_{name}": version
        for make, found in made.items()
        for name, version in found.items()
        if name != "devices"
    }
    return machine.describe(devices, drivers)
