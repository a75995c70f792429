"""Say why a source cannot be read, and what makes it readable.

Flows in: a path, and what the system says of it. Flows out: the message of a :class:`JournalError`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from flowprov.settings import redact_source

_MAX_LISTED = 8


def describe_missing_path(path: Path, source: str) -> str:
    """Return the message for a source that does not exist: with what lies where it should be."""
    nearest = path.absolute().parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in nearest.iterdir())
    except OSError as error:
        names, holds = [], f"cannot be listed ({error.strerror})"
    else:
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        holds = f"holds {', '.join(names[:_MAX_LISTED])}{more}" if names else "is empty"
    return (
        f"{redact_source(source)} does not exist; {nearest} {holds}. Give a buffer folder (journal.path of "
        "the run), a campaign folder, a host folder or one .jsonl journal, or the URI of a server. Without "
        "a source, the buffer folder of the settings is read."
    )


def describe_unlisted_folder(folder: Path, reason: str) -> str:
    """Return the message for a source that cannot be listed: whose it is, and who can open it."""
    message = f"{folder} cannot be listed ({reason})"
    try:
        status = folder.stat()
    except OSError:  # what lies above it is closed, too
        return f"{message}. Give a source that can be."
    if reason != os.strerror(errno.EACCES):
        return f"{message}. Give a source that can be."
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if status.st_uid == os.geteuid():
        return f"{message}: it is yours and has mode {mode}. chmod u+rwx {folder} opens it."
    owner = _name_of(status.st_uid)
    return (
        f"{message}: it belongs to {owner} and has mode {mode}. Read it as {owner}, or have {owner} open it: "
        "by chmod what is there, by journal.mode what will be recorded (0640: the group may read, 0644: all)."
    )


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # it is one of another machine, as on a shared disk
        return f"user {user}"
