"""Tables that fit a terminal.

Flows in: the lines of a table. Flows out: the same, cut at the width of the terminal; whole in a pipe.
"""

from __future__ import annotations

import shutil
import sys

_MIN_WIDTH = 20


def fit_columns(lines: list[str]) -> list[str]:
    """Return lines that are no longer than the terminal is wide; a mark says where one is cut."""
    if not sys.stdout.isatty():
        return lines
    width = max(_MIN_WIDTH, shutil.get_terminal_size().columns)
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
