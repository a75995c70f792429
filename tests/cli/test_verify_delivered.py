"""``flowprov verify`` and the servers to which a run is delivered: what they hold, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from tests.cli.support import Said, flowprov, running
from tests.sinks.mongodb_server import EXECUTABLE, MongoServer
from tests.sinks.redis_server import RedisServer
from tests.support import only, run, start

_PROGRAM = """
    import flowprov

    @flowprov.task
    def step(number):
        return "x" * 100

    with flowprov.workflow("W"):
        for number in range(50):
            step(number)
"""
Server = RedisServer | MongoServer


def _mongodb(folder: Path) -> MongoServer:
    if not EXECUTABLE.exists():
        pytest.skip("NO MONGODB SERVER: see tests/sinks/mongodb_server.py for how to install one")
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


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that can be asked for more."""
    made = RedisServer(tmp_path / "server")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def _verify(folder: Path, *arguments: str, **env: str) -> Said:
    return flowprov("verify", *arguments, cwd=folder, env=env)


def _delivery(said: Said) -> Any:
    return only(only(said.json["journals"])["deliveries"])


def _counts(folder: Path, uri: str, **env: str) -> tuple[int, int, int, int, int]:
    told = _delivery(_verify(folder, "--json", "--to", uri, **env))
    assert told["lines"] == told["held"] + told["waiting"] + told["trimmed"] + told["missing"]
    assert told["unknown"] is None
    return tuple(told[each] for each in ("lines", "held", "waiting", "trimmed", "missing"))


def _identifiers(client: Any, stream: str) -> list[bytes]:
    return [identifier for identifier, _ in client.xrange(stream)]


def _ship(folder: Path, uri: str, **env: str) -> None:
    assert flowprov("ship", "--to", uri, cwd=folder, env=env).status == 0


