"""Probes of the host and the process on Linux, by procfs; see proc(5).

Flows in: the kernel's counters. Flows out: readings by kind.

Counters that only grow are returned as they are, so that the difference of two readings covers all the time
between them. Values that can be computed from others are left to the reader. Values of the host are those of
the whole machine, inside a container too. The values of ``process`` are those of this process alone.

The files are kept open, and are read without releasing the GIL. Beside a busy thread, each release costs more
than the reading itself, and the program pays for it (see docs/explanation).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowprov.telemetry.probe import CompositeProbe, Part, Probe

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()
_SECTOR = 512  # bytes, in diskstats and for every device; Documentation/admin-guide/iostats.rst
# The time of guests is already in user.
_CPU_TIMES = ("user_s", "nice_s", "system_s", "idle_s", "iowait_s", "irq_s", "softirq_s", "steal_s")
_IDLE, _IOWAIT = 3, 4  # indices of these times
_READ_SIZE = 1 << 14  # bytes that are read at once
# Bytes. A shorter read is the last of a file: the kernel returns less than a page only if the next line does
# not fit into the page, or if there is none.
_SHORT_READ = 2048


class ProcfsFile:
    """A file of procfs that is read repeatedly.

    Parameters
    ----------
    path
        The path of the file.

    Raises
    ------
    OSError
        By :meth:`read`, if the file cannot be opened or read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._buffer: Any = ctypes.create_string_buffer(_READ_SIZE)
        self._lock = threading.RLock()  # exact readings come from any thread

    def read(self) -> bytes:
        """Return the current content of the file."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._identity = _identity(self._descriptor)
            content = b""
            while (size := _pread(self._descriptor, self._buffer, _READ_SIZE, len(content))) > 0:
                content += self._buffer[:size]
                if size < _SHORT_READ:
                    break
            if size < 0:
                number = ctypes.get_errno()
                self.close()  # the next read opens the file anew
                raise OSError(number, os.strerror(number), self._path)
            return content

    def close(self) -> None:
        """Close the file, unless the program closed its descriptor and the number is another file's now."""
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            if descriptor is not None and _identity(descriptor) == self._identity:
                os.close(descriptor)

    __del__ = close  # a forked child opens files of its own, as its parent's files describe the parent


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


_libc = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL it does not release the GIL
_pread = _libc.pread64 if hasattr(_libc, "pread64") else _libc.pread
_pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_pread.restype = ctypes.c_ssize_t


