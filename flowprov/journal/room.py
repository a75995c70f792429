"""The room behind the header: where a journal that can grow no more says what it still has to say.

Flows in: heartbeats while nothing can be appended, and the footer at last. Flows out: the latest of them, in
bytes that the file has had since its beginning, so that a full disk cannot keep them out.

Each is written over the one before, in one write of the whole room. A reader that comes meanwhile may see a
piece of both; readers look twice at a room in use (:func:`flowprov.journal.format.room_in_use`).
"""

from __future__ import annotations

import os
from pathlib import Path

from flowprov import guard
from flowprov.journal.format import FOOTER_ROOM, padding_line


class Room:
    """The room of one journal.

    Parameters
    ----------
    path
        The journal.
    offset
        Where its header ends.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def write(self, line: bytes) -> bool:
        """Put a line into the room, in place of what stands there; False if it could not be."""
        rest = FOOTER_ROOM - len(line)
        if rest < 1:
            return False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                return os.pwrite(descriptor, line + padding_line(rest), self._offset) == FOOTER_ROOM
            finally:
                os.close(descriptor)
        except OSError as error:
            guard.logger.debug("flowprov could not write behind the header of %s: %s", self._path, error)
            return False
