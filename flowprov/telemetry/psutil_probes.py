"""What the host and the process do, by psutil: on systems without Linux's procfs.

Flows in: the kernel's counters. Flows out: readings by kind. Counters that only grow are kept as such, so
that the difference between two readings is what went on between them; what can be worked out of others is
left to reading. Numbers of the host are those of the whole machine, inside a container too; those of
``process`` are this process's alone.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from flowprov.telemetry.probe import CompositeProbe, Part, Probe

# Seconds of all cores together, since the machine was started; guests are in "user" already.
_CPU_TIMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE = ("idle", "iowait")
_LOOPBACK = frozenset({"lo", "lo0"})
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2)


def cpu() -> Probe:
    """Make the probe of the processors."""
    return CompositeProbe("cpu", {"times": _cpu_times}, {"frequency": _frequency})


def mem() -> Probe:
    """Make the probe of the memory."""
    return CompositeProbe("mem", {"memory": _memory})


def swap() -> Probe:
    """Make the probe of the swap space."""
    return CompositeProbe("swap", {}, {"swap": _swap})


def disk() -> Probe:
    """Make the probe of the disks, all together."""
    return CompositeProbe("disk", {"counters": _disk})


def network() -> Probe:
    """Make the probe of the network interfaces, all together but for the loopback."""
    return CompositeProbe("network", {"counters": _network})


def process() -> Probe:
    """Make the probe of this process; a forked child needs its own."""
    seen = psutil.Process()

    def times() -> dict[str, float]:
        spent = seen.cpu_times()
        return {"user_s": round(spent.user, 2), "system_s": round(spent.system, 2)}

    def input_and_output() -> dict[str, int]:
        counters = seen.io_counters()
        return {"read_bytes": counters.read_bytes, "write_bytes": counters.write_bytes}

    parts: dict[str, Part] = {
        "times": times,
        "memory": lambda: {"rss_bytes": seen.memory_info().rss},
        "peak memory": lambda: {
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        },
        "threads": lambda: {"threads": seen.num_threads()},
        "file descriptors": lambda: {"file_descriptors": seen.num_fds()},
    }
    if hasattr(seen, "io_counters"):  # macOS has none
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
"""What makes the probe of each kind."""


def _cpu_times() -> dict[str, Any]:
    cores = psutil.cpu_times(percpu=True)
    names = [name for name in _CPU_TIMES if hasattr(cores[0], name)]
    busy = [name for name in names if name not in _IDLE]
    summed = {f"{name}_s": round(sum(getattr(core, name) for core in cores), 2) for name in names}
    per_core = [round(sum(getattr(core, name) for name in busy), 2) for core in cores]
    return {**summed, "per_core_busy_s": per_core}


def _frequency() -> dict[str, float] | None:
    told = psutil.cpu_freq()
    return None if told is None else {"frequency_mhz": round(told.current)}


def _memory() -> dict[str, int]:
    told = psutil.virtual_memory()
    return {
        "total_bytes": told.total,
        "available_bytes": told.available,
        "used_bytes": told.used,
        "free_bytes": told.free,
    }


def _swap() -> dict[str, int]:
    told = psutil.swap_memory()
    return {"total_bytes": told.total, "used_bytes": told.used, "in_bytes": told.sin, "out_bytes": told.sout}


def _disk() -> dict[str, int] | None:
    told = psutil.disk_io_counters(nowrap=False)  # a counter that jumps back is told as it is
    if told is None:
        return None
    values = {
        "read_bytes": told.read_bytes,
        "write_bytes": told.write_bytes,
        "read_count": told.read_count,
        "write_count": told.write_count,
    }
    if hasattr(told, "busy_time"):
        values["busy_ms"] = told.busy_time
    return values


def _network() -> dict[str, int] | None:
    interfaces = psutil.net_io_counters(pernic=True, nowrap=False)
    told = [counters for name, counters in interfaces.items() if name not in _LOOPBACK]
    if not told:
        return None
    return {
        "sent_bytes": sum(each.bytes_sent for each in told),
        "received_bytes": sum(each.bytes_recv for each in told),
        "sent_packets": sum(each.packets_sent for each in told),
        "received_packets": sum(each.packets_recv for each in told),
        "errors": sum(each.errin + each.errout for each in told),
        "dropped": sum(each.dropin + each.dropout for each in told),
    }
