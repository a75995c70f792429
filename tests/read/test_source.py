"""Every kind of source finds the right journals; what cannot be read is said with its mend."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import flowprov
from flowprov import records
from flowprov.errors import JournalError
from flowprov.journal import files
from flowprov.read import Buffer, read_buffer
from flowprov.records import Campaign, Footer
from tests.journal.support import NS, header, open_journal, step, write

FOOTER = Footer(at=9 * NS, captured=1, written=1)


def used_ids(rows: list[dict[str, object]]) -> list[object]:
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
    assert used_ids(rows) == ["b-0", "a-0", "a-1"]
    assert [c.campaign_id for c in Buffer(two_campaigns).campaigns()] == ["c2", "c1"]


def test_a_campaign_can_be_asked_for(two_campaigns: Path) -> None:
    assert used_ids(read_buffer(two_campaigns, campaign_id="c2", return_df=False)) == ["c-0"]
    assert read_buffer(two_campaigns, campaign_id="c9", return_df=False) == []


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
    assert used_ids(read_buffer(two_campaigns / inside, return_df=False)) == expected
    assert used_ids(read_buffer(str(two_campaigns / inside), return_df=False)) == expected


def test_without_a_source_the_folder_that_was_configured_is_read(buffer: Path) -> None:
    with flowprov.workflow("W") as opened:
        assert [row["status"] for row in read_buffer(return_df=False)] == ["RUNNING"]
    rows = read_buffer(return_df=False)
    assert [(row["workflow_id"], row["status"]) for row in rows] == [(opened.workflow_id, "FINISHED")]


def test_without_a_runtime_the_settings_say_which_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_campaigns: Path
) -> None:
    named = tmp_path / "named.yaml"
    named.write_text(f"journal:\n  path: {two_campaigns}\n")
    monkeypatch.setenv("FLOWPROV_SETTINGS_PATH", str(named))
    assert len(read_buffer(return_df=False)) == 3
    monkeypatch.delenv("FLOWPROV_SETTINGS_PATH")
    (tmp_path / "settings.yaml").write_text("flowprov: 1\njournal: {path: two}\n")
    monkeypatch.chdir(tmp_path)
    assert len(read_buffer(return_df=False)) == 3


def test_the_folder_of_last_resort_is_looked_at_when_the_other_holds_nothing(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fallback = tmp_path / "fallback"
    monkeypatch.setattr(files, "fallback_folder", lambda: fallback)
    assert read_buffer(return_df=False) == []
    assert not caplog.records
    write(fallback, header(), step(0))
    with caplog.at_level(logging.WARNING, "flowprov"):
        assert len(read_buffer(return_df=False)) == 1
    assert str(fallback) in caplog.text


def test_a_path_that_does_not_exist_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "flowprov_buffer").mkdir()
    with pytest.raises(JournalError) as caught:
        read_buffer(tmp_path / "flowprov_bufer" / "c1")
    message = str(caught.value)
    assert str(tmp_path / "flowprov_bufer" / "c1") in message
    assert "flowprov_buffer/" in message
    assert "journal.path" in message


@pytest.mark.parametrize("uri", ["postgres://localhost", "https://host/x"])
def test_a_server_of_no_known_kind_is_said_not_to_be_read(uri: str) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        Buffer(uri)


def test_a_journal_that_lost_its_header_still_belongs_to_its_campaign(two_campaigns: Path) -> None:
    path = two_campaigns / "c1" / "node-1" / "1-a.jsonl"
    path.write_bytes(b"#" + path.read_bytes())
    rows = read_buffer(two_campaigns, return_df=False)
    assert used_ids(rows) == ["b-0", "a-0", "a-1"]
    assert {(row["campaign_id"], row["hostname"]) for row in rows} == {("c1", "node-1"), ("c1", "node-2")}


def test_a_file_that_is_no_journal_is_no_campaign(two_campaigns: Path) -> None:
    other = two_campaigns / "c0" / "data.jsonl"
    other.parent.mkdir()
    other.write_text('{"text": "hello"}\n')
    assert len(read_buffer(two_campaigns, return_df=False)) == 3
    assert read_buffer(other, return_df=False) == []
    assert [damage.offset for damage in Buffer(other).damages()] == [0]


def test_a_name_that_a_campaign_was_given_late_is_found(tmp_path: Path) -> None:
    steps = [step(number, 1, used={"text": "x" * 2_000}) for number in range(60)]
    named = Campaign(campaign_id="c1", name="Search", started_at=5 * NS)
    write(tmp_path, header(started_at=4 * NS), *steps, named, *steps)
    assert Buffer(tmp_path).campaigns() == [named]
    write(tmp_path, header("z", "c2", started_at=7 * NS))
    assert Buffer(tmp_path).campaigns()[-1] == Campaign(campaign_id="c2", started_at=7 * NS)


def test_journals_are_reported_with_counts_and_damages(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    with path.open("ab") as file:
        file.write(b"rubbish\n" + records.encode(FOOTER))
    living = open_journal(tmp_path)
    living.append(records.encode(step(0)))
    living.write_heartbeat()
    done, alive = sorted(Buffer(tmp_path).journals(), key=lambda report: report.alive)
    assert (done.path, done.footer, done.alive, done.found, done.written) == (path, FOOTER, False, 1, 1)
    assert [damage.length for damage in done.damages] == [7]
    assert (alive.footer, alive.captured, alive.written, alive.found, alive.damages) == (None, 1, 1, 1, [])
    living.close()


def test_a_torn_end_is_damage_once_the_writer_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"type":"task",' + b"\0" * 100)
    (damage,) = Buffer(tmp_path).damages()
    assert (damage.path, damage.offset, damage.length) == (path, size, 15)


def test_messages_are_given_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0, status="RUNNING"), step(0))
    assert [message.status for message in Buffer(path).messages()] == ["RUNNING", "FINISHED"]
