"""A server for one test: a process with a port and a folder; tests freeze, kill, empty and restart it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.support import wait_until


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """The common part of all kinds of servers; a subclass knows how to start one and what its URI is.

    Parameters
    ----------
    folder
        The folder of its data and its log.
    password
        The password that it requires; None for none.
    """

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self.port = free_port()
        self.password = password
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, with its earlier data if there are any, and wait until it answers."""
        raise NotImplementedError

    def uri(self, password: str | None = None) -> str:
        """Return its URI, with its own password, if it has one, or with another."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill it without warning, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Suspend it: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def delete_data(self) -> None:
        """Delete its data, while it is down."""
        assert self._process is None
        shutil.rmtree(self.folder)

    def _launch(self, command: Sequence[str], greeting: bytes = b"") -> None:
        """Start a process and wait until it accepts connections, and answers a greeting if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        wait_until(lambda: self._is_up(greeting))

    def _is_up(self, greeting: bytes) -> bool:
        """Whether it answers. A server that ended is a failure, and its log says why."""
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(greeting)
                return not greeting or bool(connection.recv(100))
        except OSError:
            return False


ServerT = TypeVar("ServerT", bound=ServerProcess)


@contextmanager
def started(server: ServerT, *options: str) -> Iterator[ServerT]:
    """Start a server, and kill it at the end of the block."""
    try:
        server.start(*options)
        yield server
    finally:
        server.kill()