def test_what_waits_makes_a_run_incomplete_until_it_is_delivered(server: Server, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    total = len(only(find_journals(tmp_path / "flowprov_buffer")).read_bytes().split(b'{"type"')) - 1
    said = _verify(tmp_path, "flowprov_buffer", "--to", server.uri())
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    mend = f"`flowprov ship flowprov_buffer --to {server.uri()}` delivers them."
    assert said.out.splitlines()[-1] == f"INCOMPLETE: {total} records wait for {server.uri()}: {mend}"
    assert _counts(tmp_path, server.uri()) == (total, 0, total, 0, 0)
    _ship(tmp_path, server.uri())
    said = _verify(tmp_path, "--to", server.uri())
    assert (said.status, said.verdict) == (0, "COMPLETE")
    assert f"delivered to {server.uri()}." in said.out
    assert _counts(tmp_path, server.uri()) == (total, total, 0, 0, 0)


def test_what_came_after_the_delivery_waits_and_is_no_fault_while_the_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    with running(tmp_path) as process:
        said = _verify(tmp_path, "--to", server.uri())
        assert (said.status, said.verdict) == (0, "RUNNING")
        assert f"records wait for {server.uri()}, nothing amiss." in said.out
        _ship(tmp_path, server.uri())
        lines, held, waiting, *_ = _counts(tmp_path, server.uri())
        assert (held, waiting) == (lines, 0)
        process.kill()
    path = only(find_journals(tmp_path / "flowprov_buffer"))
    with path.open("ab") as file:
        file.write(b'\n{"type":"sample","at":1,"values":{}}\n' * 2)
    assert _counts(tmp_path, server.uri()) == (lines + 2, lines, 2, 0, 0)


def test_the_sinks_of_the_settings_are_asked_and_credentials_are_not_shown(
    redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    redis.client().config_set("requirepass", "s3cret")
    uri = f"redis://:s3cret@127.0.0.1:{redis.port}/0"
    said = _verify(tmp_path, FLOWPROV__SINKS__REDIS__URI=uri)
    assert (said.status, "`flowprov ship` delivers them" in said.out) == (1, True)
    assert "s3cret" not in said.out + said.err
    wrong = _verify(tmp_path, FLOWPROV__SINKS__REDIS__URI=uri.replace("s3cret", "wr0ng"))
    assert (wrong.status, wrong.verdict) == (1, "INCOMPLETE")
    assert "refuses" in wrong.out
    assert "wr0ng" not in wrong.out + wrong.err


def test_without_sinks_nothing_is_said_of_delivery(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    said = _verify(tmp_path)
    assert (said.status, "deliver" in said.out) == (0, False)
    assert only(_verify(tmp_path, "--json").json["journals"])["deliveries"] == []


def test_a_sink_that_cannot_be_reached_leaves_its_delivery_unknown_beside_one_that_can(
    redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, redis.uri())
    away = "redis://127.0.0.1:1/0"
    said = _verify(tmp_path, "--to", redis.uri(), "--to", away)
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    assert f"delivery to {away} unknown" in said.out.splitlines()[-1]
    assert only([line for line in said.out.splitlines() if "unknown: " in line]).startswith(f"  [2] {away}")
    held, unknown = only(_verify(tmp_path, "--json", "--to", redis.uri(), "--to", away).json["journals"])[
        "deliveries"
    ]
    assert (held["held"], held["waiting"], unknown["held"]) == (held["lines"], 0, None)
    assert "cannot be reached" in unknown["unknown"]


def test_lines_that_a_stream_lost_are_missing(redis: RedisServer, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, redis.uri())
    client = redis.client()
    stream = only(client.keys("flowprov:journal:*"))
    client.xdel(stream, *_identifiers(client, stream)[3:5])
    said = _verify(tmp_path, "--to", redis.uri())
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    assert f"2 records are missing on {redis.uri()}" in said.out
    lines = _counts(tmp_path, redis.uri())[0]
    assert _counts(tmp_path, redis.uri()) == (lines, lines - 2, 0, 0, 2)


def test_documents_that_were_deleted_are_missing(tmp_path: Path) -> None:
    pymongo = pytest.importorskip("pymongo")
    server = _mongodb(tmp_path / "server")
    try:
        server.start()
        run(_PROGRAM, tmp_path)
        _ship(tmp_path, server.uri())
        with pymongo.MongoClient(server.uri()) as client:
            client.flowprov.tasks.delete_one({})
        lines = _counts(tmp_path, server.uri())[0]
        assert _counts(tmp_path, server.uri()) == (lines, lines - 1, 0, 0, 1)
    finally:
        server.kill()


def test_a_stream_that_is_cut_to_its_length_is_trimmed_and_no_fault(
    redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, redis.uri())
    client = redis.client()
    stream = only(client.keys("flowprov:journal:*"))
    client.xtrim(stream, maxlen=20, approximate=False)
    bound = {"FLOWPROV__SINKS__REDIS__MAXLEN": "20"}
    lines, *rest = _counts(tmp_path, redis.uri(), **bound)
    assert rest == [20, 0, lines - 20, 0]
    assert _verify(tmp_path, "--to", redis.uri(), **bound).status == 0
    assert _counts(tmp_path, redis.uri())[-1] == lines - 20, "without a bound nothing may be let go of"
    client.xdel(stream, _identifiers(client, stream)[3])
    bound["FLOWPROV__SINKS__REDIS__MAXLEN"] = "19"
    assert _counts(tmp_path, redis.uri(), **bound)[-2:] == (lines - 20, 1)


def test_a_footer_behind_the_header_waits_until_it_is_delivered(redis: RedisServer, tmp_path: Path) -> None:
    endless = _PROGRAM + "\n    import time\n    print('done', flush=True)\n    time.sleep(600)\n"
    env = {"FLOWPROV__JOURNAL__MAX_BYTES": "6144", "FLOWPROV__JOURNAL__WRITER": "write"}
    with start(endless, tmp_path, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        _ship(tmp_path, redis.uri())
        process.kill()
    path = only(find_journals(tmp_path / "flowprov_buffer"))
    before = _counts(tmp_path, redis.uri())
    assert before[0] == before[1]
    content = path.read_bytes()
    room = content.find(b"\n") + 1
    footer = b'{"type":"footer","at":9,"captured":51,"written":9,"dropped":{"max_bytes":42}}\n'
    path.write_bytes(content[:room] + footer + content[room + len(footer) :])
    assert _counts(tmp_path, redis.uri()) == (before[0] + 1, before[0], 1, 0, 0)
    for _ in range(2):
        _ship(tmp_path, redis.uri())
        assert _counts(tmp_path, redis.uri()) == (before[0] + 1, before[0] + 1, 0, 0, 0)
    redis.kill()
    redis.forget()
    redis.start()
    _ship(tmp_path, redis.uri())
    assert _counts(tmp_path, redis.uri()) == (before[0] + 1, before[0] + 1, 0, 0, 0)


def test_a_server_as_the_source_is_checked_by_itself(redis: RedisServer, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, redis.uri())
    said = _verify(tmp_path, redis.uri(), FLOWPROV__SINKS__REDIS__URI=redis.uri())
    assert (said.status, said.verdict, "deliver" in said.out) == (0, "COMPLETE", False)
    refused = _verify(tmp_path, redis.uri(), "--to", redis.uri())
    assert (refused.status, refused.out) == (2, "")
    assert "give the buffer folder" in refused.err
