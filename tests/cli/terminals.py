"""A real terminal, of any width, in which a command runs as a person starts it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import clean_environment, wait_until

CTRL_C = b"\x03"
_END_S = 60.0


class Terminal:
    """A terminal with one command in it.

    Attributes
    ----------
    process
        The command.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._received = bytearray()
        self._reader = threading.Thread(target=self._receive, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """What it shows so far."""
        return self._received.decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._descriptor, keys)

    def wait_for(self, condition: str | Callable[[str], object]) -> str:
        """Wait until it shows a text; return all that it shows."""
        holds = condition if callable(condition) else lambda text: condition in text
        wait_until(lambda: holds(self.text) or not self._reader.is_alive())
        assert holds(self.text), self.text
        return self.text

    def end(self) -> tuple[int, str]:
        """Wait for the end of the command; return its exit status and all that it shows."""
        status = self.process.wait(_END_S)
        self._reader.join(_END_S)
        return status, self.text

    def _receive(self) -> None:
        with contextlib.suppress(OSError):  # then nobody has it open any more
            while data := os.read(self._descriptor, 65_536):
                self._received += data


def _let_keys_be_signals() -> None:
    """Make the terminal that of the process, and undo that a test in the background ignores Ctrl-C."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def terminal(
    *arguments: str | Path, cwd: Path, columns: int = 100, env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """Start ``python -m flowprov`` in a terminal; at the end of the block it is killed if it still runs."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {
        name: value
        for name, value in clean_environment(TERM="xterm-256color", PYTHONIOENCODING="utf-8").items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE")
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowprov", *map(str, arguments)],
            cwd=cwd,
            env={**environment, **(env or {})},
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,
            preexec_fn=_let_keys_be_signals,  # noqa: PLW1509 - there is no other way
        )
        os.close(secondary)
        with process:
            try:
                yield Terminal(process, primary)
            finally:
                process.kill()
    finally:
        os.close(primary)


def run_in_terminal(
    *arguments: str | Path, cwd: Path, columns: int = 100, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run ``python -m flowprov`` in a terminal to its end; return its exit status and what it showed."""
    with terminal(*arguments, cwd=cwd, columns=columns, env=env) as shown:
        return shown.end()
