"""``flowprov verify`` and the sinks of a run: the counts on each sink, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from tests.cli.support import CommandResult, flowprov, start_endless
from tests.sinks.mongodb_server import MongoServer
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


@pytest.fixture(params=["redis", "mongodb"])
def server(request: pytest.FixtureRequest) -> Server:
    """A server of each kind."""
    running_server: Server = request.getfixturevalue(f"own_{request.param}")
    return running_server


def _verify(folder: Path, *arguments: str, **env: str) -> CommandResult:
    return flowprov("verify", *arguments, cwd=folder, env=env)


def _delivery(result: CommandResult) -> Any:
    return only(only(result.json["journals"])["deliveries"])


def _counts(folder: Path, uri: str, **env: str) -> tuple[int, int, int, int, int]:
    counts = _delivery(_verify(folder, "--json", "--to", uri, **env))
    assert counts["lines"] == counts["held"] + counts["waiting"] + counts["trimmed"] + counts["missing"]
    assert counts["unknown"] is None
    return tuple(counts[name] for name in ("lines", "held", "waiting", "trimmed", "missing"))


def _identifiers(client: Any, stream: str) -> list[bytes]:
    return [identifier for identifier, _ in client.xrange(stream)]


def _ship(folder: Path, uri: str, **env: str) -> None:
    assert flowprov("ship", "--to", uri, cwd=folder, env=env).status == 0


def test_records_that_wait_make_a_run_incomplete_until_they_are_delivered(
    server: Server, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    total = len(only(find_journals(tmp_path / "flowprov_buffer")).read_bytes().split(b'{"type"')) - 1
    result = _verify(tmp_path, "flowprov_buffer", "--to", server.uri())
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    advice = f"`flowprov ship flowprov_buffer --to {server.uri()}` delivers them."
    assert result.out.splitlines()[-1] == f"INCOMPLETE: {total} records wait for {server.uri()}: {advice}"
    assert _counts(tmp_path, server.uri()) == (total, 0, total, 0, 0)
    _ship(tmp_path, server.uri())
    result = _verify(tmp_path, "--to", server.uri())
    assert (result.status, result.verdict) == (0, "COMPLETE")
    assert f"delivered to {server.uri()}." in result.out
    assert _counts(tmp_path, server.uri()) == (total, total, 0, 0, 0)


def test_records_after_the_delivery_wait_and_are_no_problem_while_the_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    with start_endless(tmp_path) as process:
        result = _verify(tmp_path, "--to", server.uri())
        assert (result.status, result.verdict) == (0, "RUNNING")
        assert f"records wait for {server.uri()}, nothing amiss." in result.out
        _ship(tmp_path, server.uri())
        lines, stored, waiting, *_ = _counts(tmp_path, server.uri())
        assert (stored, waiting) == (lines, 0)
        process.kill()
    path = only(find_journals(tmp_path / "flowprov_buffer"))
    with path.open("ab") as file:
        file.write(b'\n{"type":"sample","at":1,"values":{}}\n' * 2)
    assert _counts(tmp_path, server.uri()) == (lines + 2, lines, 2, 0, 0)


def test_the_sinks_of_the_settings_are_checked_and_credentials_are_not_printed(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    own_redis.client().config_set("requirepass", "s3cret")
    uri = f"redis://:s3cret@127.0.0.1:{own_redis.port}/0"
    result = _verify(tmp_path, FLOWPROV__SINKS__REDIS__URI=uri)
    assert (result.status, "`flowprov ship` delivers them" in result.out) == (1, True)
    assert "s3cret" not in result.out + result.err
    wrong = _verify(tmp_path, FLOWPROV__SINKS__REDIS__URI=uri.replace("s3cret", "wr0ng"))
    assert (wrong.status, wrong.verdict) == (1, "INCOMPLETE")
    assert "refuses" in wrong.out
    assert "wr0ng" not in wrong.out + wrong.err


def test_without_sinks_delivery_is_not_mentioned(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    result = _verify(tmp_path)
    assert (result.status, "deliver" in result.out) == (0, False)
    assert only(_verify(tmp_path, "--json").json["journals"])["deliveries"] == []


def test_a_sink_that_cannot_be_reached_is_unknown_beside_one_that_is_checked(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, own_redis.uri())
    away = "redis://127.0.0.1:1/0"
    result = _verify(tmp_path, "--to", own_redis.uri(), "--to", away)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert f"delivery to {away} unknown" in result.out.splitlines()[-1]
    assert only([line for line in result.out.splitlines() if "unknown: " in line]).startswith(f"  [2] {away}")
    report = _verify(tmp_path, "--json", "--to", own_redis.uri(), "--to", away).json
    reached, unknown = only(report["journals"])["deliveries"]
    assert (reached["held"], reached["waiting"], unknown["held"]) == (reached["lines"], 0, None)
    assert "cannot be reached" in unknown["unknown"]


def test_lines_that_were_deleted_from_a_stream_are_missing(own_redis: RedisServer, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, own_redis.uri())
    client = own_redis.client()
    stream = only(client.keys("flowprov:journal:*"))
    client.xdel(stream, *_identifiers(client, stream)[3:5])
    result = _verify(tmp_path, "--to", own_redis.uri())
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert f"2 records are missing on {own_redis.uri()}" in result.out
    lines = _counts(tmp_path, own_redis.uri())[0]
    assert _counts(tmp_path, own_redis.uri()) == (lines, lines - 2, 0, 0, 2)


def test_documents_that_were_deleted_are_missing(own_mongodb: MongoServer, tmp_path: Path) -> None:
    pymongo = pytest.importorskip("pymongo")
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, own_mongodb.uri())
    with pymongo.MongoClient(own_mongodb.uri()) as client:
        client.flowprov.tasks.delete_one({})
    lines = _counts(tmp_path, own_mongodb.uri())[0]
    assert _counts(tmp_path, own_mongodb.uri()) == (lines, lines - 1, 0, 0, 1)


def test_a_stream_that_was_trimmed_to_its_maximum_length_is_no_problem(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, own_redis.uri())
    client = own_redis.client()
    stream = only(client.keys("flowprov:journal:*"))
    client.xtrim(stream, maxlen=20, approximate=False)
    bound = {"FLOWPROV__SINKS__REDIS__MAXLEN": "20"}
    lines, *rest = _counts(tmp_path, own_redis.uri(), **bound)
    assert rest == [20, 0, lines - 20, 0]
    assert _verify(tmp_path, "--to", own_redis.uri(), **bound).status == 0
    assert _counts(tmp_path, own_redis.uri())[-1] == lines - 20, "without a maximum no line may be gone"
    client.xdel(stream, _identifiers(client, stream)[3])
    bound["FLOWPROV__SINKS__REDIS__MAXLEN"] = "19"
    assert _counts(tmp_path, own_redis.uri(), **bound)[-2:] == (lines - 20, 1)


def test_a_footer_in_the_reserved_slot_waits_until_it_is_delivered(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    endless = _PROGRAM + "\n    import time\n    print('done', flush=True)\n    time.sleep(600)\n"
    env = {"FLOWPROV__JOURNAL__MAX_BYTES": "6144", "FLOWPROV__JOURNAL__WRITER": "write"}
    with start(endless, tmp_path, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        _ship(tmp_path, own_redis.uri())
        process.kill()
    path = only(find_journals(tmp_path / "flowprov_buffer"))
    before = _counts(tmp_path, own_redis.uri())
    assert before[0] == before[1]
    content = path.read_bytes()
    slot = content.find(b"\n") + 1
    footer = b'{"type":"footer","at":9,"captured":51,"written":9,"dropped":{"max_bytes":42}}\n'
    path.write_bytes(content[:slot] + footer + content[slot + len(footer) :])
    assert _counts(tmp_path, own_redis.uri()) == (before[0] + 1, before[0], 1, 0, 0)
    for _ in range(2):
        _ship(tmp_path, own_redis.uri())
        assert _counts(tmp_path, own_redis.uri()) == (before[0] + 1, before[0] + 1, 0, 0, 0)
    own_redis.kill()
    own_redis.delete_data()
    own_redis.start()
    _ship(tmp_path, own_redis.uri())
    assert _counts(tmp_path, own_redis.uri()) == (before[0] + 1, before[0] + 1, 0, 0, 0)


def test_a_campaign_that_is_read_from_a_server_is_checked_without_sinks(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path)
    _ship(tmp_path, own_redis.uri())
    result = _verify(tmp_path, own_redis.uri(), FLOWPROV__SINKS__REDIS__URI=own_redis.uri())
    assert (result.status, result.verdict, "deliver" in result.out) == (0, "COMPLETE", False)
    refused = _verify(tmp_path, own_redis.uri(), "--to", own_redis.uri())
    assert (refused.status, refused.out) == (2, "")
    assert "give the buffer folder" in refused.err
