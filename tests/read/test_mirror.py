"""From a server only what is needed is fetched, and the copy is removed when nobody reads it any more."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov import records
from flowprov.journal.format import folder_name
from flowprov.read import Buffer, read_buffer
from flowprov.read.mirror import Mirror
from flowprov.read.verify import verify
from flowprov.records import Campaign, Footer
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.redis import RedisReader
from tests.journal.support import NS, header, step, write
from tests.read.locations import SERVERS, Location
from tests.sinks.redis_server import RedisServer
from tests.support import only


@pytest.fixture(params=SERVERS)
def location(request: pytest.FixtureRequest, location_of: Callable[[str], Location]) -> Location:
    return location_of(request.param)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The ids of the journals of which more than the ends was fetched."""
    journal_ids: set[str] = set()
    for kind in (RedisReader, MongoReader):
        entries: Any = kind.entries

        def observed(self: Any, journal_id: str, *rest: Any, original: Any = entries, **named: Any) -> Any:
            journal_ids.add(journal_id)
            return original(self, journal_id, *rest, **named)

        monkeypatch.setattr(kind, "entries", observed)
    return journal_ids


def mirror_of(buffer: Buffer) -> Mirror:
    mirror = buffer._source._mirror
    assert mirror is not None
    return mirror


def test_only_the_campaign_that_is_read_is_fetched(
    location: Location, tmp_path: Path, fetched: set[str]
) -> None:
    if location.is_shared:
        pytest.skip("a server that others use may hold a later campaign")
    for number in range(30):
        campaign = Campaign(campaign_id=f"c{number}", name=f"Number {number}", started_at=NS)
        steps = [step(n, n + number) for n in range(100)]
        write(tmp_path, header(f"j{number}", f"c{number}", pid=number), campaign, *steps)
    location.deliver(tmp_path)
    buffer = location.buffer
    assert [item.name for item in buffer.campaigns()] == [f"Number {number}" for number in range(30)]
    assert fetched == set()
    assert {row["campaign_id"] for row in read_buffer(location.source, return_df=False)} == {"c29"}
    assert len(list(buffer.records(campaign_id="c3"))) == 100
    assert fetched == {"j29", "j3"}


def test_each_read_looks_again_for_the_campaign_with_the_latest_record(
    location: Location, tmp_path: Path
) -> None:
    if location.is_shared:
        pytest.skip("a server that others use may hold a later campaign")
    first = write(tmp_path, header("j1", "c1"), *[step(n, n) for n in range(50)])
    write(tmp_path, header("j2", "c2"), step(0, 60), step(1, 70), Footer(at=80 * NS, captured=2, written=2))
    location.deliver(tmp_path)
    buffer = location.buffer
    assert {row.campaign_id for row in buffer.records()} == {"c2"}
    with first.open("ab") as file:
        file.write(records.encode(step(50, 90)))
    location.deliver(tmp_path)
    assert {row.campaign_id for row in buffer.records()} == {"c1"}
    assert [campaign.campaign_id for campaign in buffer.campaigns()] == ["c2", "c1"]


def test_a_campaign_is_found_by_the_name_of_its_folder(location: Location, tmp_path: Path) -> None:
    campaign_id = f"odd/{uuid.uuid4()} é"
    write(tmp_path, header(str(uuid.uuid4()), campaign_id, pid=3), step(0))
    location.deliver(tmp_path)
    for name in (campaign_id, folder_name(campaign_id)):
        assert [
            row["campaign_id"] for row in read_buffer(location.source, campaign_id=name, return_df=False)
        ] == [campaign_id]


def test_the_copy_and_the_connection_are_removed_with_the_last_reader_and_only_by_their_own_process(
    location: Location, tmp_path: Path
) -> None:
    write(tmp_path, header(str(uuid.uuid4()), campaign_id := str(uuid.uuid4())), step(0))
    location.deliver(tmp_path)
    buffer = location.buffer
    follower = buffer.follow(campaign_id=campaign_id)
    assert len(list(buffer.records(campaign_id=campaign_id))) == len(list(follower.available())) == 1
    folders = [mirror_of(buffer)._folder, follower._source._mirror._folder]  # type: ignore[union-attr]
    remote: Any = mirror_of(buffer)._remote
    assert remote._connection._client is not None
    child = os.fork()
    if child == 0:
        del buffer, follower
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert all(folder.is_dir() for folder in folders), "they are the parent's"
    del buffer, follower
    gc.collect()
    assert not any(folder.exists() for folder in folders)
    assert remote._connection._client is None


def test_a_journal_whose_beginning_was_trimmed_is_read_and_reported_as_incomplete(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    head = header("j1", "c/1 é", pid=3)
    steps = [step(number, number) for number in range(10)]
    write(tmp_path / "journals", head, *steps, Footer(at=NS, captured=10, written=10))
    whole = Location("redis", own_redis.uri())
    whole.deliver(tmp_path / "journals")
    own_redis.client().xtrim("flowprov:journal:j1", maxlen=4, approximate=False)
    assert [campaign.campaign_id for campaign in whole.buffer.campaigns()] == ["c/1 é"]
    rows = read_buffer(own_redis.uri(), return_df=False)
    assert [row["task_id"] for row in rows] == ["j1-7", "j1-8", "j1-9"]
    assert {(row["campaign_id"], row["hostname"], row["pid"]) for row in rows} == {("c/1 é", "", 0)}
    assert len(list(whole.buffer.follow().available())) == 3
    damage = only(whole.buffer.damages())
    assert (damage.offset, damage.reason) == (0, "its beginning is missing, the header with it")
    verification = verify(own_redis.uri())
    assert verification.verdict == "INCOMPLETE"
    assert only(verification.journals).reasons == ["7 events missing: 10 written, 3 found", "1 damaged place"]


def test_a_file_whose_beginning_is_missing_is_reported_as_incomplete(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0), step(1))
    data = path.read_bytes()
    begin = data.index(b"\n") + 1
    path.write_bytes(b"\0" * begin + data[begin:])
    damage = only(Buffer(tmp_path).damages())
    assert (damage.offset, damage.length) == (0, begin)
    assert len(list(Buffer(tmp_path).records())) == 2
