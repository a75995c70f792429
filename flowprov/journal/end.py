"""The end of a journal, and what is captured after it: by handlers of atexit, finalizers, daemon threads.

Flows in: an event that comes when the journal is closed. Flows out: its line behind the footer, and another
footer, in one write. Readers take the last footer.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import msgspec

from flowprov.clock import clock
from flowprov.journal.event_counts import Counts
from flowprov.journal.files import reopen
from flowprov.journal.internal_errors import bounded_internal_errors
from flowprov.journal.own_file import OwnFile
from flowprov.records import Footer, LocalId, encode

MAX_OPEN = 20  # open scopes that a footer, or a heartbeat in the reserved slot, names


def create_footer(counts: Counts, open_keys: Iterable[LocalId]) -> Footer:
    """Return the footer of a journal, with its counts and what is open; the latter is cut short."""
    captured, written, dropped = counts
    return Footer(
        at=clock.now(),
        captured=captured,
        written=written,
        dropped=dropped or None,
        open=list(islice(open_keys, MAX_OPEN)) or None,
        internal_errors=bounded_internal_errors(),
    )


class End:
    """The end of a closed journal.

    Parameters
    ----------
    path, file
        The journal, as it was written.
    footer
        Its last footer.
    """

    def __init__(self, path: Path, file: OwnFile | io.FileIO, footer: Footer) -> None:
        status = os.fstat(file.fileno())
        self._path = path
        self._file_id = (status.st_dev, status.st_ino)
        self._footer = footer

    def append_event(self, line: bytes) -> End:
        """Append an event, and a footer that counts it; return the end that the journal has now.

        Raises
        ------
        OSError
            If the file is not there any more, or cannot be written. It is as it was then.
        """
        counted = msgspec.structs.replace(
            self._footer, at=clock.now(), captured=self._footer.captured + 1, written=self._footer.written + 1
        )
        data = line + encode(counted)
        with reopen(self._path) as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._file_id:
                raise FileNotFoundError(errno.ENOENT, "another file is there", str(self._path))
            if os.write(file.fileno(), data) != len(data):
                os.ftruncate(file.fileno(), status.st_size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            return End(self._path, file, counted)
