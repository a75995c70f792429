"""The kinds of sinks over which the contract tests run, with what the tests need of each."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pymongo
import redis

from flowprov.records import Header
from flowprov.sinks.base import Entry, Sink
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.mongodb.sink import MongoSink
from flowprov.sinks.redis import CAMPAIGNS, RedisReader, RedisSink, campaign_key, journal_key
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import ServerProcess

# Others may use a server too, and the tests must leave it as it was: all that a run creates has this name.
RUN = f"flowprov_test_{uuid.uuid4().hex[:12]}"


class Source(Protocol):
    """Reads back what a sink delivered."""

    def campaign_ids(self) -> list[str]:
        """Return the campaigns."""

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """Return the journals of a campaign, or of all."""


class Kind(Protocol):
    """One kind of sink."""

    name: str

    def server(self, folder: Path, password: str | None = None) -> ServerProcess:
        """Create a server for one test, not started."""

    def sink(self, uri: str, timeout: float) -> Sink:
        """Create a sink."""

    def stored(self, uri: str, journal_id: str, after: int | None = None) -> list[Entry]:
        """Read back the entries of a journal."""

    def journals(self, uri: str, campaign_id: str) -> list[str]:
        """Return the journals of a campaign, sorted."""

    def clean(self, uri: str) -> None:
        """Remove from a server what this run of tests created."""


class RedisKind:
    """Redis Streams."""

    name = "redis"

    def server(self, folder: Path, password: str | None = None) -> ServerProcess:
        """Create a server for one test, not started."""
        return RedisServer(folder, password=password)

    def sink(self, uri: str, timeout: float) -> Sink:
        """Create a sink."""
        return RedisSink(uri, timeout=timeout)

    def stored(self, uri: str, journal_id: str, after: int | None = None) -> list[Entry]:
        """Read back the entries of a journal."""
        with closing(RedisReader(uri)) as reader:
            return list(reader.entries(journal_id, after))

    def journals(self, uri: str, campaign_id: str) -> list[str]:
        """Return the journals of a campaign, sorted."""
        with closing(RedisReader(uri)) as reader:
            return _journals(reader, campaign_id)

    def clean(self, uri: str) -> None:
        """Remove from a server what this run of tests created."""
        with closing(RedisReader(uri)) as reader, redis.Redis.from_url(uri) as client:
            for campaign_id in reader.campaign_ids():
                if campaign_id.startswith(RUN):
                    client.delete(*map(journal_key, reader.journal_ids(campaign_id)))
                    client.delete(campaign_key(campaign_id))
                    client.srem(CAMPAIGNS, campaign_id)


class MongoKind:
    """MongoDB, in a database of the tests' own."""

    name = "mongodb"

    def server(self, folder: Path, password: str | None = None) -> ServerProcess:
        """Create a server for one test, not started."""
        return MongoServer(folder, password=password)

    def sink(self, uri: str, timeout: float) -> Sink:
        """Create a sink."""
        return MongoSink(uri, database=RUN, timeout=timeout)

    def stored(self, uri: str, journal_id: str, after: int | None = None) -> list[Entry]:
        """Read back the entries of a journal."""
        with closing(MongoReader(uri, database=RUN)) as reader:
            return list(reader.entries(journal_id, after))

    def journals(self, uri: str, campaign_id: str) -> list[str]:
        """Return the journals of a campaign, sorted."""
        with closing(MongoReader(uri, database=RUN)) as reader:
            return _journals(reader, campaign_id)

    def clean(self, uri: str) -> None:
        """Remove from a server what this run of tests created."""
        with pymongo.MongoClient[dict[str, object]](uri) as client:
            client.drop_database(RUN)


def new_header(campaign_id: str | None = None) -> Header:
    """Return the header of a new journal."""
    return Header(
        schema=1,
        journal_id=str(uuid.uuid4()),
        campaign_id=campaign_id or f"{RUN}_{uuid.uuid4().hex[:8]}",
        hostname="host",
        pid=1,
        started_at=1,
        monotonic_ns=1,
    )


def at_positions(*lines: bytes, start: int = 0, gap: int = 1) -> list[Entry]:
    """Return lines as entries, at the positions that they would have in a journal."""
    entries, position = [], start
    for line in lines:
        entries.append(Entry(position, line))
        position += len(line) + gap
    return entries


def numbered(count: int) -> list[Entry]:
    """Return entries that all differ."""
    return at_positions(*(b'{"type":"task","task_id":%d}' % number for number in range(count)))


def _journals(reader: Source, campaign_id: str) -> list[str]:
    assert campaign_id in reader.campaign_ids()
    journals = reader.journal_ids(campaign_id)
    assert set(journals) <= set(reader.journal_ids())
    return sorted(journals)
