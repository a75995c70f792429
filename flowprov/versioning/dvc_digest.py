"""The md5 of files and folders, exactly as DVC computes it.

Flows in: a path. Flows out: the digest that ``dvc add`` would write, with size and number of files. What DVC
itself refuses has none.

The md5 of a folder is that of a JSON list of the paths and md5s of its files, and ends in ``.dir``. Hidden,
empty and symlinked files count. Empty and symlinked folders, ``.git``, ``.hg`` and ``.dvc`` do not, nor does
a folder with a ``.dvc`` in it, which is a repository of its own, nor what a ``.dvcignore`` above names.
Source: ``dvc_data.hashfile``, DVC 3.67.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from flowprov.folder_listing import Entry, list_folder
from flowprov.regular_files import close_own, is_own, mark_own, open_regular
from flowprov.versioning.dvc_ignore import Ignored, InvalidPatternError

MD5, MD5_DOS2UNIX = "md5", "md5-dos2unix"
_CHUNK = 1 << 20  # as DVC reads: whether a block is text, it decides anew for each
_TEXT_SAMPLE = 512
_TEXT = bytes(range(32, 127)) + b"\n\r\t\f\b"
_MAX_NON_TEXT = 0.30
_NEVER_FOLDERS = (".git", ".hg", ".dvc")
_NEVER_FILES = (".git",)
_PAUSE_AFTER, _PAUSE_S = 200, 0.0005  # files, and seconds in which other threads have Python to themselves


class NotCountableError(Exception):
    """DVC would refuse to add this."""


class OutOfTimeError(Exception):
    """It takes longer than it may."""


class Counted(NamedTuple):
    """What a file or folder holds: bytes, files, and when the last change of it was."""

    size: int
    nfiles: int
    changed_at: int
    md5: str | None = None


class _File(NamedTuple):
    relative: str
    path: str
    status: os.stat_result


def count_files(path: Path, deadline: float) -> Counted:
    """Return the size of a file or folder, and the number of its files, without opening any.

    Raises
    ------
    NotCountableError, OutOfTimeError, OSError
        If DVC would refuse it, if it takes too long, or if it cannot be read.
    """
    return _count(path, deadline, None)


def dvc_digest(path: Path, hash_name: str = MD5, deadline: float = float("inf")) -> Counted:
    """Return the md5 of a file or folder as DVC computes it, with its size and number of files.

    Parameters
    ----------
    path
        The file or folder.
    hash_name
        ``"md5"``; or ``"md5-dos2unix"``, which DVC 2 wrote: the ends of lines of text count as one.
    deadline
        On the monotonic clock.

    Raises
    ------
    NotCountableError, OutOfTimeError, OSError
        If DVC would refuse it, if it takes too long, or if it cannot be read.
    """

    def digest(file: str) -> str:
        return _file_md5(Path(file), dos2unix=hash_name == MD5_DOS2UNIX, deadline=deadline)

    return _count(path, deadline, digest)


def _count(path: Path, deadline: float, digest: Callable[[str], str] | None) -> Counted:
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        return Counted(status.st_size, 1, _changed_at(status), None if digest is None else digest(str(path)))
    size = nfiles = 0
    changed_at = _changed_at(status)
    entries: list[dict[str, str]] = []
    for file in _files_of(path, deadline):
        changed_at = max(changed_at, _changed_at(file.status))
        if stat.S_ISDIR(file.status.st_mode):
            continue
        size, nfiles = size + file.status.st_size, nfiles + 1
        if digest is not None:
            entries.append({"md5": digest(file.path), "relpath": file.relative})
    if digest is None:
        return Counted(size, nfiles, changed_at)
    entries.sort(key=lambda entry: entry["relpath"])
    listed = json.dumps(entries, sort_keys=True).encode()
    return Counted(size, nfiles, changed_at, f"{_md5(listed)}.dir")


def _changed_at(status: os.stat_result) -> int:
    return status.st_mtime_ns


def _files_of(top: Path, deadline: float) -> Iterator[_File]:
    """Yield the files of a folder that count, and its folders, for their times."""
    folders, ignored = [("", os.fspath(top))], _ignored_in(top)
    seen = 0
    while folders:
        prefix, folder = folders.pop()
        entries = list_folder(folder)
        if any(entry.name == ".dvc" for entry in entries):
            continue
        for entry in entries:
            seen += 1
            if seen % _PAUSE_AFTER == 0:
                time.sleep(_PAUSE_S)
                _check(deadline)
            relative = prefix + entry.name
            if ignored.has(relative, is_folder=entry.is_dir()):
                continue
            if entry.is_dir():
                if not entry.is_symlink() and entry.name not in _NEVER_FOLDERS:
                    yield _File(relative, entry.path, entry.stat())
                    folders.append((f"{relative}/", entry.path))
            elif entry.name not in _NEVER_FILES:
                _require_countable(entry, relative)
                yield _File(relative, entry.path, entry.stat())


def _ignored_in(top: Path) -> Ignored:
    try:
        return Ignored(top)
    except InvalidPatternError as error:
        raise NotCountableError(str(error)) from error


def _require_countable(entry: Entry, relative: str) -> None:
    if entry.name == ".dvcignore":
        raise NotCountableError(f"{relative}: DVC allows no .dvcignore in a folder that it keeps")
    if not relative.isascii() and any("\udc80" <= character <= "\udcff" for character in relative):
        raise NotCountableError(f"{relative!a} is no UTF-8")
    if not entry.is_file():
        raise NotCountableError(f"{relative} is no file: a broken link, a pipe or the like")


def _file_md5(path: Path, *, dos2unix: bool, deadline: float) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    descriptor = open_regular(path)
    identity = mark_own(descriptor, path)
    try:
        position = 0
        while chunk := _read_chunk(descriptor, position):
            position += len(chunk)
            if dos2unix and _is_text(chunk[:_TEXT_SAMPLE]):
                chunk = chunk.replace(b"\r\n", b"\n")
            digest.update(chunk)
            _check(deadline)
        if not is_own(descriptor, identity):
            raise NotCountableError(f"{path}: the program closed it while it was read")
    finally:
        close_own(descriptor, identity)
    return digest.hexdigest()


def _read_chunk(descriptor: int, position: int) -> bytes:
    """Return the next chunk, whole unless the file ends: how a file is cut into chunks matters."""
    chunk = b""
    while (missing := _CHUNK - len(chunk)) and (more := os.pread(descriptor, missing, position + len(chunk))):
        chunk += more
    return chunk


def _is_text(block: bytes) -> bool:
    return b"\0" not in block and len(block.translate(None, _TEXT)) / len(block) <= _MAX_NON_TEXT


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise OutOfTimeError
