"""Small text files that somebody else wrote, read within limits.

Flows in: a path. Flows out: the text of a regular file of a bounded size. A pipe would block, and a file of
any size would cost any time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_MAX_BYTES = 64 * 1024


def read_file(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """Return the text of a file; nothing if there is none, if it is no regular file, or if it is too large.

    Bytes that are not UTF-8 come as lone surrogates, as Python has them in paths.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
                return ""
            return (file.read(max_bytes) or b"").decode("utf-8", "surrogateescape")
    except (OSError, ValueError):  # ValueError: a NUL in a path that another file gave
        return ""


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
