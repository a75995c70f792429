"""What this process is still finding out about versions, for those who read meanwhile.

Flows in: a function that waits for it, from the recorder. Flows out: the same, called by readers: a program
that reads its own records right after a workflow finds them complete.
"""

from __future__ import annotations

from collections.abc import Callable

_finish: list[Callable[[], None]] = []


def set_finish(finish: Callable[[], None]) -> None:
    """Set the function that waits, a little, for what is being found out."""
    _finish[:] = [finish]


def finish_pending() -> None:
    """Wait a little for what this process is finding out."""
    for finish in _finish:
        finish()
