"""The two servers under one set of handles, and what stands on them, read without flowprov.

Flows in: a kind of server and a folder. Flows out: a server that can be killed, frozen, emptied, locked and
made to refuse; and its rows, each with its journal and its position.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pymongo

from tests.sinks.mongodb_server import MongoServer, skip_without_server
from tests.sinks.redis_server import RedisServer

_COLLECTIONS = ("tasks", "workflows", "journals")


class Row(NamedTuple):
    """A line of a journal on a server."""

    journal: str
    position: int
    line: bytes


class Server(Protocol):
    """What a scenario does to a server."""

    port: int

    def start(self) -> None:
        """Start it with the data that it has, and wait until it answers."""

    def kill(self) -> None:
        """End it as a crash would."""

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""

    def thaw(self) -> None:
        """Let it go on."""

    def forget(self) -> None:
        """Throw its data away, while it is down."""

    def refuse(self, how: str) -> None:
        """Let it take no more records."""

    def accept(self) -> None:
        """Let it take records again."""

    def protect(self) -> None:
        """Let it ask for a password; it runs, and is empty."""

    def uri(self, password: str | None = None, port: int | None = None) -> str:
        """Say where it is, for somebody with a password or with none."""

    def rows(self) -> list[Row]:
        """Give all that it holds."""


PASSWORD = "open-sesame"  # noqa: S105 - of a server that lives for seconds


def make_server(kind: str, folder: Path) -> Server:
    """Make a server that is not started yet; skips where there is none to start."""
    if kind == "redis":
        return _Redis(folder)
    skip_without_server()
    return _Mongo(folder)


class _Redis(RedisServer):
    _password: str | None = None

    def protect(self) -> None:
        self._password = PASSWORD
        self.options = ("--requirepass", PASSWORD)
        self.kill()
        self.start()

    def refuse(self, how: str) -> None:
        with contextlib.closing(self.client()) as client:
            if how == "read-only":
                client.replicaof("127.0.0.1", "1")  # a master that is never there: the data stay as they are
            else:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1")

    def accept(self) -> None:
        with contextlib.closing(self.client()) as client:
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory", "0")

    def uri(self, password: str | None = None, port: int | None = None) -> str:  # type: ignore[override]
        user = "" if password is None else f":{password}@"
        return f"redis://{user}127.0.0.1:{port or self.port}/0"

    def rows(self) -> list[Row]:
        found = []
        given = {} if self._password is None else {"password": self._password}
        with contextlib.closing(self.client(**given)) as client:
            for key in client.scan_iter("flowprov:journal:*"):
                journal = key.decode().rpartition(":")[2]
                for identifier, fields in client.xrange(key):
                    position = int(identifier.partition(b"-")[0]) - 1
                    found.append(Row(journal, position, next(iter(fields.values()))))
        return found


class _Mongo(MongoServer):
    _password: str | None = None

    def protect(self) -> None:
        with self._client() as client:
            client.flowprov.command(
                {
                    "createUser": "ada",
                    "pwd": PASSWORD,
                    "roles": [{"role": "readWrite", "db": "flowprov"}],
                }
            )
        self._password = PASSWORD
        self.kill()
        self.start("--auth")

    def forget(self) -> None:
        shutil.rmtree(self._folder / "data")

    def refuse(self, how: str) -> None:
        self._validate({"no_record_has_this": 1})

    def accept(self) -> None:
        self._validate({})

    def _validate(self, rule: dict[str, Any]) -> None:
        with self._client() as client:
            client.flowprov.command({"collMod": "tasks", "validator": rule})

    def uri(self, password: str | None = None, port: int | None = None) -> str:  # type: ignore[override]
        user = "" if password is None else f"ada:{password}@"
        # It names itself as the only member of a replica set; directly, so that a proxy is not passed by.
        return f"mongodb://{user}127.0.0.1:{port or self.port}/flowprov?directConnection=true"

    def rows(self) -> list[Row]:
        with self._client(self._password) as client:
            return [
                Row(document["journal_id"], document["position"], _as_bytes(document["line"]))
                for name in _COLLECTIONS
                for document in client.flowprov[name].find({"position": {"$exists": True}})
            ]

    def _client(self, password: str | None = None) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(self.uri(password))


def _as_bytes(line: str | bytes) -> bytes:
    return line.encode() if isinstance(line, str) else bytes(line)
