"""Servers that hold what no flowprov delivered: others write to them, too, and positions may be anything."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis

from flowprov import records
from flowprov.read import Buffer, mirror
from flowprov.records import Footer, Task
from flowprov.sinks.base import LATE_FOOTER
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.redis import CAMPAIGNS, RedisReader, campaign_key, journal_key
from tests.fuzzing.everything import MemoryServer, read_everything
from tests.journal.support import NS, header, step, write
from tests.read.conftest import Uris
from tests.read.locations import deliver

_FOOTER = Footer(at=9 * NS, captured=2, written=2)


def _rows(buffer: Buffer, campaign_id: str) -> list[Any]:
    return [row.task_id for row in buffer.records(campaign_id=campaign_id) if isinstance(row, Task)]


@pytest.mark.parametrize(
    "position", [-1, -(2**62), 2**43 + 1, 2**61, LATE_FOOTER - 1, LATE_FOOTER + 1, 2**70, 3]
)
def test_entries_at_impossible_positions_are_left_out(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer()
    lines = [records.encode(record).rstrip() for record in (header(), step(0), step(1), _FOOTER)]
    entries = dict(zip((0, 1_000, 2_000, 3_000), lines, strict=True))
    server.journals = {"c1": {"j1": {**entries, position: records.encode(step(7)).rstrip()}}}
    monkeypatch.setattr(mirror, "open_reader", lambda _: server)
    ids = _rows(Buffer("memory://"), "c1")
    assert ids[-2:] == ["j1-0", "j1-1"] or ids[:2] == ["j1-0", "j1-1"] or position == 3
    assert Buffer("memory://").campaigns()


@pytest.mark.parametrize("name", ["x" * 4_000, "../../etc/passwd", "", "\0", "a/b", "caf\u00e9\n"])
def test_ids_of_any_form_name_files_in_the_mirror_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = MemoryServer()
    line = records.encode(header(name, name, hostname=name)).rstrip()
    server.journals = {name: {name: {0: line, 20_000: records.encode(step(0)).rstrip()}}}
    monkeypatch.setattr(mirror, "open_reader", lambda _: server)
    buffer = Buffer("memory://")
    assert len(list(buffer.records())) == 1
    written = list(tmp_path.rglob("*.jsonl"))
    assert written
    assert all("etc" not in path.parts for path in written)


def test_entries_of_others_in_a_stream_of_redis_are_passed_over(tmp_path: Path, fresh_uri: Uris) -> None:
    uri, campaign_id = fresh_uri("redis"), str(uuid.uuid4())
    own = header(str(uuid.uuid4()), campaign_id)
    path = write(tmp_path, own, step(0), step(1), _FOOTER)
    deliver(uri, tmp_path)
    key = journal_key(own.journal_id)
    with redis.Redis.from_url(uri) as client:
        client.xadd(key, {"other": "x"}, id=f"{path.stat().st_size + 10}-5")
        for number in range(2_500):  # more than a page
            client.xadd(key, {"other": "x"}, id=f"{path.stat().st_size + 11}-{number}")
        client.sadd(CAMPAIGNS, b"\xff\xfe")
        client.sadd(campaign_key(campaign_id), b"\xff", "no such journal")
        client.xadd(journal_key("no such journal"), {"other": "x"})
    assert _rows(Buffer(uri), campaign_id) == [f"{own.journal_id}-{n}" for n in range(2)]
    assert RedisReader(uri).campaign_ids()
    assert next(iter(RedisReader(uri).ends([own.journal_id], 3)))[0].position == 0


def test_documents_of_others_in_mongodb_are_passed_over(tmp_path: Path, fresh_uri: Uris) -> None:
    uri, campaign_id = fresh_uri("mongodb"), str(uuid.uuid4())
    own = header(str(uuid.uuid4()), campaign_id)
    write(tmp_path, own, step(0), step(1), _FOOTER)
    deliver(uri, tmp_path)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        database.tasks.insert_one({"journal_id": own.journal_id, "position": 1, "line": 10**9})
        database.tasks.insert_one({"journal_id": own.journal_id, "position": 2, "line": None})
        database.tasks.insert_one({"journal_id": own.journal_id, "position": 3.5, "line": "{}"})
        database.journals.insert_one({"type": "journal", "_id": 7, "campaign_ids": [7, campaign_id]})
        database.journals.insert_one({"type": "journal", "_id": "odd", "campaign_ids": [campaign_id]})
    assert _rows(Buffer(uri), campaign_id) == [f"{own.journal_id}-{n}" for n in range(2)]
    assert campaign_id in MongoReader(uri).campaign_ids()


def test_a_lone_server_with_nothing_of_ours_reads_as_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = MemoryServer()
    server.journals = {"c": {"j": {0: b"\xff", 10: b"", 20: b"\n\n", 30: b"\0" * 10}}}
    monkeypatch.setattr(mirror, "open_reader", lambda _: server)
    assert list(Buffer("memory://").records()) == []
    read_everything(tmp_path)
