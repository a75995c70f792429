"""The folders of a buffer: created for this user, and checked before anything is created in them.

Flows in: paths, and the mode of journals. Flows out: folders that are ours, or a ``PermissionError``. In a
folder that others can write to, somebody may have placed a link or a folder of his own where ours would be.

Whom a folder may belong to: this user, root, and the owner of the buffer. Where the settings share journals
with a group (``journal.mode``), to anybody who can write there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import tempfile
from pathlib import Path

from flowprov import settings
from flowprov.journal.interruptions import pass_on
from flowprov.regular_files import open_at_once

PRIVATE = 0o600
"""The mode of a file that is this user's alone."""
_GROUP_WRITES = stat.S_IWGRP
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def create_folder(folder: Path, mode: int = PRIVATE) -> None:
    """Create a folder, and those above it, for files of this mode; do nothing if it is there.

    Raises
    ------
    OSError
        If it cannot be created, or if something else is there.
    """
    try:
        _make(folder, mode)
    except FileNotFoundError as error:
        pass_on(error)
        if folder == folder.parent:
            raise
        create_folder(folder.parent, mode)
        _make(folder, mode)  # if that is not found again, it is a file system that creates nothing (/proc)


def _make(folder: Path, mode: int) -> None:
    try:
        os.mkdir(str(folder), _folder_mode(mode))  # noqa: PTH102 - as in _status
    except FileExistsError as error:
        pass_on(error)
        if not stat.S_ISDIR(_status(folder).st_mode):
            raise
    else:
        set_mode(folder, _folder_mode(mode))


def set_mode(path: Path | int, mode: int) -> None:
    """Give a file or folder that was just created its mode, whatever the mask of the process is."""
    try:
        target = path if isinstance(path, int) else str(path)  # as in _status
        if stat.S_IMODE(os.stat(target).st_mode) != mode:  # noqa: PTH116
            os.chmod(target, mode)  # noqa: PTH101
    except PermissionError as error:  # a file system without modes
        pass_on(error)


def _folder_mode(mode: int) -> int:
    """Return the mode of a folder for files of a mode: who reads these may enter it."""
    return mode | stat.S_IRWXU | (mode & 0o044) >> 2


def check_folders(buffer: Path, *folders: Path, mode: int = PRIVATE) -> None:
    """Check that a buffer, and folders in it, were not placed there by somebody else.

    Parameters
    ----------
    buffer
        The buffer. It may lie anywhere and be a link, as its user wants it; but in a folder that all users
        share (``/tmp``), it must be this user's.
    folders
        Folders in it: real ones, or links of a user who may own them.
    mode
        The mode of journals.

    Raises
    ------
    OSError
        If one of them was.
    """
    above = _status(buffer.parent)
    if above.st_mode & stat.S_ISVTX and above.st_mode & stat.S_IWOTH:
        _check_owner(buffer, _status(buffer, follow=False), {os.geteuid(), 0})
    owners = {os.geteuid(), 0, _status(buffer).st_uid}
    for folder in folders:
        status = _status(folder, follow=False)
        if stat.S_ISLNK(status.st_mode):
            _check_owner(folder, status, owners)
            status = _status(folder)
        if not mode & _GROUP_WRITES:
            _check_owner(folder, status, owners)


def _status(path: Path, *, follow: bool = True) -> os.stat_result:
    """Return the status of a path.

    It is made a text here: where ``os`` does so itself, it replaces an exception that arrives meanwhile.
    """
    return os.stat(str(path), follow_symlinks=follow)  # noqa: PTH116


def _check_owner(folder: Path, status: os.stat_result, owners: set[int]) -> None:
    if status.st_uid not in owners:
        raise PermissionError(errno.EACCES, "it was placed there by another user", str(folder))


def fallback_folder() -> Path:
    """Return the buffer folder of last resort, which may belong to another user: see :func:`is_own`."""
    return Path(settings.fallback_folder())


def is_own(folder: Path) -> bool:
    """Whether a folder is a real one, belongs to this user, and nobody else can write to it."""
    try:
        status = _status(folder, follow=False)
    except OSError as error:
        pass_on(error)
        return False
    own = status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE
    return own and stat.S_ISDIR(status.st_mode)


def own_fallback_folder() -> Path:
    """Return a buffer folder of last resort that is this user's; create it if it is missing.

    Raises
    ------
    OSError
        If there is none, and none can be created.
    """
    folder = fallback_folder()
    with contextlib.suppress(FileExistsError):  # somebody has placed something else there
        create_folder(folder)
    return folder if is_own(folder) else _another_fallback_folder(folder)


@functools.lru_cache(maxsize=4)
def _another_fallback_folder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}_", dir=folder.parent))


def open_no_link(path: Path | str, flags: int, mode: int = PRIVATE) -> int:
    """Open a file of ours, and nothing else that somebody may have placed there; return its descriptor.

    Raises
    ------
    OSError
        If that fails: if it is a link or no regular file, too.
    """
    return open_at_once(path, flags | os.O_NOFOLLOW, mode)
