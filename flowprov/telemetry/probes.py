"""From the settings to the probes: which kinds are read, and what is said where one cannot be.

Flows in: the settings. Flows out: probes. What a probe needs is imported here, in the thread that captures
first: a thread that imports while the program forks leaves its child with a lock that nobody opens.
"""

from __future__ import annotations

from typing import Any

from flowprov import guard
from flowprov.settings import TelemetrySettings
from flowprov.telemetry.probe import Probe, say_missing

_HOST = ("cpu", "mem", "swap", "disk", "network", "process")


def make_probes(settings: TelemetrySettings) -> list[Probe]:
    """Make the probes of the kinds that are asked for; of one that cannot be had it is said why, once."""
    probes: list[Probe] = []
    kinds = [kind for kind in _HOST if getattr(settings, kind)]
    if kinds:
        probes += _host(kinds)
    return probes


def _host(kinds: list[str]) -> list[Probe]:
    try:
        from flowprov.telemetry import host
    except ImportError:
        guard.say_once(
            "psutil",
            'flowprov needs psutil to read %s: pip install "flowprov[telemetry]". All else is recorded.',
            ", ".join(kinds),
        )
        return []
    made: list[Probe] = []
    for kind in kinds:
        try:
            made.append(host.KINDS[kind]())
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
