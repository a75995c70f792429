"""The files by which a buffer, its writers and the process that delivers it know of each other.

Flows in: a buffer folder and the sinks to which it is delivered. Flows out: whether somebody delivers it on
this host (a lock), how far they are (a report), and where they write what troubles them (a log). The first
two go to the temporary folder where the buffer's file system does not take them.

The report is for people and for programs that wait at their end. Delivery itself never reads it: where that
stands is known by the servers alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from flowprov.journal.format import folder_name
from flowprov.settings import redact_uri

_MESSAGE_LENGTH = 500


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the delivery to one sink is.

    Attributes
    ----------
    held
        For each journal file, by its name, the position of the last line that the sink is known to hold.
    last_error
        Why it fails at present; None if it does not.
    """

    held: dict[str, int] = {}
    last_error: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that delivers a buffer says of itself.

    Attributes
    ----------
    pid
        Its process.
    sinks
        The progress of each, by its URI without credentials.
    failure
        Why it could not begin; None if it could.
    """

    pid: int
    sinks: dict[str, Progress] = {}
    failure: str | None = None


class ShipperFiles:
    """The lock, the report and the log of the process that delivers a buffer on this host.

    Parameters
    ----------
    folder
        The buffer.
    uris
        The sinks: runs with other sinks have another process deliver the same buffer.
    """

    def __init__(self, folder: Path, uris: Sequence[str]) -> None:
        sinks = "\n".join(sorted(map(redact_uri, uris)))  # a hash of a password would tell a weak one
        told_apart = hashlib.sha256(sinks.encode()).hexdigest()[:8]
        self._stem = f".ship-{folder_name(socket.gethostname())}-{told_apart}"
        self._folder = folder
        self.log = folder / f"{self._stem}.log"
        self._report = folder / f"{self._stem}.json"

    def take_lock(self, patience: float = 0.0) -> IO[bytes] | None:
        """Become the only one that delivers, until the file that is given is closed in every process.

        Parameters
        ----------
        patience
            Seconds to wait for another that may be about to end.

        Returns
        -------
        file or None
            None if another holds the lock.

        Raises
        ------
        OSError
            If locks work nowhere.
        """
        deadline = time.monotonic() + patience
        while (held := self._try_lock()) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return held

    def _try_lock(self) -> IO[bytes] | None:
        """Try the lock; in the temporary folder where the buffer's file system has no locks."""
        try:
            return _locked(self._folder / f"{self._stem}.lock")
        except BlockingIOError:
            return None
        except OSError:
            pass
        try:
            return _locked(self._in_temporary_folder(".lock"))
        except BlockingIOError:
            return None

    def _in_temporary_folder(self, suffix: str) -> Path:
        place = hashlib.sha256(bytes(self._folder.absolute())).hexdigest()[:16]
        return _private_folder() / f"{place}{self._stem}{suffix}"

    def write_report(self, report: Report) -> None:
        """Tell others; nobody reads half a report.

        Raises
        ------
        OSError
            If it can be written nowhere.
        """
        try:
            _replace(self._report, report)
        except OSError:  # a full disk: those who wait would wait in vain
            _replace(self._in_temporary_folder(".json"), report)
        else:
            with contextlib.suppress(OSError):  # there is no such place, so nothing is in it
                self._in_temporary_folder(".json").unlink(missing_ok=True)

    def forget_report(self) -> None:
        """Take away what an earlier process said."""
        self._report.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is no such place, so nothing is in it
            self._in_temporary_folder(".json").unlink(missing_ok=True)

    def read_report(self) -> Report | None:
        """Give the latest report, None if there is none."""
        # What is in the temporary folder is there only if it is the later one.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return _read(self._in_temporary_folder(".json"))
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return _read(self._report)
        return None


def _private_folder() -> Path:
    """Give a folder of this user in the temporary one, where others can plant neither links nor reports."""
    folder = Path(tempfile.gettempdir()) / f"flowprov-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EACCES, "is not this user's alone", str(folder))
    return folder


def _read(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _replace(path: Path, report: Report) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(report))
    fresh.replace(path)


def _locked(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def shortened(trouble: object) -> str:
    """Give a trouble's text at a length that fits into a report and a log line."""
    text = " ".join(str(trouble).split())
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"
