"""The files of a folder, and its manifest: the folder's content, whatever the order in which files lie.

Flows in: a path. Flows out: the files in it. The manifest is the sorted list of [path, size, SHA-256] of each
file, as JSON without spaces; its SHA-256 is that of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from flowprov.contents.content import Member
from flowprov.folder_listing import list_folder

_MAX_FILES = 1_000_000


class FolderFile(NamedTuple):
    """A file of a folder: its path in it, its own path, size and time of its last change."""

    name: str
    path: str
    size: int
    mtime_ns: int


class TooManyFilesError(OSError):
    """A folder holds more files than were asked for."""


def list_files(folder: str, most: int = _MAX_FILES) -> list[FolderFile]:
    """Return the files of a folder and of the folders in it, sorted by their paths.

    Links to folders are not entered, links to files are followed. What is no file, and a link that leads
    nowhere, is left out.

    Raises
    ------
    OSError
        If a folder cannot be listed; TooManyFilesError, which is one, if there are more than ``most``.
    """
    found: list[FolderFile] = []
    folders = [""]
    while folders:  # no recursion: folders may be nested deeply
        inside = folders.pop()
        listed = list_folder(os.path.join(folder, inside) if inside else folder, most + 1)  # noqa: PTH118 - bytes that are no text
        for entry in listed:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
                continue
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere or in a circle, or a file that just went
                continue
            if stat.S_ISREG(status.st_mode):
                found.append(FolderFile(name, entry.path, status.st_size, status.st_mtime_ns))
            if len(found) + len(folders) > most:
                raise TooManyFilesError(f"more than {most} files")
    return sorted(found)


def manifest(members: Iterable[Member]) -> bytes:
    """Return the manifest of a folder."""
    return json.dumps([list(member) for member in members], separators=(",", ":")).encode()


def manifest_digest(members: Iterable[Member]) -> str:
    """Return the SHA-256 of a folder's manifest."""
    return hashlib.sha256(manifest(members), usedforsecurity=False).hexdigest()
