"""The small files in which a kernel tells of itself: /proc, /sys.

Flows in: paths. Flows out: what stands there as text, whatever it is.
"""

from __future__ import annotations

from pathlib import Path

_MOST = 4 << 20  # bytes: beyond what the kernel writes of a machine with some thousands of cores


def read_text(path: Path) -> str | None:
    """Give what stands in a file, None where it cannot be read; what is not UTF-8 is replaced."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL in it
        return None
