"""What the host and the process do, by Linux's procfs; see proc(5).

Flows in: the kernel's counters. Flows out: readings by kind. Counters that only grow are kept as such, so
that the difference between two readings is what went on between them; what can be worked out of others is
left to reading. Numbers of the host are those of the whole machine, inside a container too; those of
``process`` are this process's alone.

Files are kept open, and read without handing over Python's lock: beside a busy thread each time that it is
handed over costs more than the reading, and takes it from the program (see docs/explanation).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from flowprov.telemetry.probe import CompositeProbe, Part, Probe

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()
_SECTOR = 512  # of diskstats, whatever those of the device are; Documentation/admin-guide/iostats.rst
# Guests are in user.
_CPU_TIMES = ("user_s", "nice_s", "system_s", "idle_s", "iowait_s", "irq_s", "softirq_s", "steal_s")
_IDLE, _IOWAIT = 3, 4  # places in these
_LARGEST = 1 << 14  # bytes that are read at once
_SURELY_ALL = (
    2048  # bytes: the kernel gives less than a page only where no further line fits, or none is left
)


class File:
    """A file of procfs that is read again and again.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    OSError
        If it cannot be opened, or read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._buffer: Any = ctypes.create_string_buffer(_LARGEST)
        self._lock = threading.Lock()  # exact readings come from any thread

    def read(self) -> bytes:
        """Read what it holds now."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._identity = _identity(self._descriptor)
            held = b""
            while (size := _pread(self._descriptor, self._buffer, _LARGEST, len(held))) > 0:
                held += self._buffer[:size]
                if size < _SURELY_ALL:
                    break
            if size < 0:
                number = ctypes.get_errno()
                self.close()  # it is opened anew the next time
                raise OSError(number, os.strerror(number), self._path)
            return held

    def close(self) -> None:
        """Close it, unless somebody closed all descriptors and the number is another file's by now."""
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            if descriptor is not None and _identity(descriptor) == self._identity:
                os.close(descriptor)

    __del__ = close  # a forked child makes files of its own: those of its parent tell of the parent


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


_library = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL it keeps Python's lock
_pread = _library.pread64 if hasattr(_library, "pread64") else _library.pread
_pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_pread.restype = ctypes.c_ssize_t


def cpu() -> Probe:
    """Make the probe of the processors."""
    stat = File("/proc/stat")

    def times() -> dict[str, Any]:
        cores = []
        total: list[int] = []
        for line in stat.read().split(b"\n"):
            if not line.startswith(b"cpu"):
                break
            spent = list(map(int, line.split()[1 : 1 + len(_CPU_TIMES)]))
            if total:
                cores.append(round((sum(spent) - spent[_IDLE] - spent[_IOWAIT]) / _TICKS, 2))
            else:
                total = spent
        told: dict[str, Any] = dict(zip(_CPU_TIMES, [ticks / _TICKS for ticks in total], strict=False))
        told["per_core_busy_s"] = cores
        return told

    return CompositeProbe("cpu", {"times": times}, {"frequency": _frequency()})


def mem() -> Probe:
    """Make the probe of the memory."""
    meminfo = File("/proc/meminfo")

    def memory() -> dict[str, int]:
        text = meminfo.read()
        total = _number(text, b"MemTotal:", 1024)
        told = {"total_bytes": total, "free_bytes": _number(text, b"\nMemFree:", 1024)}
        if b"\nMemAvailable:" in text:  # since Linux 3.14
            available = _number(text, b"\nMemAvailable:", 1024)
            told["available_bytes"], told["used_bytes"] = available, total - available
        return told

    return CompositeProbe("mem", {"memory": memory})


def swap() -> Probe:
    """Make the probe of the swap space."""
    meminfo, vmstat = File("/proc/meminfo"), File("/proc/vmstat")

    def space() -> dict[str, int]:
        text = meminfo.read()
        total = _number(text, b"\nSwapTotal:", 1024)
        return {"total_bytes": total, "used_bytes": total - _number(text, b"\nSwapFree:", 1024)}

    def traffic() -> dict[str, int]:
        text = vmstat.read()
        return {
            "in_bytes": _number(text, b"\npswpin ", _PAGE),
            "out_bytes": _number(text, b"\npswpout ", _PAGE),
        }

    return CompositeProbe("swap", {}, {"space": space, "traffic": traffic})


