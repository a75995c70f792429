"""A journal is known by its id: a copy of it adds nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import flowprov
from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read import Buffer, read_buffer
from flowprov.read.verify import verify
from flowprov.records import Footer
from tests.cli.support import flowprov as command
from tests.cli.support import start_endless
from tests.journal.support import NS, header, step, write
from tests.read.locations import SERVERS, Location
from tests.support import only, run

_PROGRAM = """
    import flowprov

    @flowprov.task
    def step(number):
        return number

    with flowprov.campaign(campaign_id="c1"), flowprov.workflow("W"):
        for number in range(5):
            step(number)
"""

# Where people and tools leave copies.
PLACES: dict[str, Callable[[Path], Path]] = {
    "beside it": lambda path: path.with_name(f"{path.stem} (copy).jsonl"),
    "with the name of a backup": lambda path: path.with_name(f"Copy of {path.name}"),
    "in the checkpoints of a notebook": lambda path: (
        path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint.jsonl"
    ),
    "in a folder beside the campaign": lambda path: path.parents[2] / "backup" / path.parent.name / path.name,
    "in a folder that sorts first": lambda path: path.parents[2] / "0" / path.parent.name / path.name,
    "in a copy of the buffer": lambda path: path.parents[2] / "old" / "c1" / path.parent.name / path.name,
    "under another host": lambda path: path.parents[1] / "a" / path.name,
}
places = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a program that ran to its end."""
    run(_PROGRAM, tmp_path)
    return Path(only(find_journals(tmp_path / "flowprov_buffer")))


def copy_to(journal: Path, place: Callable[[Path], Path], size: int | None = None) -> Path:
    copy = place(journal)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(journal.read_bytes()[:size])
    return copy


@places
def test_a_copy_adds_no_rows(journal: Path, place: Callable[[Path], Path]) -> None:
    copy = copy_to(journal, place)
    buffer = journal.parents[2]
    for campaign_id in (None, "c1"):
        assert len(read_buffer(buffer, campaign_id=campaign_id)) == 6
        assert len(list(Buffer(buffer).messages(campaign_id=campaign_id))) == 7
        assert len(list(Buffer(buffer).follow(campaign_id=campaign_id).available())) == 7
    result = command("verify", cwd=buffer.parent)
    assert result.verdict == "COMPLETE"
    assert "1 journal," in result.out
    assert str(copy) in result.out
    assert [item["path"] for item in command("verify", "--json", cwd=buffer.parent).json["copies"]] == [
        str(copy)
    ]


@places
def test_a_shorter_copy_is_not_read(journal: Path, place: Callable[[Path], Path]) -> None:
    copy_to(journal, place, size=journal.read_bytes().index(b'"activity_id"') + 700)
    rows = read_buffer(journal.parents[2], return_df=False)
    assert [row["status"] for row in rows] == ["FINISHED"] * 6


@places
def test_a_copy_that_is_longer_than_what_is_left_of_the_original_is_read(
    journal: Path, place: Callable[[Path], Path]
) -> None:
    copy = copy_to(journal, place)
    journal.write_bytes(journal.read_bytes()[: journal.read_bytes().index(b'"activity_id"') + 700])
    assert len(read_buffer(journal.parents[2])) == 6
    assert verify(journal.parents[2]).copies == {journal: copy}


def test_the_copy_of_a_journal_that_is_still_written_does_not_end_it(tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        journal = Path(only(find_journals(tmp_path)))
        shutil.copy(journal, journal.with_name(f"0-{journal.name}"))
        rows = read_buffer(tmp_path, return_df=False)
        assert [row["status"] for row in rows if row["name"] == "Doomed"] == ["RUNNING"]
        process.kill()
    rows = read_buffer(tmp_path, return_df=False)
    assert [row["status"] for row in rows if row["name"] == "Doomed"] == ["INTERRUPTED"]


def test_a_follower_goes_on_in_the_copy_that_grows(tmp_path: Path) -> None:
    first = header("a")
    path = write(tmp_path, first, step(0))
    follower = Buffer(tmp_path).follow(campaign_id="c1")
    early = path.with_name("0-early.jsonl")
    shutil.copy(path, early)
    assert len(list(follower.available())) == 1
    path.write_bytes(path.read_bytes() + records.encode(step(1)))
    assert [m.task_id for m in follower.available()] == ["a-1"]  # type: ignore[union-attr]
    moved = path.rename(path.with_name("1-moved.jsonl"))
    assert list(follower.available()) == []
    moved.write_bytes(moved.read_bytes() + records.encode(step(2)))
    assert [m.task_id for m in follower.available()] == ["a-2"]  # type: ignore[union-attr]


def test_a_follower_begins_in_the_copy_that_reaches_furthest(tmp_path: Path) -> None:
    path = write(tmp_path, header("a"), step(0), step(1))
    early = path.with_name("0-early.jsonl")
    early.write_bytes(records.encode(header("a")) + records.encode(step(0)))
    assert len(list(Buffer(tmp_path).follow(campaign_id="c1").available())) == 2


def test_telemetry_and_counts_are_those_of_one_copy(tmp_path: Path) -> None:
    footer = Footer(at=9 * NS, captured=2, written=2)
    path = write(
        tmp_path,
        header("a"),
        step(0),
        step(1),
        records.Sample(at=NS, values={"cpu": {"percent": 1.0}}),
        footer,
    )
    shutil.copy(path, path.with_name("copy.jsonl"))
    assert len(Buffer(tmp_path).telemetry()) == 1
    assert [report.found for report in Buffer(tmp_path).journals()] == [2]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_copy_is_delivered_once(kind: str, journal: Path, location_of: Callable[[str], Location]) -> None:
    copy_to(journal, PLACES["beside it"], size=journal.read_bytes().index(b'"activity_id"') + 700)
    copy_to(journal, PLACES["in a folder that sorts first"])
    location = location_of(kind)
    location.deliver(journal.parents[2])
    assert len(read_buffer(location.source, campaign_id="c1")) == 6


def test_journals_of_different_ids_are_never_taken_for_copies(buffer: Path) -> None:
    for _ in range(3):
        with flowprov.campaign(campaign_id="same"), flowprov.workflow("W"):
            pass
    assert len(read_buffer(buffer, campaign_id="same")) == 3
