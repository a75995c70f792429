"""How many lines of a journal a server holds, by its own count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov.read.remote import open_remote
from flowprov.records import encode
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb_reader import MongoSource
from flowprov.sinks.redis import RedisSource
from flowprov.sinks.ship import open_sink
from tests.journal.support import header, step
from tests.sinks.mongodb_server import MongoServer, skip_without_server
from tests.sinks.redis_server import RedisServer

Server = RedisServer | MongoServer


def _mongodb(folder: Path) -> MongoServer:
    skip_without_server()
    return MongoServer(folder)


@pytest.fixture(params=[RedisServer, _mongodb], ids=["redis", "mongodb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of each kind."""
    make: Callable[[Path], Server] = request.param
    made = make(tmp_path / "server")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_lines_are_counted_once_and_by_their_journal(server: Server) -> None:
    sink, source = open_sink(server.uri), open_remote(server.uri)
    assert isinstance(source, (RedisSource, MongoSource))
    assert source.count("j1") == 0
    entries = [Entry(0, encode(header()).rstrip())]
    entries += [Entry(number * 300, encode(step(number)).rstrip()) for number in range(1, 1_200)]
    sink.deliver(header(), entries)
    sink.deliver(header(), entries[-10:])
    sink.deliver(header("j2"), entries[:3])
    assert (source.count("j1"), source.count("j2"), source.count("j3")) == (1_200, 3, 0)
    sink.close()
    source.close()
