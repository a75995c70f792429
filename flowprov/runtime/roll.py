"""The roll: a list in shared memory in which child processes enter the journals that they began.

Flows in, in a child: one entry for each of its journals. Flows out, in the parent: the entries that are new.
So the journals of the parent can name those of its children, also a child that could write none.

The memory is an anonymous file of Linux (``memfd``), as that of the scoreboard. A child opens it through
``/proc`` and appends one line: the kernel keeps lines of several processes apart. Where that is not possible,
the entry is missing, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import stat

import msgspec

from flowprov.journal.interruptions import pass_on
from flowprov.runtime.scoreboard import Address

_MAGIC = b"flowprov-roll"
_MAX_ENTRY = 8 * 1024
_MAX_READ = 1 << 20
_MAX_SIZE = 64 << 20  # some 200,000 entries


class RollEntry(msgspec.Struct, frozen=True, array_like=True):
    """A journal of a child.

    Attributes
    ----------
    campaign_id, journal_id, pid, hostname
        Whose journal it is.
    buffer
        The buffer folder of its settings.
    path
        Its file; "" if it has none.
    reason
        Why it has none.
    """

    campaign_id: str
    journal_id: str
    pid: int
    hostname: str
    buffer: str
    path: str
    reason: str = ""


class Roll:
    """The roll of the children of this process.

    Parameters
    ----------
    identity
        What tells it from any other file, in hexadecimal digits: that of the scoreboard.

    Raises
    ------
    OSError, AttributeError
        If the system has no anonymous files.
    """

    def __init__(self, identity: str) -> None:
        self._file = os.memfd_create("flowprov-roll")
        self._head = _head(identity)
        os.write(self._file, self._head)
        self._position = len(self._head)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"

    def new_entries(self) -> list[RollEntry]:
        """Return the entries since the last call."""
        try:
            if os.pread(self._file, len(self._head), 0) != self._head:
                return []  # the program closed the file, and the number is another one's
            data = os.pread(self._file, _MAX_READ, self._position)
        except OSError as error:
            pass_on(error)
            return []
        data = data[: data.rfind(b"\n") + 1]
        self._position += len(data)
        entries = []
        for line in data.splitlines():
            with contextlib.suppress(msgspec.MsgspecError):  # somebody else has written to it
                entries.append(msgspec.json.decode(line, type=RollEntry))
        return entries


def enter(address: Address, entry: RollEntry) -> bool:
    """Enter a journal in the roll of another process; return whether that worked."""
    line = msgspec.json.encode(entry) + b"\n"
    if not address.roll or len(line) > _MAX_ENTRY:
        return False
    try:
        # The number of the file may belong to another one by now: a pipe must not block, the id must fit.
        file = os.open(address.roll, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        pass_on(error)
        return False
    try:
        head, status = _head(address.id), os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
            return False
        return os.pread(file, len(head), 0) == head and os.write(file, line) == len(line)
    except OSError as error:
        pass_on(error)
        return False
    finally:
        os.close(file)


def _head(identity: str) -> bytes:
    return _MAGIC + bytes.fromhex(identity) + b"\n"
