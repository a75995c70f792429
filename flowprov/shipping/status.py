"""The lock, the report and the log by which programs and the shipper of a buffer know of each other.

Flows in: a buffer folder and its sinks. Flows out: a lock, which tells whether a shipper runs on this host; a
report on how far the deliveries are; and the log of the shipper. The lock and the report go to the temporary
folder if the buffer's file system does not take them.

The report is for people, and for programs that wait at their end. Delivery itself never reads it: only the
servers know how far the delivery is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from flowprov.journal.folders import PRIVATE, is_own, open_no_link
from flowprov.journal.format import folder_name
from flowprov.journal.liveness import host_name
from flowprov.settings import redact_uri

_MESSAGE_LENGTH = 500
_MAX_REPORT = 16 << 20  # bytes: tens of thousands of journals
_NO_REPORT = (
    OSError,
    msgspec.MsgspecError,
    ValueError,
    RecursionError,
)  # others may write to the buffer, too


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of the delivery to one sink.

    Attributes
    ----------
    held
        Position of the last line that the sink is known to hold of each journal, by the name of its file.
    last_error
        Why the last attempt failed; None if it succeeded.
    """

    held: dict[str, int] = {}
    last_error: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a shipper.

    Attributes
    ----------
    pid
        Its process id.
    sinks
        The progress of each sink, by its URI without credentials.
    failure
        Why the shipper could not begin; None if it could.
    """

    pid: int
    sinks: dict[str, Progress] = {}
    failure: str | None = None


class ShipperFiles:
    """The lock, the report and the log of the shipper of a buffer on this host.

    Parameters
    ----------
    folder
        The buffer.
    uris
        The sinks. Programs with other sinks have a shipper of their own for the same buffer.
    mode
        The mode of the files: ``journal.mode``.
    """

    def __init__(self, folder: Path, uris: Sequence[str], mode: int = PRIVATE) -> None:
        sinks = "\n".join(sorted(map(redact_uri, uris)))  # a weak password can be guessed from its hash
        digest = hashlib.sha256(sinks.encode()).hexdigest()[:8]
        self._stem = f".ship-{folder_name(host_name())}-{digest}"
        self._folder = folder
        self._mode = mode
        self.log = folder / f"{self._stem}.log"
        self._report = folder / f"{self._stem}.json"

    def take_lock(self, timeout: float = 0.0) -> IO[bytes] | None:
        """Take the lock of the shipper, until the returned file is closed in every process.

        Parameters
        ----------
        patience
            Seconds to wait for another shipper that may be about to end.

        Returns
        -------
        file or None
            None if another process holds the lock.

        Raises
        ------
        OSError
            If locks work neither in the buffer nor in the temporary folder.
        """
        deadline = time.monotonic() + timeout
        while (lock := self._try_lock()) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        return lock

    def _try_lock(self) -> IO[bytes] | None:
        """Try the lock once; in the temporary folder if the buffer's file system has no locks."""
        try:
            return self._open_locked(self._folder / f"{self._stem}.lock")
        except BlockingIOError:
            return None
        except OSError:
            pass
        try:
            return self._open_locked(self._in_temporary_folder(".lock"))
        except BlockingIOError:
            return None

    def _open_locked(self, path: Path) -> IO[bytes]:
        file = self._open_for_appending(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    def open_log(self) -> IO[bytes]:
        """Open the log for appending.

        Raises
        ------
        OSError
            If it can be opened neither in the buffer nor in the temporary folder.
        """
        try:
            return self._open_for_appending(self.log)
        except OSError:
            return self._open_for_appending(self._in_temporary_folder(".log"))

    def _open_for_appending(self, path: Path) -> IO[bytes]:
        """Open a file that this user may trust: another one may have placed something else there."""
        descriptor = open_no_link(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, self._mode)
        status = os.fstat(descriptor)
        is_trusted = status.st_uid in (os.geteuid(), 0) or self._mode & stat.S_IWGRP
        if not is_trusted or status.st_nlink != 1:
            os.close(descriptor)
            raise PermissionError(errno.EACCES, "it was placed there by another user", str(path))
        return os.fdopen(descriptor, "ab")

    def _in_temporary_folder(self, suffix: str) -> Path:
        digest = hashlib.sha256(bytes(self._folder.absolute())).hexdigest()[:16]
        return _private_folder() / f"{digest}{self._stem}{suffix}"

    def write_report(self, report: Report) -> None:
        """Write the report in one step, so that nobody reads half of one.

        Raises
        ------
        OSError
            If it can be written neither in the buffer nor in the temporary folder.
        """
        try:
            _write(self._report, report, self._mode)
        except OSError:  # a full disk: programs that wait need the report
            _write(self._in_temporary_folder(".json"), report, PRIVATE)
        else:
            with contextlib.suppress(OSError):  # there is no private folder, so it holds no report
                self._in_temporary_folder(".json").unlink(missing_ok=True)

    def delete_report(self) -> None:
        """Delete the report of an earlier shipper."""
        self._report.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is no private folder, so it holds no report
            self._in_temporary_folder(".json").unlink(missing_ok=True)

    def read_report(self) -> Report | None:
        """Return the latest report; None if there is none."""
        # A report in the temporary folder is always later than the one in the buffer.
        with contextlib.suppress(*_NO_REPORT):
            return _read(self._in_temporary_folder(".json"))
        with contextlib.suppress(*_NO_REPORT):
            return _read(self._report)
        return None


def _private_folder() -> Path:
    """Return a folder in the temporary one in which other users can place neither links nor reports."""
    folder = Path(tempfile.gettempdir()) / f"flowprov-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_own(folder):
        raise PermissionError(errno.EACCES, "is not this user's alone", str(folder))
    return folder


def _read(path: Path) -> Report:
    with os.fdopen(open_no_link(path, os.O_RDONLY), "rb") as file:
        return msgspec.json.decode(file.read(_MAX_REPORT), type=Report)


def _write(path: Path, report: Report, mode: int) -> None:
    new_file = path.with_suffix(".new")
    new_file.unlink(missing_ok=True)  # of a shipper that was killed, or a link that somebody has placed there
    with os.fdopen(open_no_link(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(msgspec.json.encode(report))
    new_file.replace(path)


def shorten(message: object) -> str:
    """Return a message as one line of at most 500 characters, for a report or a log."""
    text = " ".join(str(message).split())
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"
