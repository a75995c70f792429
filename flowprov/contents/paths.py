"""The content of whatever a path names: a file or a folder.

Flows in: a path. Flows out: its content. What is no file or folder, or cannot be read, is content too: its
state says so, and nothing raises.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from flowprov.clock import wall_ns
from flowprov.contents import folders, formats
from flowprov.contents.content import Content, Member, Tensors, unite
from flowprov.contents.folders import FolderFile
from flowprov.contents.reading import Reading, read_file
from flowprov.contents.stat_cache import STAT_CACHE
from flowprov.regular_files import close_own, mark_own, open_at_once

Snapshot: TypeAlias = Sequence[tuple[str, int, int]]
"""Path, size and mtime of each file of a folder."""

_GONE = (errno.ENOENT, errno.ENOTDIR)
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_TRIES = 2


def read_path(path: str, reading: Reading) -> Content:
    """Read what a path names and return its content.

    Parameters
    ----------
    path
        A file or a folder.
    reading
        How it is read.

    Raises
    ------
    StoppedError
        If the reading was stopped.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - it may be bytes that are no text
        if stat.S_ISDIR(status.st_mode):
            return read_folder(path, reading)
        if not stat.S_ISREG(status.st_mode):
            return not_a_file(status)
        descriptor = open_at_once(path, os.O_RDONLY)
    except (OSError, ValueError) as error:
        return failure(error)
    identity = mark_own(descriptor, path)
    try:
        return read_descriptor(descriptor, path, reading)
    finally:
        close_own(descriptor, identity)


def read_descriptor(descriptor: int, path: str, reading: Reading) -> Content:
    """Read an open file, if it was not read before as it is now, and return its content."""
    try:
        status = os.fstat(descriptor)
        if (known := STAT_CACHE.find(status, reading)) is not None:
            return known
        at = wall_ns()
        content = read_file(descriptor, reading, os.path.basename(path))  # noqa: PTH119 - as above
        STAT_CACHE.add(status, reading, content, at)
    except (OSError, ValueError) as error:
        return failure(error)
    return content


def read_logged(path: str, reading: Reading, logged: os.stat_result, descriptor: int | None) -> Content:
    """Read a file that was logged before, if it is still what it was then, and return its content.

    Parameters
    ----------
    path, reading
        As for :func:`read_path`.
    logged
        Its status at that time.
    descriptor
        The file, if it has been open since; None: the file that has its name now.
    """
    try:
        source = open_at_once(path, os.O_RDONLY) if descriptor is None else descriptor
    except OSError as error:
        return failure(error)
    identity = mark_own(source, path) if descriptor is None else None
    try:
        now = os.fstat(source)
        if not _is_what_it_was(logged, now):
            return _changed("it changed after it was recorded, and before it was read", now.st_size)
        return read_descriptor(source, path, reading)
    except OSError as error:
        return failure(error)
    finally:
        if descriptor is None:
            close_own(source, identity)


def _is_what_it_was(logged: os.stat_result, now: os.stat_result) -> bool:
    """Whether a file did not change; its name and rights may have."""
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    return all(getattr(logged, name) == getattr(now, name) for name in fields)


def read_folder(path: str, reading: Reading, before: Snapshot | None = None) -> Content:
    """Read a folder and return its content.

    Parameters
    ----------
    path, reading
        As for :func:`read_path`.
    before
        Its files when it was recorded; None if they are not known.
    """
    began, read_bytes = time.monotonic_ns(), 0
    content = Content(state="changed_while_read")
    for _ in range(_TRIES):
        try:
            files = folders.list_files(path)
        except (OSError, ValueError) as error:
            return failure(error)
        total = sum(file.size for file in files)
        if before is not None and snapshot_of(files) != tuple(before):
            return _changed("it changed after it was recorded, and before it was read", total)
        if reading.max_bytes is not None and total > reading.max_bytes:
            reason = f"{total} bytes are more than artifacts.max_bytes ({reading.max_bytes})"
            return Content(state="skipped", reason=reason, size=total)
        content = _read_files(files, reading)
        read_bytes += content.read_bytes
        if content.state == "unreadable":
            return content
        try:
            is_same = content.state == "digested" and folders.list_files(path) == files
        except OSError as error:
            return failure(error)
        if is_same:
            break
        content = _changed("it changed while it was read", total)
    return msgspec.structs.replace(content, took_ns=time.monotonic_ns() - began, read_bytes=read_bytes)


def _read_files(files: Sequence[FolderFile], reading: Reading) -> Content:
    members: list[Member] = []
    tensors: dict[str, Tensors] = {}
    read_bytes, reason = 0, None
    for file in files:
        content = read_path(file.path, _unlimited(reading))
        read_bytes += content.read_bytes
        if content.sha256 is None:
            state = "unreadable" if content.state == "unreadable" else "changed_while_read"
            text = f"{file.name}: {content.reason}" if content.reason else file.name
            return Content(state=state, reason=text, read_bytes=read_bytes)  # type: ignore[arg-type]
        members.append(Member(file.name, content.size or 0, content.sha256))
        if content.tensors is not None:
            tensors[file.name] = content.tensors
        reason = reason or (f"{file.name}: {content.reason}" if content.reason else None)
    return Content(
        state="digested",
        reason=reason,
        sha256=folders.manifest_digest(members),
        size=sum(member.size for member in members),
        format=formats.of_folder(member.path for member in members),
        tensors=unite(tensors[name] for name in formats.model_files(tensors)),
        members=tuple(members),
        read_bytes=read_bytes,
    )


def _unlimited(reading: Reading) -> Reading:
    return Reading(weights=reading.weights, stop=reading.stop)


def _changed(reason: str, size: int) -> Content:
    return Content(state="changed_while_read", reason=reason, size=size)


def snapshot_of(files: Sequence[FolderFile]) -> tuple[tuple[str, int, int], ...]:
    """Return the snapshot of a folder: what tells later whether it changed."""
    return tuple((file.name, file.size, file.mtime_ns) for file in files)


def not_a_file(status: os.stat_result) -> Content:
    """Return the content of what is neither a file nor a folder."""
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "of an unknown kind")
    return Content(state="unreadable", reason=f"no file or folder, but {kind}")


def failure(error: Exception) -> Content:
    """Return the content of what could not be read."""
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error)
    return Content(state="missing" if number in _GONE else "unreadable", reason=text)
