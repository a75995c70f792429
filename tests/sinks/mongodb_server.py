"""A server that speaks MongoDB's wire protocol, in a process of its own, to be frozen, killed, started again.

It is SecantusDB (GPL-2.0), in an environment of its own, never imported:
``python -m venv .secantus && .secantus/bin/pip install SecantusDB==0.7.0b3``.
``FLOWPROV_TEST_SECANTUS`` names its executable where it is elsewhere; ``FLOWPROV_TEST_MONGODB_URI`` names a
real MongoDB for the tests that do no harm to their server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import REPOSITORY

_EXECUTABLE = os.environ.get("FLOWPROV_TEST_SECANTUS")
EXECUTABLE = Path(_EXECUTABLE) if _EXECUTABLE else REPOSITORY / ".secantus" / "bin" / "secantusd-py"
REAL_URI = os.environ.get("FLOWPROV_TEST_MONGODB_URI")


class MongoServer:
    """A server on a port and a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The address, without credentials."""
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        """Start it, with the data that it had, and wait until it takes connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--storage-path",
            str(self._folder / "data"),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(EXECUTABLE), *place, "--sync-on-commit", *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start in a minute"
            time.sleep(0.05)

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def free_port() -> int:
    """Find a port on which nobody listens."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def skip_without_server() -> None:
    """Skip a test, and say what to install, where there is no server to start."""
    if not EXECUTABLE.is_file():
        pytest.skip(f"no MongoDB to test against: no {EXECUTABLE} (see tests/sinks/mongodb_server.py)")


@pytest.fixture(scope="session")
def shared_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that no test harms."""
    if REAL_URI:
        yield REAL_URI
        return
    skip_without_server()
    server = MongoServer(tmp_path_factory.mktemp("mongodb"))
    try:
        server.start()
        yield server.uri
    finally:
        server.kill()


@pytest.fixture
def own_mongodb(tmp_path: Path) -> Iterator[MongoServer]:
    """A server that the test may freeze and kill; it runs."""
    skip_without_server()
    server = MongoServer(tmp_path / "mongodb")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def database_name() -> str:
    """A database that no other test uses."""
    return f"flowprov_test_{uuid.uuid4().hex[:12]}"
