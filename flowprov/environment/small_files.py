"""Small text files that somebody else wrote, read within limits.

Flows in: a path. Flows out: the text of a regular file of a bounded size. A pipe would block, and a file of
any size would cost any time.
"""

from __future__ import annotations

from pathlib import Path

from flowprov.regular_files import read_at_once

_MAX_BYTES = 64 * 1024


def read_file(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """Return the text of a file; nothing if there is none, if it is no regular file, or if it is too large.

    Bytes that are not UTF-8 come as lone surrogates, as Python has them in paths.
    """
    try:
        content = read_at_once(path, max_bytes + 1)
        return "" if len(content) > max_bytes else content.decode("utf-8", "surrogateescape")
    except (OSError, ValueError):  # ValueError: a NUL in a path that another file gave
        return ""
