"""Read the small files in which a kernel describes itself: /proc and /sys.

Flows in: paths. Flows out: the contents as text, whatever the bytes are.
"""

from __future__ import annotations

from pathlib import Path

_MAX_SIZE = 4 << 20  # bytes; more than the kernel writes for a machine with thousands of cores


def read_text(path: Path) -> str | None:
    """Return the text of a file; None if it cannot be read. Bytes that are not UTF-8 are replaced."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SIZE).decode(errors="replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL in it
        return None
