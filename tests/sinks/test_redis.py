"""Redis: what was delivered is there once, whatever happens to the server or to us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowprov.records import Header
from flowprov.sinks.base import Entry, SinkRefusedError, SinkUnavailableError
from flowprov.sinks.redis import RedisSink, RedisSource
from tests.sinks.redis_server import RedisServer

HEADER = Header(
    schema=1, journal_id="j1", campaign_id="c1", hostname="h", pid=1, started_at=1, monotonic_ns=1
)
OTHER = Header(schema=1, journal_id="j2", campaign_id="c2", hostname="h", pid=2, started_at=1, monotonic_ns=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def sink(server: RedisServer) -> Iterator[RedisSink]:
    made = RedisSink(server.uri, timeout=1.0)
    yield made
    made.close()


def entries(count: int, first: int = 0) -> list[Entry]:
    return [Entry(number * 7, b'{"n":%d,"text":"\xc3\xa9"}' % number) for number in range(first, count)]


def held(server: RedisServer, journal_id: str = "j1", after: int | None = None) -> list[Entry]:
    source = RedisSource(server.uri)
    try:
        return list(source.entries(journal_id, after))
    finally:
        source.close()


def test_delivered_entries_are_read_back_in_order(server: RedisServer, sink: RedisSink) -> None:
    assert sink.resume_after(HEADER) is None
    sink.deliver(HEADER, entries(2_500))
    assert held(server) == entries(2_500)
    assert held(server, after=entries(2_500)[1_233].position) == entries(2_500, 1_234)
    assert sink.resume_after(HEADER) == entries(2_500)[-1].position


def test_delivering_again_changes_nothing(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, entries(10))
    sink.deliver(HEADER, entries(10))
    sink.deliver(HEADER, entries(20, 5))
    assert held(server) == entries(20)


def test_journals_are_listed_by_campaign(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, entries(1))
    sink.deliver(OTHER, entries(2))
    source = RedisSource(server.uri)
    assert source.campaign_ids() == ["c1", "c2"]
    assert source.journal_ids() == ["j1", "j2"]
    assert source.journal_ids("c2") == ["j2"]
    assert held(server, "j2") == entries(2)
    source.close()


def test_a_long_line_is_kept_whole(server: RedisServer, sink: RedisSink) -> None:
    long = Entry(3, b"x" * 2_000_000)
    sink.deliver(HEADER, [long])
    assert held(server) == [long]


def test_trimming_keeps_the_resume_point(server: RedisServer) -> None:
    sink = RedisSink(server.uri, maxlen=100)
    sink.deliver(HEADER, entries(5_000))
    assert len(held(server)) < 1_000
    assert sink.resume_after(HEADER) == entries(5_000)[-1].position
    sink.close()


def test_a_server_that_is_down_or_frozen_is_unavailable_within_the_timeout(
    server: RedisServer, sink: RedisSink
) -> None:
    sink.deliver(HEADER, entries(5))
    server.freeze()
    started = time.monotonic()
    with pytest.raises(SinkUnavailableError, match="cannot be reached"):
        sink.deliver(HEADER, entries(10, 5))
    assert time.monotonic() - started < 5
    server.thaw()
    sink.deliver(HEADER, entries(10, 5))
    server.kill()
    with pytest.raises(SinkUnavailableError):
        sink.deliver(HEADER, entries(15, 10))
    server.start()
    sink.deliver(HEADER, entries(15, 10))
    assert held(server) == entries(15)


def test_a_server_that_comes_back_empty_is_told_all_again(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, entries(5))
    server.kill()
    server.forget()
    server.start()
    with pytest.raises(SinkUnavailableError):
        for _ in range(2):  # it may be the first call that finds the connection broken, or the data gone
            sink.deliver(HEADER, entries(10, 5))
    assert sink.resume_after(HEADER) is None
    sink.deliver(HEADER, entries(5))
    assert held(server) == entries(5)
    assert RedisSource(server.uri).campaign_ids() == ["c1"]


def test_a_wrong_password_is_refused_and_not_told(server: RedisServer) -> None:
    server.client().config_set("requirepass", "right")
    sink = RedisSink(f"redis://:wr0ng-s3cret@127.0.0.1:{server.port}/0", timeout=1.0)
    with pytest.raises(SinkRefusedError) as refused:
        sink.deliver(HEADER, entries(1))
    assert "wr0ng-s3cret" not in str(refused.value)


def test_a_full_or_read_only_server_refuses(server: RedisServer, sink: RedisSink) -> None:
    client = server.client()
    client.config_set("maxmemory", "1")
    with pytest.raises(SinkRefusedError, match="maxmemory"):
        sink.deliver(HEADER, entries(3))
    client.config_set("maxmemory", "0")
    sink.deliver(HEADER, entries(3))
    client.replicaof("127.0.0.1", "1")
    with pytest.raises(SinkRefusedError, match=r"(?i)read.?only"):
        sink.deliver(HEADER, entries(6, 3))
    client.replicaof("NO", "ONE")
    sink.deliver(HEADER, entries(6, 3))
    assert held(server) == entries(6)
