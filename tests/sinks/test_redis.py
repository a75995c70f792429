"""What is particular to Redis: its streams, its script, the ways in which it refuses."""

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
from tests.sinks.kinds import RedisKind, new_header, numbered, placed
from tests.sinks.redis_server import RedisServer

HEADER = new_header()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def sink(server: RedisServer) -> Iterator[RedisSink]:
    made = RedisSink(server.uri(), timeout=1.0)
    yield made
    made.close()


def held(server: RedisServer) -> list[Entry]:
    return RedisKind().held(server.uri(), HEADER.journal_id)


def test_trimming_keeps_the_resume_point(server: RedisServer) -> None:
    sink, sent = RedisSink(server.uri(), maxlen=100), numbered(5_000)
    for begin in range(0, 5_000, 500):
        sink.deliver(HEADER, sent[begin : begin + 500])
    assert 100 <= len(held(server)) < 1_000
    assert sink.resume_after(HEADER) == sent[-1].position
    sink.close()


def test_a_stream_that_somebody_emptied_is_gone_on_with(server: RedisServer, sink: RedisSink) -> None:
    sent = numbered(10)
    sink.deliver(HEADER, sent[:5])
    server.client().xtrim(journal_key(HEADER.journal_id), maxlen=0, approximate=False)
    with pytest.raises(SinkUnavailableError, match="less than it had"):
        sink.deliver(HEADER, sent[5:])
    assert sink.resume_after(HEADER) == sent[4].position
    sink.deliver(HEADER, sent[5:])
    assert held(server) == sent[5:]


@pytest.mark.parametrize(
    "options", ["", "?decode_responses=true&protocol=3&encoding=utf-16&socket_timeout=99"]
)
def test_a_loss_is_noticed_whatever_the_address_asks_of_the_client(server: RedisServer, options: str) -> None:
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


def test_a_server_that_forgot_the_script_is_given_it_again(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().script_flush()
    sink.deliver(HEADER, numbered(6))
    assert held(server) == numbered(6)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("maxmemory", "1", "maxmemory"), ("min-replicas-to-write", "1", "(?i)replicas")],
)
def test_a_server_that_takes_no_writes_refuses_until_it_does(
    server: RedisServer, sink: RedisSink, setting: str, value: str, said: str
) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().config_set(setting, value)
    with pytest.raises(SinkRefusedError, match=said):
        sink.deliver(HEADER, numbered(6))
    assert sink.resume_after(HEADER) == numbered(3)[-1].position
    server.client().config_set(setting, "0")
    sink.deliver(HEADER, numbered(6))
    assert held(server) == numbered(6)


def test_a_replica_refuses_until_it_is_none(server: RedisServer, sink: RedisSink) -> None:
    sink.deliver(HEADER, numbered(3))
    server.client().replicaof("127.0.0.1", "1")
    with pytest.raises(SinkRefusedError, match=r"(?i)read.?only"):
        sink.deliver(HEADER, numbered(6))
    server.client().replicaof("NO", "ONE")
    sink.deliver(HEADER, numbered(6))
    assert held(server) == numbered(6)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_a_server_that_fills_up_holds_a_beginning_without_gaps(
    server: RedisServer, sink: RedisSink, size: int
) -> None:
    # A short line fits where a long one did not: taken after it, it would hide it for ever.
    sent = placed(*(b"x" * (30_000 if number % 3 else 10) for number in range(300)))
    used = server.client().info("memory")["used_memory"]
    server.client().config_set("maxmemory", used + 1_000_000)
    rest = iter(sent)
    with suppress(SinkRefusedError):
        while batch := list(islice(rest, size)):
            sink.deliver(HEADER, batch)
    for begin in range(0, 300, 50):  # and when it is tried with others
        with suppress(SinkError):
            sink.deliver(HEADER, sent[begin : begin + 50])
    reached = sink.resume_after(HEADER)
    before = [] if reached is None else [entry for entry in sent if entry.position <= reached]
    assert held(server) == before
    server.client().config_set("maxmemory", "0")
    sink.deliver(HEADER, sent[len(before) :])
    assert held(server) == sent


def test_a_server_without_scripts_refuses_and_quotes_no_record(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--rename-command", "EVAL", "")
    try:
        server.start()
        sink = RedisSink(server.uri())
        with pytest.raises(SinkRefusedError, match=r"(?i)unknown command .EVAL") as caught:
            sink.deliver(HEADER, placed(b"geheim"))
        assert not any(word in str(caught.value) for word in ("geheim", "XADD", HEADER.journal_id))
        sink.close()
    finally:
        server.kill()


def test_a_user_who_may_not_run_scripts_is_told_so(server: RedisServer) -> None:
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
def test_an_address_that_is_none_is_refused_without_its_credentials(uri: str) -> None:
    sink = RedisSink(uri, timeout=1.0)
    with pytest.raises(SinkRefusedError) as caught:
        sink.resume_after(HEADER)
    known = traceback.format_exception(caught.value)
    assert not any(
        word in "".join(known) for word in ("ge/he", "he@im", "ada:", ":geheim@", "password=geheim")
    )
