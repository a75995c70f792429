"""The scoreboard: shared memory in which a process tells its children which scopes are over.

Flows in: scopes that children inherited, as they end, and the workflow that is open now. Flows out: the same,
read by the children whenever they need it, without a system call.

A worker of a pool outlives the workflow in which the pool began. Nothing tells it so: its work items come
through queues of libraries that know no workflows. It asks the scoreboard of its parent instead. The memory
is an anonymous file of Linux (``memfd``). A child opens it through ``/proc``; when the process ends it is
gone. Where there is no such file, children take what they inherited for open.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from typing import Any

import msgspec

from flowprov.journal.own_file import FileTaken, map_shared

_MAGIC = b"flowprov"
_ID_BYTES = 16
_VERSION_AT = len(_MAGIC) + _ID_BYTES  # grows with every change; odd while the text behind it changes
_TEXT_AT = _VERSION_AT + 8
_SLOTS_AT = 4096  # one byte for each scope that children inherited
_OVER = 1
_MAX_TEXT = _SLOTS_AT - _TEXT_AT - 4
_MAX_TRIES = 100


class Address(msgspec.Struct, frozen=True, array_like=True):
    """Where another process finds a scoreboard, and the roll that belongs to it; "" for none."""

    path: str
    id: str
    roll: str = ""


class Scoreboard:
    """The scoreboard that this process writes.

    Raises
    ------
    OSError, AttributeError
        If the system has no anonymous files.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("flowprov")
        self._identity = _identity(self._file)
        self._map = self._mapped(2 * _SLOTS_AT)
        self._slots = 0
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may come here, too
        identity = os.urandom(_ID_BYTES)
        self._map[: len(_MAGIC) + _ID_BYTES] = _MAGIC + identity
        self.address = Address(f"/proc/{os.getpid()}/fd/{self._file}", identity.hex())
        self.publish(None)

    def is_reachable(self) -> bool:
        """Whether other processes can open the memory: the program may have closed its descriptor."""
        try:
            return _identity(self._file) == self._identity
        except OSError:
            return False

    def new_slot(self) -> int:
        """Return the slot of a scope that children inherit. It says that the scope is open.

        Raises
        ------
        OSError
            If the memory cannot grow.
        """
        with self._lock:
            if _SLOTS_AT + self._slots >= len(self._map):
                self._map = self._mapped(2 * len(self._map))
            self._slots += 1
            return self._slots - 1

    def mark_over(self, slot: int) -> None:
        """Say that the scope of a slot is over; do nothing in a forked child."""
        if self._pid != os.getpid():  # it inherited the memory, but not the scope
            return
        with self._lock:
            self._map[_SLOTS_AT + slot] = _OVER
            self._write_version(self._version() + 2)

    def publish(self, workflow: Any) -> None:
        """Say which workflow is open now, in a form that JSON holds; None if none is."""
        if self._pid != os.getpid():
            return
        text = msgspec.json.encode(workflow)
        if len(text) > _MAX_TEXT:
            text = b"null"
        with self._lock:
            version = self._version()
            self._write_version(version + 1)
            self._map[_TEXT_AT : _TEXT_AT + 4 + len(text)] = len(text).to_bytes(4, "little") + text
            self._write_version(version + 2)

    def view(self) -> ScoreboardView:
        """Return a view for a forked child, which shares the memory."""
        return ScoreboardView(self._map, self.address)

    def _version(self) -> int:
        return int.from_bytes(self._map[_VERSION_AT:_TEXT_AT], "little")

    def _write_version(self, version: int) -> None:
        self._map[_VERSION_AT:_TEXT_AT] = version.to_bytes(8, "little")

    def _mapped(self, size: int) -> mmap.mmap:
        if not self.is_reachable():
            raise FileTaken(self.address.path)
        os.ftruncate(self._file, size)
        return map_shared(self._file, size)


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


class ScoreboardView:
    """The scoreboard of another process, as this one reads it."""

    def __init__(self, memory: mmap.mmap, address: Address) -> None:
        self._map = memory
        self.address = address

    def version(self) -> bytes:
        """Return what differs whenever the other methods may answer differently."""
        return self._map[_VERSION_AT:_TEXT_AT]

    def is_over(self, slot: int) -> bool:
        """Whether the scope of a slot is over."""
        return self._map[_SLOTS_AT + slot] == _OVER

    def workflow(self) -> Any:
        """Return the workflow that is open now; None if none is."""
        for _ in range(_MAX_TRIES):
            before = self._map[_VERSION_AT:_TEXT_AT]
            length = int.from_bytes(self._map[_TEXT_AT : _TEXT_AT + 4], "little")
            text = self._map[_TEXT_AT + 4 : _TEXT_AT + 4 + length]
            if self._map[_VERSION_AT:_TEXT_AT] == before and before[0] % 2 == 0:
                return msgspec.json.decode(text)
        return None  # its writer died while it wrote


def open_view(address: Address) -> ScoreboardView | None:
    """Open the scoreboard of another process; return None if that process, or the way to it, is gone."""
    try:
        # The number of the file may belong to another one by now: a pipe must not block, the id must fit.
        file = os.open(address.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size < _SLOTS_AT:
            return None
        memory = mmap.mmap(file, status.st_size, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
    expected = _MAGIC + bytes.fromhex(address.id)
    return ScoreboardView(memory, address) if memory[: len(expected)] == expected else None
