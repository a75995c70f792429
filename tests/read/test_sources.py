"""A campaign is the same wherever it is read from: its folder, Redis, MongoDB.

What cannot be the same is said here and nowhere else:

- A damaged line is not delivered. A server's copy of the journal has a hole there, of which no damage is
  told; the counts of the footer still tell that something is missing.
- Where the copy of a journal stands is nobody's business: reports differ in their ``path``.
- Whether a writer without a footer is still there is known of a folder by the lock on the journal, of a
  server by the last sign of life alone: what was killed reads as RUNNING for three heartbeats.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flowprov import records
from flowprov.read import Buffer, read_buffer
from flowprov.read.journal_report import JournalReport
from flowprov.read.verify import verify
from flowprov.records import Task, Workflow
from tests.journal.support import header, step, write
from tests.read import campaigns
from tests.read.campaigns import Campaigns
from tests.read.places import KINDS, SERVERS, Place
from tests.support import only

PlaceOf = Callable[[str], Place]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    return campaigns.record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def places(recorded: Campaigns, fresh_uri: Callable[[str], str]) -> Callable[[str], Place]:
    made = {"folder": Place("folder", recorded.folder)}

    def place(kind: str) -> Place:
        if kind not in made:
            made[kind] = Place(kind, fresh_uri(kind))
            assert made[kind].deliver(recorded.folder) > 0
        return made[kind]

    return place


@pytest.fixture
def folder(recorded: Campaigns) -> Buffer:
    return Buffer(recorded.folder)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, places: PlaceOf) -> Place:
    return places(request.param)


def plain(reports: list[JournalReport]) -> list[JournalReport]:
    return [report._replace(path=Path(), damages=[]) for report in reports]


@pytest.mark.parametrize("merge", [False, True])
def test_frames_are_the_same(recorded: Campaigns, server: Place, merge: bool) -> None:  # noqa: FBT001
    for campaign_id in (recorded.everything, recorded.older):
        expected = read_buffer(recorded.folder, campaign_id=campaign_id, merge=merge)
        frame = read_buffer(server.source, campaign_id=campaign_id, merge=merge)
        pd.testing.assert_frame_equal(frame, expected)
        assert len(frame) > 2
    if not server.shared:
        assert len(read_buffer(server.source)) == len(read_buffer(recorded.folder))


def test_the_campaign_holds_what_it_is_to_hold(recorded: Campaigns) -> None:
    rows = read_buffer(recorded.folder, return_df=False)
    assert {row["status"] for row in rows} >= {"FINISHED", "ERROR", "RUNNING", "INTERRUPTED"}
    assert {row["campaign_id"] for row in rows} == {recorded.everything}
    assert any((row["generated"] or {}).get("big") == 2**80 for row in rows)
    assert len({row["pid"] for row in rows}) == 4
    assert len(Buffer(recorded.folder).damages()) == 2


def test_dictionaries_of_one_workflow_are_the_same(recorded: Campaigns, server: Place) -> None:
    inner = only([r for r in read_buffer(recorded.folder, return_df=False) if r["name"] == "Inner"])
    wanted: dict[str, Any] = {"campaign_id": recorded.everything, "workflow_id": inner["workflow_id"]}
    expected = read_buffer(recorded.folder, **wanted, return_df=False)
    assert len(expected) > 40
    assert repr(read_buffer(server.source, **wanted, return_df=False)) == repr(expected)  # NaN is not NaN


def test_records_and_messages_are_the_same(recorded: Campaigns, server: Place, folder: Buffer) -> None:
    found = server.buffer
    wanted = recorded.everything
    assert repr([*found.records(campaign_id=wanted)]) == repr([*folder.records(campaign_id=wanted)])
    assert repr([*found.messages(campaign_id=wanted)]) == repr([*folder.messages(campaign_id=wanted)])


def test_the_campaigns_are_listed_the_same(recorded: Campaigns, server: Place, folder: Buffer) -> None:
    ours = {recorded.older, recorded.everything}
    listed = [each for each in server.buffer.campaigns() if each.campaign_id in ours]
    assert listed == folder.campaigns()
    assert [each.name for each in listed] == ["Older", "everything"]


def test_a_campaign_that_is_not_there_has_nothing(server: Place) -> None:
    assert read_buffer(server.source, campaign_id="nowhere", return_df=False) == []


def test_journals_are_reported_the_same(recorded: Campaigns, server: Place, folder: Buffer) -> None:
    wanted = recorded.everything
    found, expected = server.buffer.journals(campaign_id=wanted), folder.journals(campaign_id=wanted)
    assert plain(found) == plain(expected)
    assert [report.path.name for report in found] == [report.path.name for report in expected]
    assert server.buffer.damages(campaign_id=wanted) == []
    known, told = (verify(each, campaign_id=wanted) for each in (recorded.folder, server.source))
    assert (told.verdict, told.open_items) == (known.verdict, known.open_items)
    missing = "1 event missing: 3 written, 2 found"
    assert [missing in check.reasons for check in told.journals].count(True) == 1


def test_telemetry_is_the_same(recorded: Campaigns, server: Place, folder: Buffer) -> None:
    expected = folder.telemetry(campaign_id=recorded.everything)
    assert expected["cpu.percent"].tolist() == [12.5, math.inf]
    assert expected["gone.a"].tolist()[0] == 1
    assert math.isnan(expected["gone.a"].iloc[1])
    pd.testing.assert_frame_equal(server.buffer.telemetry(campaign_id=recorded.everything), expected)


def test_machines_are_the_same(recorded: Campaigns, server: Place, folder: Buffer) -> None:
    machine = only(folder.machines(campaign_id=recorded.everything))
    assert (machine["hostname"], machine["rank"], machine["at"]) == ("node-1", 3, 10**9)
    assert machine["values"]["cpu"]["model"] == "a"
    assert math.isnan(machine["values"]["cpu"]["odd.name$"])
    assert repr(server.buffer.machines(campaign_id=recorded.everything)) == repr([machine])


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_a_follower_of_one_source_goes_on_where_that_of_another_stopped(
    places: PlaceOf, recorded: Campaigns, first: str, second: str
) -> None:
    wanted = recorded.everything
    before = places(first).buffer.follow(campaign_id=wanted)
    given = list(islice(before.available(), 17))
    assert len(given) == 17
    after = places(second).buffer.follow(position=json.loads(json.dumps(before.position)))
    given += after.available()
    assert repr(given) == repr(list(Buffer(recorded.folder).messages(campaign_id=wanted)))
    assert list(after.available()) == []


def test_a_position_holds_in_another_process(recorded: Campaigns, server: Place) -> None:
    follower = server.buffer.follow(campaign_id=recorded.everything)
    count = len(list(islice(follower.available(), 5)))
    code = (
        "import json, sys, flowprov; follower = flowprov.Buffer(sys.argv[1]).follow(position=json.loads("
        "sys.argv[2])); print(sum(1 for _ in follower.available()))"
    )
    rest = int(campaigns.python(code, str(server.source), json.dumps(follower.position)))
    assert count + rest == sum(1 for _ in Buffer(recorded.folder).messages(campaign_id=recorded.everything))


@pytest.fixture(params=SERVERS)
def empty_server(request: pytest.FixtureRequest, place_of: PlaceOf) -> Place:
    return place_of(request.param)


def test_a_footer_that_a_full_disk_made_late_is_read(tmp_path: Path, empty_server: Place) -> None:
    campaign_id = str(uuid.uuid4())
    path, footer = campaigns.journal_with_room(tmp_path / "journals", campaign_id)
    assert empty_server.deliver(tmp_path / "journals") == 3
    campaigns.drive_in(path, footer)
    assert empty_server.deliver(tmp_path / "journals") == 1
    found, expected = (
        only(Buffer(source).journals(campaign_id=campaign_id)) for source in (empty_server.source, path)
    )
    assert found.footer is not None
    # In the copy it stands behind the others, where it came; in the journal, behind the header.
    assert plain([found._replace(last=expected.last)]) == plain([expected])


def test_what_was_killed_reads_as_running_while_its_last_sign_of_life_is_young(
    tmp_path: Path, empty_server: Place
) -> None:
    now = time.time_ns()
    for name, began in (("young", now), ("old", now - 31 * 10**9)):
        first = header(str(uuid.uuid4()), f"{name}-{now}", started_at=began)
        task = step(0, status="RUNNING", started_at=began, ended_at=None)
        write(tmp_path / "journals", first, task)
    empty_server.deliver(tmp_path / "journals")
    read = {
        (name, kind): only(read_buffer(source, campaign_id=f"{name}-{now}", return_df=False))["status"]
        for kind, source in (("folder", tmp_path / "journals"), ("server", empty_server.source))
        for name in ("young", "old")
    }
    assert read == {
        ("young", "folder"): "INTERRUPTED",
        ("old", "folder"): "INTERRUPTED",
        ("young", "server"): "RUNNING",
        ("old", "server"): "INTERRUPTED",
    }


def test_what_comes_later_is_read_by_the_same_buffer(tmp_path: Path, empty_server: Place) -> None:
    campaign_id = f"growing {uuid.uuid4()}"
    head = header(str(uuid.uuid4()), campaign_id)
    journals = tmp_path / "journals"
    path = journals / "c" / "h" / f"1-{head.journal_id}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(records.encode(head) + records.encode(step(0)))
    buffer = empty_server.buffer
    follower = buffer.follow(campaign_id=campaign_id)
    assert list(buffer.records(campaign_id=campaign_id)) == []
    assert list(follower.available()) == []
    for number in (1, 2):
        empty_server.deliver(journals)
        assert len(list(buffer.records(campaign_id=campaign_id))) == number
        given: list[Task | Workflow] = list(follower.available())
        assert [getattr(each, "task_id", "") for each in given] == [f"{head.journal_id}-{number - 1}"]
        with path.open("ab") as file:
            file.write(records.encode(step(number)))
