"""The two kinds of servers, which can be made to refuse, and their rows, read without flowprov.

Flows in: a kind of server and a folder. Flows out: a server, and its rows, each with its journal and
position.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pymongo

from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer

DATABASE = "flowprov"
_COLLECTIONS = ("tasks", "workflows", "journals")


class Row(NamedTuple):
    """A line of a journal on a server."""

    journal: str
    position: int
    line: bytes


class RedisStage(RedisServer):
    """A Redis that can be made to refuse."""

    def refuse(self, how: str) -> None:
        """Refuse further records."""
        with self.client() as client:
            if how == "read-only":
                client.replicaof("127.0.0.1", "1")  # a master that does not exist: the data stay as they are
            else:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1")

    def accept(self) -> None:
        """Accept records again."""
        with self.client() as client:
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory", "0")

    def rows(self) -> list[Row]:
        """Return all rows that it holds."""
        rows = []
        with self.client() as client:
            for key in client.scan_iter("flowprov:journal:*"):
                journal = key.decode().rpartition(":")[2]
                for identifier, fields in client.xrange(key):
                    position = int(identifier.partition(b"-")[0]) - 1
                    rows.append(Row(journal, position, next(iter(fields.values()))))
        return rows


class MongoStage(MongoServer):
    """A MongoDB that can be made to refuse."""

    def refuse(self, _how: str) -> None:
        """Refuse further records."""
        self._validate({"no_record_has_this": 1})

    def accept(self) -> None:
        """Accept records again."""
        self._validate({})

    def _validate(self, rule: dict[str, Any]) -> None:
        with self._client() as client:
            for name in _COLLECTIONS:
                client[DATABASE].command({"collMod": name, "validator": rule})

    def rows(self) -> list[Row]:
        """Return all rows that it holds."""
        with self._client() as client:
            return [
                Row(document["journal_id"], document["position"], _as_bytes(document["line"]))
                for name in _COLLECTIONS
                for document in client[DATABASE][name].find({"position": {"$exists": True}})
            ]

    def _client(self) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(self.uri())


Server: TypeAlias = RedisStage | MongoStage


def make_server(kind: str, folder: Path, password: str | None = None) -> Server:
    """Create a server that is not started yet; skip the test if it is not installed."""
    return (RedisStage if kind == "redis" else MongoStage)(folder, password=password)


def _as_bytes(line: str | bytes) -> bytes:
    return line.encode() if isinstance(line, str) else bytes(line)
