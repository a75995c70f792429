"""Content that is kept in the buffer once, under its digest.

Flows in: bytes, and the folder of a campaign. Flows out: a file ``objects/<sha256>`` in it; and the bytes
again, if they are still those.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from flowprov.ids import new_journal_id
from flowprov.journal.folders import create_folder, open_no_link, set_mode
from flowprov.regular_files import close_own, mark_own, open_regular, write_own

FOLDER = "objects"
_TRIES = 3
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]+")


def keep_object(campaign_folder: Path, content: bytes, mode: int) -> str:
    """Keep content; return its SHA-256.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    digest = hashlib.sha256(content).hexdigest()
    folder = campaign_folder / FOLDER
    create_folder(folder, mode)
    for tries_left in reversed(range(_TRIES)):
        try:
            write_object(folder, digest, [content], mode)
            break
        except OSError as error:
            if error.errno != errno.EBADF or not tries_left:  # the program closed the file meanwhile
                raise
    return digest


def write_object(folder: Path, digest: str, parts: Iterable[bytes], mode: int) -> None:
    """Write the parts of some content under its SHA-256, unless it is there.

    Each writes a file of its own and renames it, as another thread, or a process of this number on another
    host, may keep the same just now.

    Raises
    ------
    OSError
        If it cannot be written, or if its SHA-256 is another one.
    """
    path = folder / digest
    if os.path.lexists(path):
        return
    new = folder / f".{digest}.{new_journal_id()}"
    descriptor = open_no_link(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    identity = mark_own(descriptor, new)
    try:
        set_mode(descriptor, mode)
        found = hashlib.sha256(usedforsecurity=False)
        for part in parts:
            found.update(part)
            write_own(descriptor, identity, part)
        if found.hexdigest() != digest:
            raise OSError(f"{digest} is not what its copy holds: it changed meanwhile")
        os.replace(new, path)  # noqa: PTH105 - as in the journal's folders
    finally:
        close_own(descriptor, identity)
        with contextlib.suppress(OSError):  # it was renamed
            new.unlink()


def read_object(campaign_folder: Path, digest: str) -> bytes | None:
    """Return content by its SHA-256; None if it is not there, or is another one."""
    if not _DIGEST.fullmatch(digest):
        return None
    try:
        with os.fdopen(open_regular(campaign_folder / FOLDER / digest), "rb") as file:
            content = file.read()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def remove_objects(campaign_folder: Path) -> None:
    """Remove all objects of a campaign, and their folder if nothing else lies in it."""
    folder = campaign_folder / FOLDER
    if folder.is_symlink():
        return
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _DIGEST.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)
        folder.rmdir()
