"""What is particular to Redis: its streams, its script, and the ways in which it refuses."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import pytest

from flowprov.errors import SinkError, SinkRefusedError, SinkUnavailableError
from flowprov.sinks.base import Entry
from flowprov.sinks.redis import RedisReader, RedisSink, journal_key
from tests.sinks.kinds import RedisKind, at_positions, new_header, numbered
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import started

HEADER = new_header()


@pytest.fixture
def server(own_redis: RedisServer) -> RedisServer:
    """Return a running Redis instead of a server of each kind."""
    return own_redis


@pytest.fixture
def sink(server: RedisServer) -> Iterator[RedisSink]:
    opened = RedisSink(server.uri(), timeout=1.0)
    yield opened
    opened.close()


def stored(server: RedisServer) -> list[Entry]:
    return RedisKind().stored(server.uri(), HEADER.journal_id)


def test_trimming_keeps_the_resume_point(server: RedisServer) -> None:
    sink, sent = RedisSink(server.uri(), maxlen=100), numbered(5_000)
    for begin in range(0, 5_000, 500):
        sink.deliver(HEADER, sent[begin : begin + 500])
    assert 100 <= len(stored(server)) < 1_000
    assert sink.resume_after(HEADER) == sent[-1].position
    sink.close()


def test_a_stream_that_was_emptied_is_continued(server: RedisServer, sink: RedisSink) -> None:
    sent = numbered(10)
    sink.deliver(HEADER, sent[:5])
    server.client().xtrim(journal_key(HEADER.journal_id), maxlen=0, approximate=False)
    with pytest.raises(SinkUnavailableError, match="less than it had"):
        sink.deliver(HEADER, sent[5:])
    assert sink.resume_after(HEADER) == sent[4].position
    sink.deliver(HEADER, sent[5:])
    assert stored(server) == sent[5:]


@pytest.mark.parametrize(
    "options", ["", "?decode_responses=true&protocol=3&encoding=utf-16&socket_timeout=99"]
)
def test_a_loss_is_noticed_whatever_options_the_address_has(server: RedisServer, options: str) -> None:
    sink, sent = RedisSink(server.uri() + options, timeout=1.0), numbered(10)
    sink.deliver(HEADER, sent[:5])
    server.client().flushall()
    with pytest.raises(SinkUnavailableError, match="less than it had"):
        sink.deliver(HEADER, sent[5:])
    assert sink.resume_after(HEADER) is None
    sink.deliver(HEADER, sent)
    with closing(RedisReader(server.uri() + options)) as source:
        assert source.campaign_ids() == [HEADER.campaign_id]
        assert list(source.entries(HEADER.journal_id)) == sent
    sink.close()


def test_a_server_that_lost_the_script_gets_it_again(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().script_flush()
    sink.deliver(HEADER, numbered(6))
    assert stored(server) == numbered(6)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("maxmemory", "1", "maxmemory"), ("min-replicas-to-write", "1", "(?i)replicas")],
)
def test_a_server_that_accepts_no_writes_refuses_until_it_does(
    server: RedisServer, sink: RedisSink, setting: str, value: str, said: str
) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().config_set(setting, value)
    with pytest.raises(SinkRefusedError, match=said):
        sink.deliver(HEADER, numbered(6))
    assert sink.resume_after(HEADER) == numbered(3)[-1].position
    server.client().config_set(setting, "0")
    sink.deliver(HEADER, numbered(6))
    assert stored(server) == numbered(6)


def test_a_read_only_replica_refuses_until_it_is_promoted(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().replicaof("127.0.0.1", "1")
    with pytest.raises(SinkRefusedError, match=r"(?i)read.?only"):
        sink.deliver(HEADER, numbered(6))
    server.client().replicaof("NO", "ONE")
    sink.deliver(HEADER, numbered(6))
    assert stored(server) == numbered(6)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_a_server_that_runs_full_holds_a_beginning_without_gaps(
    server: RedisServer, sink: RedisSink, size: int
) -> None:
    # A short line may fit where a long one before it did not: stored, it would hide the long one forever.
    sent = at_positions(*(b"x" * (30_000 if number % 3 else 10) for number in range(300)))
    used = server.client().info("memory")["used_memory"]
    server.client().config_set("maxmemory", used + 1_000_000)
    rest = iter(sent)
    with suppress(SinkRefusedError):
        while batch := list(islice(rest, size)):
            sink.deliver(HEADER, batch)
    for begin in range(0, 300, 50):  # also in attempts with other batches
        with suppress(SinkError):
            sink.deliver(HEADER, sent[begin : begin + 50])
    reached = sink.resume_after(HEADER)
    before = [] if reached is None else [entry for entry in sent if entry.position <= reached]
    assert stored(server) == before
    server.client().config_set("maxmemory", "0")
    sink.deliver(HEADER, sent[len(before) :])
    assert stored(server) == sent


def test_a_server_without_scripts_refuses_and_quotes_no_record(tmp_path: Path) -> None:
    with started(RedisServer(tmp_path / "redis", "--rename-command", "EVAL", "")) as server:
        sink = RedisSink(server.uri())
        with pytest.raises(SinkRefusedError, match=r"(?i)unknown command .EVAL") as caught:
            sink.deliver(HEADER, at_positions(b"geheim"))
        assert not any(word in str(caught.value) for word in ("geheim", "XADD", HEADER.journal_id))
        sink.close()


def test_a_user_without_the_right_to_run_scripts_is_refused_with_the_reason(server: RedisServer) -> None:
    server.client().acl_setuser(
        "ada", enabled=True, passwords=["+geheim"], keys=["*"], commands=["+@all", "-eval"]
    )
    sink = RedisSink(server.uri().replace("://", "://ada:geheim@"))
    with pytest.raises(SinkRefusedError, match="no permissions") as caught:
        sink.deliver(HEADER, numbered(1))
    assert "geheim" not in str(caught.value)
    sink.close()


@pytest.mark.parametrize(
    "uri",
    [
        "redis://:ge/he@im@localhost/0",
        "redis://ada:geheim@localhost:port/0",
        "redis://localhost/?password=geheim&nothing=1",
        "redis://localhost/?db=geheim",
        "redis://[::geheim",
        "nothing://geheim@x",
        "",
    ],
)
def test_an_invalid_address_is_refused_without_its_credentials(uri: str) -> None:
    sink = RedisSink(uri, timeout=1.0)
    with pytest.raises(SinkRefusedError) as caught:
        sink.resume_after(HEADER)
    text = "".join(traceback.format_exception(caught.value))
    assert not any(word in text for word in ("ge/he", "he@im", "ada:", ":geheim@", "password=geheim"))
