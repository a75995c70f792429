"""Liveness: whether the process that writes a journal is still there.

Flows in: a journal's file and header. Flows out: yes or no. A reader that finds an open scope in a journal
needs the answer, to tell RUNNING from INTERRUPTED.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flowprov.clock import wall_ns
from flowprov.journal.folders import open_no_link
from flowprov.journal.interruptions import pass_on
from flowprov.regular_files import open_regular
from flowprov.values import as_name

if TYPE_CHECKING:
    from flowprov.records import Header

_GONE_AFTER = 3  # heartbeats
_LOCK_TRIES = 50
_MAX_SKEW_NS = 3600 * 1_000_000_000  # clocks of hosts and of file servers differ


def host_name() -> str:
    """Return the name of this host, as headers have it."""
    return as_name(socket.gethostname(), "")


def process_start(pid: int | str = "self") -> str | None:
    """Return the start of a process in clock ticks since boot; it tells two processes with one pid apart.

    Source: field 22 of ``/proc/<pid>/stat``, ``proc_pid_stat(5)``.
    """
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError as error:
        pass_on(error)
        return None
    # Not read as text: that imports a module of the codec, and the importer swallows what a handler raises.
    return data.rpartition(b")")[2].split()[19].decode()


def writer_is_gone(path: Path, header: Header, last_sign: int) -> bool:
    """Whether the writer of a journal without a footer is gone.

    Parameters
    ----------
    path
        The journal.
    header
        Its first record.
    last_sign
        Wall clock time of its last record, in nanoseconds.

    Notes
    -----
    The lock that a writer holds gives the answer at once, on every host that shares the lock. Where locks do
    not work, the pid and its start decide on this host, and elsewhere the age of the last record: the writer
    is gone if that is older than three heartbeats. For a replica of a journal on another machine, the process
    that fetches it sets the time until which its writer counts as there.
    """
    if is_writer_expected(path):
        return False
    locked = _is_locked(path)
    if locked is not None:
        return not locked
    if header.hostname == host_name() and Path("/proc/self/stat").exists():
        return process_start(header.pid) != header.process_started_at
    return is_long_silent(header, last_sign)


def is_gone_for_sure(path: Path, header: Header) -> bool:
    """Whether the writer of a journal without a footer is known to be gone, and not only silent."""
    if is_writer_expected(path):
        return False
    locked = _is_locked(path)
    if locked is not None:
        return not locked
    is_here = header.hostname == host_name() and Path("/proc/self/stat").exists()
    return is_here and process_start(header.pid) != header.process_started_at


def is_recent(at: int, seconds: float) -> bool:
    """Whether a wall clock time, in nanoseconds, is not further away than some seconds."""
    return abs(wall_ns() - at) < seconds * 1e9


def is_long_silent(header: Header, last_sign: int) -> bool:
    """Whether a writer that cannot be asked has been silent for three heartbeats.

    A sign of life from the future says nothing of now: the clock of its host was wrong.
    """
    return abs(wall_ns() - last_sign) > _GONE_AFTER * header.heartbeat_s * 1e9


def hold_lock(descriptor: int) -> bool:
    """Lock a journal for its writer, as far as the file system can, until the descriptor is closed.

    Returns
    -------
    bool
        False if another process holds the lock. True also where locks do not work: there, readers look at the
        pid and the heartbeats instead.
    """
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # noqa: PERF203 - at most a few times
            pass_on(error)
            if not isinstance(error, BlockingIOError):
                return True
            time.sleep(0.001)  # a reader may be trying the lock: it releases it at once
        else:
            return True
    return False


def expect_writer_until(path: Path, seconds: float) -> None:
    """Set the mark of a replica: its writer counts as there for so many seconds; 0 if it is gone.

    The mark is a file beside the replica, whose modification time is the end of that time. The time of the
    replica itself says nothing: a clock may be wrong, and copying may set any time. A file without a mark is
    no replica, or one that is finished: it gets none.

    Raises
    ------
    OSError
        If the mark belongs to another user.
    """
    with contextlib.suppress(FileNotFoundError):
        until = wall_ns() + int(seconds * 1e9) if seconds > 0 else 0
        os.utime(_mark_of(path), ns=(until, until), follow_symlinks=False)


def mark_replica(path: Path, mode: int) -> None:
    """Mark a replica that is about to be created, so that it can grow.

    Raises
    ------
    OSError
        If that fails, or something else is there.
    """
    os.close(open_no_link(_mark_of(path), os.O_WRONLY | os.O_CREAT, mode))
    expect_writer_until(path, 0)


def may_grow(path: Path) -> bool:
    """Whether a file is a replica that is not finished."""
    try:
        return stat.S_ISREG(_mark_of(path).lstat().st_mode)
    except OSError:
        return False


def finish_replica(path: Path) -> None:
    """Take the mark off a replica that is complete: nobody changes it from now on."""
    with contextlib.suppress(OSError):  # then the next chunk finds it finished
        _mark_of(path).unlink()


def is_writer_expected(path: Path) -> bool:
    """Whether a journal is a replica to which more may be added."""
    try:
        mark = _mark_of(path).lstat()
    except OSError:
        return False
    # Who sets the time of a file cannot set when that was done: a mark from the future is none.
    now = wall_ns()
    return mark.st_mtime_ns > now and mark.st_ctime_ns < now + _MAX_SKEW_NS


def _mark_of(replica: Path) -> Path:
    return replica.with_suffix(".replica")


def _is_locked(path: Path) -> bool | None:
    """Whether a process holds the lock of a journal; None where locks do not work."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)
