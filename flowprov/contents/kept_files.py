"""The object store of a campaign: copies of artifacts, named by their digest, in its folder ``objects``.

Flows in: descriptors, paths or bytes, and their SHA-256. Flows out: files that hold exactly what their names
say. They are copies and never hard links: whoever writes to the original would write to those, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprov.contents.content import Content
from flowprov.contents.folders import manifest
from flowprov.journal.folders import check_folders, create_folder
from flowprov.journal.format import folder_name
from flowprov.journal.object_store import FOLDER, write_object
from flowprov.regular_files import close_own, mark_own, open_at_once

_CHUNK = 1 << 20


class ObjectStore:
    """Keeps copies.

    Parameters
    ----------
    buffer, campaign_id
        The buffer, and the campaign in it.
    mode
        The mode of the files.
    """

    def __init__(self, buffer: str, campaign_id: str, mode: int) -> None:
        self._buffer = Path(buffer)
        self._campaign = self._buffer / folder_name(campaign_id)
        self.folder = self._campaign / FOLDER
        self._mode = mode

    def keep(self, path: str, content: Content, descriptor: int | None = None) -> None:
        """Keep a copy of a file, or of all files of a folder and its manifest.

        Parameters
        ----------
        path, content
            Where it lies, and what was read.
        descriptor
            The file, if it is open.

        Raises
        ------
        OSError
            If it cannot be read or written, or if it is not what was read any more.
        """
        if content.sha256 is None:
            return
        if content.members is None:
            self.keep_file(path, content.sha256, descriptor)
            return
        for member in content.members:
            self.keep_file(os.path.join(path, member.path), member.sha256)  # noqa: PTH118 - bytes that are no text
        self.keep_bytes(manifest(content.members), content.sha256)

    def keep_file(self, path: str, sha256: str, descriptor: int | None = None) -> None:
        """Keep a copy of one file."""
        source = open_at_once(path, os.O_RDONLY) if descriptor is None else descriptor
        identity = mark_own(source, path) if descriptor is None else None
        try:
            self._write(sha256, _parts_of(source))
        finally:
            if descriptor is None:
                close_own(source, identity)

    def keep_bytes(self, data: bytes, sha256: str) -> None:
        """Keep bytes."""
        self._write(sha256, [data])

    def _write(self, sha256: str, parts: Iterable[bytes]) -> None:
        create_folder(self.folder, self._mode)
        check_folders(self._buffer, self._campaign, self.folder, mode=self._mode)
        write_object(self.folder, sha256, parts, self._mode)


def _parts_of(descriptor: int) -> Iterator[bytes]:
    position = 0
    while data := os.pread(descriptor, _CHUNK, position):
        position += len(data)
        yield data
