"""A real Redis on a free loopback port; tests kill, freeze, fill and restart it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sinks.server_process import ServerProcess

if TYPE_CHECKING:
    import redis


class RedisServer(ServerProcess):
    """A redis-server that keeps every write that it acknowledged."""

    def __init__(self, folder: Path, *options: str, password: str | None = None) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("NO REDIS: install redis-server (Debian: apt-get install redis-server)")
        super().__init__(folder, password)
        self._options = options if password is None else ("--requirepass", password, *options)

    def uri(self, password: str | None = None) -> str:
        """Return its URI, with its own password, if it has one, or with another."""
        used = password or self.password
        return f"redis://{'' if used is None else f':{used}@'}127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start it, with its earlier data if there are any, and wait until it answers."""
        address = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        durability = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._launch(["redis-server", *address, *durability, *self._options, *options], b"PING\r\n")

    def client(self) -> redis.Redis:
        """Connect to it."""
        import redis  # here: all tests know the servers, and some run where it is not installed

        return redis.Redis.from_url(self.uri())
