"""Probes of the host and the process by psutil, for systems without procfs.

Flows in: the kernel's counters. Flows out: readings by kind, with the same names as those of
``procfs_probes``.

Counters that only grow are returned as they are, so that the difference of two readings covers all the time
between them. Values that can be computed from others are left to the reader. Values of the host are those of
the whole machine, inside a container too. The values of ``process`` are those of this process alone.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from flowprov.telemetry.probe import CompositeProbe, Part, Probe

# Seconds of all cores in sum, since the machine was started. The time of guests is already in "user".
_CPU_TIMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE = ("idle", "iowait")
_LOOPBACK = frozenset({"lo", "lo0"})
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2)


def cpu() -> Probe:
    """Create the probe of the processors."""
    return CompositeProbe("cpu", {"times": _cpu_times}, {"frequency": _frequency})


def mem() -> Probe:
    """Create the probe of the memory."""
    return CompositeProbe("mem", {"memory": _memory})


def swap() -> Probe:
    """Create the probe of the swap space."""
    return CompositeProbe("swap", {}, {"swap": _swap})


def disk() -> Probe:
    """Create the probe of the disks, in sum."""
    return CompositeProbe("disk", {"counters": _disk})


def network() -> Probe:
    """Create the probe of the network interfaces, in sum and without the loopback."""
    return CompositeProbe("network", {"counters": _network})


def process() -> Probe:
    """Create the probe of this process; a forked child needs its own."""
    this_process = psutil.Process()

    def times() -> dict[str, float]:
        cpu_times = this_process.cpu_times()
        return {"user_s": round(cpu_times.user, 2), "system_s": round(cpu_times.system, 2)}

    def input_and_output() -> dict[str, int]:
        counters = this_process.io_counters()
        return {"read_bytes": counters.read_bytes, "write_bytes": counters.write_bytes}

    parts: dict[str, Part] = {
        "times": times,
        "memory": lambda: {"rss_bytes": this_process.memory_info().rss},
        "peak memory": lambda: {
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        },
        "threads": lambda: {"threads": this_process.num_threads()},
        "file descriptors": lambda: {"file_descriptors": this_process.num_fds()},
    }
    if hasattr(this_process, "io_counters"):  # macOS has none
        parts["input and output"] = input_and_output
    return CompositeProbe("process", parts)


KINDS: Mapping[str, Callable[[], Probe]] = {
    "cpu": cpu,
    "mem": mem,
    "swap": swap,
    "disk": disk,
    "network": network,
    "process": process,
}
"""The function that creates the probe, by kind."""


def _cpu_times() -> dict[str, Any]:
    cores = psutil.cpu_times(percpu=True)
    names = [name for name in _CPU_TIMES if hasattr(cores[0], name)]
    busy = [name for name in names if name not in _IDLE]
    totals = {f"{name}_s": round(sum(getattr(core, name) for core in cores), 2) for name in names}
    per_core = [round(sum(getattr(core, name) for name in busy), 2) for core in cores]
    return {**totals, "per_core_busy_s": per_core}


def _frequency() -> dict[str, float] | None:
    frequency = psutil.cpu_freq()
    return None if frequency is None else {"frequency_mhz": round(frequency.current)}


def _memory() -> dict[str, int]:
    memory = psutil.virtual_memory()
    return {
        "total_bytes": memory.total,
        "available_bytes": memory.available,
        "used_bytes": memory.used,
        "free_bytes": memory.free,
    }


def _swap() -> dict[str, int]:
    space = psutil.swap_memory()
    return {
        "total_bytes": space.total,
        "used_bytes": space.used,
        "in_bytes": space.sin,
        "out_bytes": space.sout,
    }


def _disk() -> dict[str, int] | None:
    counters = psutil.disk_io_counters(nowrap=False)  # counters that jump back are returned as they are
    if counters is None:
        return None
    values = {
        "read_bytes": counters.read_bytes,
        "write_bytes": counters.write_bytes,
        "read_count": counters.read_count,
        "write_count": counters.write_count,
    }
    if hasattr(counters, "busy_time"):
        values["busy_ms"] = counters.busy_time
    return values


def _network() -> dict[str, int] | None:
    interfaces = psutil.net_io_counters(pernic=True, nowrap=False)
    counters = [nic for name, nic in interfaces.items() if name not in _LOOPBACK]
    if not counters:
        return None
    return {
        "sent_bytes": sum(nic.bytes_sent for nic in counters),
        "received_bytes": sum(nic.bytes_recv for nic in counters),
        "sent_packets": sum(nic.packets_sent for nic in counters),
        "received_packets": sum(nic.packets_recv for nic in counters),
        "errors": sum(nic.errin + nic.errout for nic in counters),
        "dropped": sum(nic.dropin + nic.dropout for nic in counters),
    }
