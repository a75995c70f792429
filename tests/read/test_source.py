"""Every kind of source finds the right journals, and errors say what cannot be read and how to fix it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import flowprov
from flowprov import records
from flowprov.errors import JournalError
from flowprov.journal import folders
from flowprov.read import Buffer, read_buffer
from flowprov.records import Campaign, Footer
from tests.journal.support import NS, header, open_journal, step, write

FOOTER = Footer(at=9 * NS, captured=1, written=1)


def task_ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["task_id"] for row in rows]


@pytest.fixture
def two_campaigns(tmp_path: Path) -> Path:
    """A buffer folder: campaign c2 began later, c1 has the latest record."""
    folder = tmp_path / "two"
    write(folder, header("a", "c1", pid=1), step(0, 50), step(1, 90))
    write(folder, header("b", "c1", pid=2, hostname="node-2"), step(0, 3))
    path = write(folder, header("c", "c2", pid=3, started_at=20 * NS), step(0, 60))
    path.touch()
    return folder


def test_of_several_campaigns_the_one_with_the_latest_record_is_read(two_campaigns: Path) -> None:
    rows = read_buffer(two_campaigns, return_df=False)
    assert task_ids(rows) == ["b-0", "a-0", "a-1"]
    assert [c.campaign_id for c in Buffer(two_campaigns).campaigns()] == ["c2", "c1"]


def test_a_campaign_can_be_chosen(two_campaigns: Path) -> None:
    assert task_ids(read_buffer(two_campaigns, campaign_id="c2", return_df=False)) == ["c-0"]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("c2", ["c-0"]),
        ("c1/node-1", ["a-0", "a-1"]),
        ("c1/node-2/2-b.jsonl", ["b-0"]),
    ],
    ids=["campaign folder", "host folder", "journal"],
)
def test_a_part_of_a_buffer_folder_is_a_source(two_campaigns: Path, inside: str, expected: list[str]) -> None:
    assert task_ids(read_buffer(two_campaigns / inside, return_df=False)) == expected
    assert task_ids(read_buffer(str(two_campaigns / inside), return_df=False)) == expected


def test_without_a_source_the_configured_folder_is_read(buffer: Path) -> None:
    with flowprov.workflow("W") as workflow:
        assert [row["status"] for row in read_buffer(return_df=False)] == ["RUNNING"]
    rows = read_buffer(return_df=False)
    assert [(row["workflow_id"], row["status"]) for row in rows] == [(workflow.workflow_id, "FINISHED")]


def test_without_a_configured_process_the_settings_choose_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_campaigns: Path
) -> None:
    settings_file = tmp_path / "named.yaml"
    settings_file.write_text(f"journal:\n  path: {two_campaigns}\n")
    monkeypatch.setenv("FLOWPROV_SETTINGS_PATH", str(settings_file))
    assert len(read_buffer(return_df=False)) == 3
    monkeypatch.delenv("FLOWPROV_SETTINGS_PATH")
    (tmp_path / "settings.yaml").write_text("flowprov: 1\njournal: {path: two}\n")
    monkeypatch.chdir(tmp_path)
    assert len(read_buffer(return_df=False)) == 3


def test_the_fallback_folder_is_read_if_the_configured_folder_holds_nothing(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fallback = tmp_path / "fallback"
    monkeypatch.setattr(folders, "fallback_folder", lambda: fallback)
    assert read_buffer(return_df=False) == []
    assert str(fallback) not in caplog.text
    write(fallback, header(), step(0))
    with caplog.at_level(logging.WARNING, "flowprov"):
        assert len(read_buffer(return_df=False)) == 1
    assert str(fallback) in caplog.text


def test_the_error_for_a_missing_path_lists_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "flowprov_buffer").mkdir()
    with pytest.raises(JournalError) as caught:
        read_buffer(tmp_path / "flowprov_bufer" / "c1")
    message = str(caught.value)
    assert str(tmp_path / "flowprov_bufer" / "c1") in message
    assert "flowprov_buffer/" in message
    assert "journal.path" in message


@pytest.mark.parametrize("uri", ["postgres://localhost", "https://host/x"])
def test_a_uri_of_an_unknown_kind_cannot_be_read(uri: str) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        Buffer(uri)


def test_a_journal_that_lost_its_header_still_belongs_to_its_campaign(two_campaigns: Path) -> None:
    path = two_campaigns / "c1" / "node-1" / "1-a.jsonl"
    path.write_bytes(b"#" + path.read_bytes())
    rows = read_buffer(two_campaigns, return_df=False)
    assert task_ids(rows) == ["b-0", "a-0", "a-1"]
    assert {(row["campaign_id"], row["hostname"]) for row in rows} == {("c1", "node-1"), ("c1", "node-2")}


def test_a_file_that_is_no_journal_is_in_no_campaign_and_is_damage(two_campaigns: Path) -> None:
    other = two_campaigns / "c0" / "data.jsonl"
    other.parent.mkdir()
    other.write_text('{"text": "hello"}\n')
    assert len(read_buffer(two_campaigns, return_df=False)) == 3
    assert read_buffer(other, return_df=False) == []
    assert [damage.offset for damage in Buffer(other).damages()] == [0]


def test_the_name_of_a_campaign_is_found_in_the_middle_of_a_journal(tmp_path: Path) -> None:
    steps = [step(number, 1, used={"text": "x" * 2_000}) for number in range(60)]
    campaign = Campaign(campaign_id="c1", name="Search", started_at=5 * NS)
    write(tmp_path, header(started_at=4 * NS), *steps, campaign, *steps)
    assert Buffer(tmp_path).campaigns() == [campaign]
    write(tmp_path, header("z", "c2", started_at=7 * NS))
    assert Buffer(tmp_path).campaigns()[-1] == Campaign(campaign_id="c2", started_at=7 * NS)


def test_journals_are_reported_with_counts_and_damages(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    with path.open("ab") as file:
        file.write(b"rubbish\n" + records.encode(FOOTER))
    open_one = open_journal(tmp_path)
    open_one.append(records.encode(step(0)))
    open_one.write_heartbeat()
    closed, alive = sorted(Buffer(tmp_path).journals(), key=lambda report: report.alive)
    assert (closed.path, closed.footer, closed.alive) == (path, FOOTER, False)
    assert (closed.found, closed.written) == (1, 1)
    assert [damage.length for damage in closed.damages] == [7]
    assert (alive.footer, alive.captured, alive.written, alive.found, alive.damages) == (None, 1, 1, 1, [])
    open_one.close()


def test_a_torn_end_is_damage_once_the_writer_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"type":"task",' + b"\0" * 100)
    (damage,) = Buffer(tmp_path).damages()
    assert (damage.path, damage.offset, damage.length) == (path, size, 15)


def test_messages_are_returned_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0, status="RUNNING"), step(0))
    assert [message.status for message in Buffer(path).messages()] == ["RUNNING", "FINISHED"]


@pytest.mark.parametrize("source", ["~nobody\0here", "~\ud800/x", "~nobody-has-this-name", "a\0b", "\ud800"])
def test_a_path_that_no_file_can_have_is_one_that_does_not_exist(source: str) -> None:
    with pytest.raises(JournalError, match="does not exist"):
        read_buffer(source)
