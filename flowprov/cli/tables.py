"""Lines that fit a terminal.

Flows in: lines. Flows out: the same, on a terminal cut at its width, in a pipe whole.
"""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator

from flowprov.cli.terminal import is_terminal
from flowprov.display import printable

COLUMN_GAP = 2
"""How many spaces stand between two columns of a table."""

_MIN_WIDTH = 20


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None if the output goes to a file or a pipe."""
    return max(_MIN_WIDTH, shutil.get_terminal_size().columns) if is_terminal(sys.stdout) else None


def fit_columns(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines that are no longer than the terminal is wide; a mark says where one is cut."""
    width = terminal_width()
    if width is None:
        yield from lines
        return
    for line in map(printable, lines):
        yield line if shown_width(line) <= width else f"{_beginning(line, width - 1)}…"


def shown_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for each wide character, as of Chinese."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def _width_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _beginning(line: str, width: int) -> str:
    """Return as much of the beginning of a line as fits."""
    taken = 0
    for end, char in enumerate(line):
        taken += _width_of(char)
        if taken > width:
            return line[:end]
    return line
