"""Say that a command works, where a person waits for it.

Flows in: what it does. Flows out: a line on a terminal, which is gone when the work is done.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flowprov.cli.terminal import is_terminal, overwrite_line

_AFTER_S = 1.0
_EVERY_S = 0.5


@contextmanager
def progress(what: str, after: float = _AFTER_S) -> Iterator[None]:
    """Create a context whose work is said on standard error, if that is a terminal, with its seconds.

    Parameters
    ----------
    what
        What it does: "reading".
    after
        Seconds after which it is said.
    """
    if not is_terminal(sys.stderr):
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_say, args=(what, after, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(what: str, after: float, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(after):
        return
    while not done.wait(_EVERY_S):
        overwrite_line(f"{what}: {time.monotonic() - began:.0f} s", sys.stderr)
    overwrite_line("", sys.stderr)