def cpu() -> Probe:
    """Create the probe of the processors."""
    stat = ProcfsFile("/proc/stat")

    def times() -> dict[str, Any]:
        cores = []
        total: list[int] = []
        for line in stat.read().split(b"\n"):
            if not line.startswith(b"cpu"):
                break
            ticks = list(map(int, line.split()[1 : 1 + len(_CPU_TIMES)]))
            if total:
                cores.append(round((sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / _TICKS, 2))
            else:
                total = ticks
        values: dict[str, Any] = dict(zip(_CPU_TIMES, [count / _TICKS for count in total], strict=False))
        values["per_core_busy_s"] = cores
        return values

    return CompositeProbe("cpu", {"times": times}, {"frequency": _frequency()})


def mem() -> Probe:
    """Create the probe of the memory."""
    meminfo = ProcfsFile("/proc/meminfo")

    def memory() -> dict[str, int]:
        text = meminfo.read()
        total = _parse_number(text, b"MemTotal:", 1024)
        values = {"total_bytes": total, "free_bytes": _parse_number(text, b"\nMemFree:", 1024)}
        if b"\nMemAvailable:" in text:  # since Linux 3.14
            available = _parse_number(text, b"\nMemAvailable:", 1024)
            values["available_bytes"], values["used_bytes"] = available, total - available
        return values

    return CompositeProbe("mem", {"memory": memory})


def swap() -> Probe:
    """Create the probe of the swap space."""
    meminfo, vmstat = ProcfsFile("/proc/meminfo"), ProcfsFile("/proc/vmstat")

    def space() -> dict[str, int]:
        text = meminfo.read()
        total = _parse_number(text, b"\nSwapTotal:", 1024)
        return {"total_bytes": total, "used_bytes": total - _parse_number(text, b"\nSwapFree:", 1024)}

    def traffic() -> dict[str, int]:
        text = vmstat.read()
        return {
            "in_bytes": _parse_number(text, b"\npswpin ", _PAGE),
            "out_bytes": _parse_number(text, b"\npswpout ", _PAGE),
        }

    return CompositeProbe("swap", {}, {"space": space, "traffic": traffic})


def disk() -> Probe:
    """Create the probe of the disks, in sum; devices that lie on top of disks are not counted again."""
    disks: dict[bytes, bool] = {}  # whether a device is a disk, by its name

    def counters(text: bytes) -> dict[str, int] | None:
        sums = [0] * 5
        found = False
        for line in text.split(b"\n"):
            fields = line.split()
            if not fields:
                continue
            name = fields[2]
            is_disk = disks.get(name)
            if is_disk is None:
                is_disk = disks[name] = _is_disk(name.decode())
            if is_disk:
                found = True
                for index, field in enumerate((5, 9, 3, 7, 12)):
                    sums[index] += int(fields[field])
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

    return CompositeProbe("disk", {"counters": _parse_on_change(ProcfsFile("/proc/diskstats"), counters)})


def network() -> Probe:
    """Create the probe of the network interfaces, in sum and without the loopback."""

    def counters(text: bytes) -> dict[str, int] | None:
        sums = [0] * 8
        for line in text.split(b"\n")[2:]:
            name, _, fields = line.partition(b":")
            if fields and name.strip() != b"lo":
                counts = list(map(int, fields.split()))
                for index in range(4):
                    sums[index] += counts[index]
                    sums[4 + index] += counts[8 + index]
        received, packets_in, errors_in, dropped_in, sent, packets_out, errors_out, dropped_out = sums
        return {
            "sent_bytes": sent,
            "received_bytes": received,
            "sent_packets": packets_out,
            "received_packets": packets_in,
            "errors": errors_in + errors_out,
            "dropped": dropped_in + dropped_out,
        }

    return CompositeProbe("network", {"counters": _parse_on_change(ProcfsFile("/proc/net/dev"), counters)})


def process() -> Probe:
    """Create the probe of this process; a forked child needs its own."""
    stat, traffic = ProcfsFile("/proc/self/stat"), ProcfsFile("/proc/self/io")

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
            "read_bytes": _parse_number(text, b"\nread_bytes:", 1),
            "write_bytes": _parse_number(text, b"\nwrite_bytes:", 1),
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
"""The function that creates the probe, by kind."""


def _parse_on_change(file: ProcfsFile, parse: Callable[[bytes], Mapping[str, Any] | None]) -> Part:
    """Return a part that reads a file, and parses it only if its content has changed."""
    text, values = b"", None

    def part() -> Mapping[str, Any] | None:
        nonlocal text, values
        now = file.read()
        if now != text:
            values = parse(now)
            text = now
        return values

    return part


def _parse_number(text: bytes, name: bytes, unit: int) -> int:
    """Return the number after a name, times a unit."""
    _, found, rest = text.partition(name)
    if not found:
        raise LookupError(f"the kernel does not report {name.decode().strip().rstrip(':')}")
    return int(rest.split(None, 1)[0]) * unit


def _descriptors() -> dict[str, int]:
    size = os.stat("/proc/self/fd").st_size  # noqa: PTH116 - the number of descriptors, since Linux 6.2
    return {"file_descriptors": size or len(os.listdir("/proc/self/fd"))}  # noqa: PTH208 - no paths are needed


def _frequency() -> Part:
    """Return a part that reads the mean frequency of the cores, if the kernel reports it."""
    policies = Path("/sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
    files = [ProcfsFile(str(policy)) for policy in policies]
    cpuinfo = ProcfsFile("/proc/cpuinfo")

    def frequency() -> dict[str, int] | None:
        megahertz = [int(file.read()) / 1000 for file in files]  # the files hold kHz
        if not megahertz:
            lines = cpuinfo.read().split(b"\n")
            megahertz = [float(line.partition(b":")[2]) for line in lines if line.startswith(b"cpu MHz")]
        return {"frequency_mhz": round(sum(megahertz) / len(megahertz))} if megahertz else None

    return frequency


def _is_disk(name: str) -> bool:
    """Whether a block device is a disk, so no partition and no device on top of others (dm, md, loop)."""
    return Path("/sys/block", name.replace("/", "!"), "device").exists()
