"""A server that speaks MongoDB's wire protocol, in its own process; tests freeze, kill and restart it.

It is SecantusDB (GPL-2.0), in an environment of its own, and never imported:
``python -m venv .secantus && .secantus/bin/pip install SecantusDB==0.7.0b3``.
``FLOWPROV_TEST_SECANTUS`` names its executable where it is elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.sinks.server_process import ServerProcess
from tests.support import REPOSITORY

_EXECUTABLE = os.environ.get("FLOWPROV_TEST_SECANTUS")
EXECUTABLE = Path(_EXECUTABLE) if _EXECUTABLE else REPOSITORY / ".secantus" / "bin" / "secantusd-py"
USER = "flowprov"


class MongoServer(ServerProcess):
    """A SecantusDB that keeps every write that it acknowledged."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        if not EXECUTABLE.is_file():
            pytest.skip(f"NO MONGODB: no {EXECUTABLE} (see tests/sinks/mongodb_server.py)")
        super().__init__(folder, password)

    def uri(self, password: str | None = None) -> str:
        """Return its URI, with its own password, if it has one, or with another.

        The URI makes the driver stay with this address: the server names its own, behind a proxy too.
        """
        used = password or self.password
        return self.address("" if used is None else f"{USER}:{used}@")

    def address(self, user_information: str = "", database: str = "") -> str:
        """Return its URI for a user."""
        source = "&authSource=admin" if user_information and not database else ""
        return f"mongodb://{user_information}127.0.0.1:{self.port}/{database}?directConnection=true{source}"

    def start(self, *options: str) -> None:
        """Start it, with the data that it had, and wait until it accepts connections."""
        if self.password is None:
            self._serve(*options)
            return
        if not (self.folder / "data").exists():
            import pymongo  # here: all tests know the servers, and some run where it is not installed

            self._serve()
            with pymongo.MongoClient[dict[str, Any]](self.address()) as client:
                client.admin.command("createUser", USER, pwd=self.password, roles=["readWriteAnyDatabase"])
            self.kill()
        self._serve("--auth", *options)

    def _serve(self, *options: str) -> None:
        arguments = [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--storage-path",
            str(self.folder / "data"),
        ]
        self._launch([str(EXECUTABLE), *arguments, "--sync-on-commit", *options])
