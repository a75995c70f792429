"""The judgement of a campaign, over journals that were made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprov.read.journal_report import JournalReport
from flowprov.read.verify import check, verify
from flowprov.records import Footer, Heartbeat, Status
from tests.journal.support import NS, header, step, write
from tests.support import only


def _footer(written: int) -> Footer:
    return Footer(at=9 * NS, captured=written, written=written)


def _report(footer: Footer | None = None, *, alive: bool = False, **fields: object) -> JournalReport:
    given = {"captured": 3, "written": 3, "dropped": {}, "found": 3, "damages": [], **fields}
    return JournalReport(Path("j.jsonl"), header(), footer, alive, **given)  # type: ignore[arg-type]


def test_a_task_whose_end_stands_in_another_journal_has_ended(tmp_path: Path) -> None:
    begun = step("t", ended_at=None, status=Status.RUNNING.value)
    write(tmp_path, header("j1"), begun, _footer(1))
    write(tmp_path, header("j2"), step("t"), _footer(1))
    found = verify(tmp_path)
    assert (found.verdict, found.unended) == ("COMPLETE", [])


def test_a_task_that_was_recorded_as_interrupted_is_named(tmp_path: Path) -> None:
    write(tmp_path, header(), step("t", status=Status.INTERRUPTED.value), _footer(1))
    found = verify(tmp_path)
    assert found.verdict == "INCOMPLETE"
    assert only(found.interrupted).id == "t"


def test_one_task_without_an_end_is_found_among_many_with_one(tmp_path: Path) -> None:
    ended = [step(number) for number in range(100)]
    write(tmp_path, header(), step(100, ended_at=None, status=Status.RUNNING.value), *ended, _footer(101))
    found = verify(tmp_path)
    assert [each.id for each in found.unended] == ["j1-100"]


def test_less_than_the_last_heartbeat_counted_is_missing_once_the_writer_is_gone() -> None:
    beat = Heartbeat(at=1, captured=3, written=3)
    gone = check(_report(found=2, heartbeat=beat))
    assert (gone.state, gone.captured, gone.written, gone.exact) == ("gone", 3, 3, False)
    assert any(reason.startswith("1 event missing") for reason in gone.reasons)
    alive = check(_report(found=2, heartbeat=beat, alive=True))
    assert (alive.state, alive.reasons) == ("running", []), "the event may be on its way into the file"


def test_more_than_the_last_heartbeat_counted_is_as_it_should_be() -> None:
    alive = check(_report(found=8, heartbeat=Heartbeat(at=1, captured=3, written=3), alive=True))
    assert (alive.captured, alive.written, alive.reasons) == (8, 8, [])


@pytest.mark.parametrize("alive", [True, False])
def test_what_was_dropped_is_a_fault_whether_or_not_the_run_goes_on(*, alive: bool) -> None:
    checked = check(_report(None if alive else _footer(3), alive=alive, captured=5, dropped={"fault": 2}))
    assert checked.reasons == ["2 events dropped: fault 2"]