def disk() -> Probe:
    """Make the probe of the disks, all together; what lies on top of others is not counted twice."""
    known: dict[bytes, bool] = {}

    def counters(text: bytes) -> dict[str, int] | None:
        sums = [0] * 5
        found = False
        for line in text.split(b"\n"):
            fields = line.split()
            if not fields:
                continue
            name = fields[2]
            is_disk = known.get(name)
            if is_disk is None:
                is_disk = known[name] = _is_disk(name.decode())
            if is_disk:
                found = True
                for place, field in enumerate((5, 9, 3, 7, 12)):
                    sums[place] += int(fields[field])
        if not found:
            return None
        read, written, reads, writes, busy = sums
        return {
            "read_bytes": read * _SECTOR,
            "write_bytes": written * _SECTOR,
            "read_count": reads,
            "write_count": writes,
            "busy_ms": busy,
        }

    return CompositeProbe("disk", {"counters": _of(File("/proc/diskstats"), counters)})


def network() -> Probe:
    """Make the probe of the network interfaces, all together but for the loopback."""

    def counters(text: bytes) -> dict[str, int] | None:
        sums = [0] * 8
        for line in text.split(b"\n")[2:]:
            name, _, fields = line.partition(b":")
            if fields and name.strip() != b"lo":
                counts = list(map(int, fields.split()))
                for place in range(4):
                    sums[place] += counts[place]
                    sums[4 + place] += counts[8 + place]
        received, packets_in, errors_in, dropped_in, sent, packets_out, errors_out, dropped_out = sums
        return {
            "sent_bytes": sent,
            "received_bytes": received,
            "sent_packets": packets_out,
            "received_packets": packets_in,
            "errors": errors_in + errors_out,
            "dropped": dropped_in + dropped_out,
        }

    return CompositeProbe("network", {"counters": _of(File("/proc/net/dev"), counters)})


def process() -> Probe:
    """Make the probe of this process; a forked child needs its own."""
    stat, traffic = File("/proc/self/stat"), File("/proc/self/io")

    def status() -> dict[str, float]:
        fields = stat.read().rpartition(b")")[2].split(None, 22)
        return {
            "user_s": int(fields[11]) / _TICKS,
            "system_s": int(fields[12]) / _TICKS,
            "threads": int(fields[17]),
            "rss_bytes": int(fields[21]) * _PAGE,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    def input_and_output() -> dict[str, int]:
        text = traffic.read()
        return {
            "read_bytes": _number(text, b"\nread_bytes:", 1),
            "write_bytes": _number(text, b"\nwrite_bytes:", 1),
        }

    parts: dict[str, Part] = {"status": status, "input and output": input_and_output}
    return CompositeProbe("process", parts, {"file descriptors": _descriptors})


KINDS: Mapping[str, Callable[[], Probe]] = {
    "cpu": cpu,
    "mem": mem,
    "swap": swap,
    "disk": disk,
    "network": network,
    "process": process,
}
"""What makes the probe of each kind."""


def _of(file: File, told_by: Callable[[bytes], Mapping[str, Any] | None]) -> Part:
    """Make what reads a file and takes it apart, unless it holds what it held before."""
    text, told = b"", None

    def part() -> Mapping[str, Any] | None:
        nonlocal text, told
        now = file.read()
        if now != text:
            told = told_by(now)
            text = now
        return told

    return part


def _number(text: bytes, name: bytes, unit: int) -> int:
    """Give the number behind a name."""
    _, found, behind = text.partition(name)
    if not found:
        raise LookupError(f"the kernel tells no {name.decode().strip().rstrip(':')}")
    return int(behind.split(None, 1)[0]) * unit


def _descriptors() -> dict[str, int]:
    size = os.stat("/proc/self/fd").st_size  # noqa: PTH116 - since Linux 6.2 their number
    return {"file_descriptors": size or len(os.listdir("/proc/self/fd"))}  # noqa: PTH208 - no paths are needed


def _frequency() -> Part:
    """Make what reads the mean frequency of the cores, as far as the kernel tells it."""
    policies = Path("/sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
    files = [File(str(policy)) for policy in policies]
    cpuinfo = File("/proc/cpuinfo")

    def frequency() -> dict[str, int] | None:
        told = [int(file.read()) / 1000 for file in files]  # kHz
        if not told:
            lines = cpuinfo.read().split(b"\n")
            told = [float(line.partition(b":")[2]) for line in lines if line.startswith(b"cpu MHz")]
        return {"frequency_mhz": round(fmean(told))} if told else None

    return frequency


def _is_disk(name: str) -> bool:
    """Whether a block device is a disk: no partition, and none that lies on others, as dm, md and loop do."""
    return Path("/sys/block", name.replace("/", "!"), "device").exists()
