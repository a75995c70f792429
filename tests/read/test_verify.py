"""Verification finds what is open, missing or dropped, in journals that are written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprov.read.journal_report import JournalReport
from flowprov.read.verify import check_journal, verify
from flowprov.records import Footer, Heartbeat, Status
from tests.journal.support import NS, header, step, write
from tests.support import only


def _footer(written: int) -> Footer:
    return Footer(at=9 * NS, captured=written, written=written)


def _report(footer: Footer | None = None, *, alive: bool = False, **fields: object) -> JournalReport:
    counts = {"captured": 3, "written": 3, "dropped": {}, "found": 3, "damages": [], **fields}
    return JournalReport(Path("j.jsonl"), header(), footer, alive, **counts)  # type: ignore[arg-type]


def test_a_task_whose_end_stands_in_another_journal_has_ended(tmp_path: Path) -> None:
    started = step("t", ended_at=None, status=Status.RUNNING.value)
    write(tmp_path, header("j1"), started, _footer(1))
    write(tmp_path, header("j2"), step("t"), _footer(1))
    verification = verify(tmp_path)
    assert (verification.verdict, verification.open_items) == ("COMPLETE", [])


def test_a_task_that_was_recorded_as_interrupted_is_named(tmp_path: Path) -> None:
    write(tmp_path, header(), step("t", status=Status.INTERRUPTED.value), _footer(1))
    verification = verify(tmp_path)
    assert verification.verdict == "INCOMPLETE"
    assert only(verification.interrupted).id == "t"


def test_one_task_without_an_end_is_found_among_many_with_one(tmp_path: Path) -> None:
    ended = [step(number) for number in range(100)]
    write(tmp_path, header(), step(100, ended_at=None, status=Status.RUNNING.value), *ended, _footer(101))
    verification = verify(tmp_path)
    assert [item.id for item in verification.open_items] == ["j1-100"]


def test_events_that_the_last_heartbeat_counted_are_missing_only_once_the_writer_is_gone() -> None:
    heartbeat = Heartbeat(at=1, captured=3, written=3)
    gone = check_journal(_report(found=2, heartbeat=heartbeat))
    assert (gone.state, gone.captured, gone.written, gone.exact) == ("gone", 3, 3, False)
    assert any(reason.startswith("1 event missing") for reason in gone.reasons)
    alive = check_journal(_report(found=2, heartbeat=heartbeat, alive=True))
    assert (alive.state, alive.reasons) == ("running", []), "the event may be on its way into the file"


def test_more_events_than_the_last_heartbeat_counted_are_no_fault() -> None:
    alive = check_journal(_report(found=8, heartbeat=Heartbeat(at=1, captured=3, written=3), alive=True))
    assert (alive.captured, alive.written, alive.reasons) == (8, 8, [])


@pytest.mark.parametrize("alive", [True, False])
def test_dropped_events_are_a_fault_whether_or_not_the_run_goes_on(*, alive: bool) -> None:
    footer = None if alive else _footer(3)
    check = check_journal(_report(footer, alive=alive, captured=5, dropped={"fault": 2}))
    assert check.reasons == ["2 events dropped: fault 2"]
