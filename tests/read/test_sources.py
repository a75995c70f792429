"""A campaign is the same wherever it is read from: its folder, Redis, MongoDB.

There are only three differences:

- A damaged line is not delivered. A server's copy of the journal has a hole there, which is not reported as
  damage. The counts of the footer still show that something is missing.
- Reports differ in their ``path``, as the copy of a journal is another file.
- In a folder, the lock on a journal without a footer shows whether its writer is alive. For a server there is
  only the last sign of life, so a killed process reads as RUNNING for three heartbeats.
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
from flowprov.errors import UnknownIdError
from flowprov.read import Buffer, query, read_buffer
from flowprov.read.journal_report import JournalReport
from flowprov.read.verify import verify
from flowprov.records import Task, Workflow
from tests.journal.support import header, step, write
from tests.read import campaigns
from tests.read.campaigns import Campaigns
from tests.read.locations import KINDS, SERVERS, Location
from tests.support import only

LocationOf = Callable[[str], Location]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    return campaigns.record_campaigns(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def locations(recorded: Campaigns, fresh_uri: Callable[[str], str]) -> Callable[[str], Location]:
    by_kind = {"folder": Location("folder", recorded.folder)}

    def location(kind: str) -> Location:
        if kind not in by_kind:
            by_kind[kind] = Location(kind, fresh_uri(kind))
            assert by_kind[kind].deliver(recorded.folder) > 0
        return by_kind[kind]

    return location


@pytest.fixture
def folder(recorded: Campaigns) -> Buffer:
    return Buffer(recorded.folder)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, locations: LocationOf) -> Location:
    return locations(request.param)


def without_paths_and_damages(reports: list[JournalReport]) -> list[JournalReport]:
    return [report._replace(path=Path(), damages=[]) for report in reports]


@pytest.mark.parametrize("merge", [False, True])
def test_frames_are_the_same(recorded: Campaigns, server: Location, merge: bool) -> None:  # noqa: FBT001
    for campaign_id in (recorded.everything, recorded.older):
        expected = read_buffer(recorded.folder, campaign_id=campaign_id, merge=merge)
        frame = read_buffer(server.source, campaign_id=campaign_id, merge=merge)
        pd.testing.assert_frame_equal(frame, expected)
        assert len(frame) > 2
    if not server.is_shared:
        assert len(read_buffer(server.source)) == len(read_buffer(recorded.folder))


def test_the_recorded_campaign_holds_all_cases(recorded: Campaigns) -> None:
    rows = read_buffer(recorded.folder, return_df=False)
    assert {row["status"] for row in rows} >= {"FINISHED", "ERROR", "RUNNING", "INTERRUPTED"}
    assert {row["campaign_id"] for row in rows} == {recorded.everything}
    assert any((row["generated"] or {}).get("big") == 2**80 for row in rows)
    assert len({row["pid"] for row in rows}) == 4
    assert len(Buffer(recorded.folder).damages()) == 2


def test_dictionaries_of_one_workflow_are_the_same(recorded: Campaigns, server: Location) -> None:
    inner = only([r for r in read_buffer(recorded.folder, return_df=False) if r["name"] == "Inner"])
    selection: dict[str, Any] = {"campaign_id": recorded.everything, "workflow_id": inner["workflow_id"]}
    expected = read_buffer(recorded.folder, **selection, return_df=False)
    assert len(expected) > 40
    # As text, as NaN does not equal NaN.
    assert repr(read_buffer(server.source, **selection, return_df=False)) == repr(expected)


def test_records_and_messages_are_the_same(recorded: Campaigns, server: Location, folder: Buffer) -> None:
    remote = server.buffer
    campaign = recorded.everything
    assert repr([*remote.records(campaign_id=campaign)]) == repr([*folder.records(campaign_id=campaign)])
    assert repr([*remote.messages(campaign_id=campaign)]) == repr([*folder.messages(campaign_id=campaign)])


def test_the_campaigns_are_listed_the_same(recorded: Campaigns, server: Location, folder: Buffer) -> None:
    ours = {recorded.older, recorded.everything}
    listed = [campaign for campaign in server.buffer.campaigns() if campaign.campaign_id in ours]
    assert listed == folder.campaigns()
    assert [campaign.name for campaign in listed] == ["Older", "everything"]


@pytest.mark.parametrize("table", ["runs", "metrics", "campaigns", "tasks", "workflows", "telemetry"])
def test_the_tables_of_a_query_have_the_same_rows(recorded: Campaigns, server: Location, table: str) -> None:
    counts = [
        query(f"SELECT count(*) AS n FROM {table}", source, campaign_id=recorded.everything)["n"].tolist()  # noqa: S608
        for source in (recorded.folder, server.source)
    ]
    assert counts[0] == counts[1]
    assert table == "metrics" or counts[0] > [0]


def test_a_campaign_that_is_not_there_is_an_error(server: Location) -> None:
    with pytest.raises(UnknownIdError, match="'nowhere'"):
        read_buffer(server.source, campaign_id="nowhere", return_df=False)


def test_journals_are_reported_the_same(recorded: Campaigns, server: Location, folder: Buffer) -> None:
    campaign = recorded.everything
    reports, expected = server.buffer.journals(campaign_id=campaign), folder.journals(campaign_id=campaign)
    assert without_paths_and_damages(reports) == without_paths_and_damages(expected)
    assert [report.path.name for report in reports] == [report.path.name for report in expected]
    assert server.buffer.damages(campaign_id=campaign) == []
    local, remote = (verify(source, campaign_id=campaign) for source in (recorded.folder, server.source))
    assert (remote.verdict, remote.open_items) == (local.verdict, local.open_items)
    missing = "1 event missing: 3 written, 2 found"
    assert [missing in check.reasons for check in remote.journals].count(True) == 1


def test_telemetry_is_the_same(recorded: Campaigns, server: Location, folder: Buffer) -> None:
    expected = folder.telemetry(campaign_id=recorded.everything)
    assert expected["cpu.percent"].tolist() == [12.5, math.inf]
    assert expected["gone.a"].tolist()[0] == 1
    assert math.isnan(expected["gone.a"].iloc[1])
    pd.testing.assert_frame_equal(server.buffer.telemetry(campaign_id=recorded.everything), expected)


def test_machines_are_the_same(recorded: Campaigns, server: Location, folder: Buffer) -> None:
    machine = only(folder.machines(campaign_id=recorded.everything))
    assert (machine["hostname"], machine["rank"], machine["at"]) == ("node-1", 3, 10**9)
    assert machine["values"]["cpu"]["model"] == "a"
    assert math.isnan(machine["values"]["cpu"]["odd.name$"])
    assert repr(server.buffer.machines(campaign_id=recorded.everything)) == repr([machine])


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_a_follower_of_one_source_continues_where_a_follower_of_another_stopped(
    locations: LocationOf, recorded: Campaigns, first: str, second: str
) -> None:
    campaign = recorded.everything
    before = locations(first).buffer.follow(campaign_id=campaign)
    messages = list(islice(before.available(), 17))
    assert len(messages) == 17
    after = locations(second).buffer.follow(position=json.loads(json.dumps(before.position)))
    messages += after.available()
    assert repr(messages) == repr(list(Buffer(recorded.folder).messages(campaign_id=campaign)))
    assert list(after.available()) == []


def test_a_position_is_valid_in_another_process(recorded: Campaigns, server: Location) -> None:
    follower = server.buffer.follow(campaign_id=recorded.everything)
    count = len(list(islice(follower.available(), 5)))
    code = (
        "import json, sys, flowprov; follower = flowprov.Buffer(sys.argv[1]).follow(position=json.loads("
        "sys.argv[2])); print(sum(1 for _ in follower.available()))"
    )
    rest = int(campaigns.run_python(code, str(server.source), json.dumps(follower.position)))
    assert count + rest == sum(1 for _ in Buffer(recorded.folder).messages(campaign_id=recorded.everything))


@pytest.fixture(params=SERVERS)
def empty_server(request: pytest.FixtureRequest, location_of: LocationOf) -> Location:
    return location_of(request.param)


def test_a_footer_that_is_delivered_late_because_of_a_full_disk_is_read(
    tmp_path: Path, empty_server: Location
) -> None:
    campaign_id = str(uuid.uuid4())
    path, footer = campaigns.journal_with_slot(tmp_path / "journals", campaign_id)
    assert empty_server.deliver(tmp_path / "journals") == 3
    campaigns.write_to_slot(path, footer)
    assert empty_server.deliver(tmp_path / "journals") == 1
    report, expected = (
        only(Buffer(source).journals(campaign_id=campaign_id)) for source in (empty_server.source, path)
    )
    assert report.footer is not None
    # In the copy the footer is after all other records, in the journal it is in the slot behind the header.
    same_last = report._replace(last=expected.last)
    assert without_paths_and_damages([same_last]) == without_paths_and_damages([expected])


def test_a_killed_process_reads_as_running_from_a_server_while_its_last_sign_of_life_is_young(
    tmp_path: Path, empty_server: Location
) -> None:
    now = time.time_ns()
    for name, started in (("young", now), ("old", now - 31 * 10**9)):
        head = header(str(uuid.uuid4()), f"{name}-{now}", started_at=started)
        task = step(0, status="RUNNING", started_at=started, ended_at=None)
        write(tmp_path / "journals", head, task)
    empty_server.deliver(tmp_path / "journals")
    statuses = {
        (name, kind): only(read_buffer(source, campaign_id=f"{name}-{now}", return_df=False))["status"]
        for kind, source in (("folder", tmp_path / "journals"), ("server", empty_server.source))
        for name in ("young", "old")
    }
    assert statuses == {
        ("young", "folder"): "INTERRUPTED",
        ("old", "folder"): "INTERRUPTED",
        ("young", "server"): "RUNNING",
        ("old", "server"): "INTERRUPTED",
    }


def test_the_same_buffer_reads_what_is_delivered_later(tmp_path: Path, empty_server: Location) -> None:
    campaign_id = f"growing {uuid.uuid4()}"
    head = header(str(uuid.uuid4()), campaign_id)
    journals = tmp_path / "journals"
    path = journals / "c" / "h" / f"1-{head.journal_id}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(records.encode(head) + records.encode(step(0)))
    buffer = empty_server.buffer
    follower = buffer.follow(campaign_id=campaign_id)
    with pytest.raises(UnknownIdError):
        buffer.records(campaign_id=campaign_id)
    assert list(follower.available()) == []
    for number in (1, 2):
        empty_server.deliver(journals)
        assert len(list(buffer.records(campaign_id=campaign_id))) == number
        messages: list[Task | Workflow] = list(follower.available())
        task_ids = [getattr(message, "task_id", "") for message in messages]
        assert task_ids == [f"{head.journal_id}-{number - 1}"]
        with path.open("ab") as file:
            file.write(records.encode(step(number)))
