"""Idle journals: files of campaigns that are over are closed, and no event is lost by that."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowprov
from flowprov import guard, records
from flowprov.capture import version_records
from flowprov.journal import Journal
from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.runtime import runtime
from flowprov.versioning.examination import Examination
from tests.journal.support import open_journal
from tests.support import PATIENCE_S, lines, lines_of, of_type, only, tasks, wait_until

LINE = b'{"type":"task","task_id":0}\n'


def _count_open(folder: Path) -> int:
    """Count how often this process has journals under a folder open or mapped.

    The objects beside them are written by the thread of versions, whenever it comes to that.
    """
    process = psutil.Process()
    opened = [file.path for file in process.open_files()]
    mapped = [mapping.path for mapping in process.memory_maps()]
    return sum(path.startswith(str(folder)) and path.endswith(".jsonl") for path in opened + mapped)


def _let_others_pass() -> None:
    """Open and end so many campaigns that those before are closed as idle."""
    for number in range(10):
        with flowprov.workflow(campaign_id=f"c{number}"):
            pass


def _versions_of_over(buffer: Path) -> list[records.Version]:
    """Return the versions in the one journal of the campaign ``over``."""
    written = only([path for path in find_journals(buffer) if path.parent.parent.name == "over"])
    return of_type(lines_of(written), records.Version)


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("sync", ["off", "record"])
def test_an_idle_journal_has_no_open_file_and_continues_in_a_new_one(
    tmp_path: Path, writer: str, sync: str
) -> None:
    journal = open_journal(tmp_path, writer, sync=sync)
    number = journal.next_number()
    before = journal.full_id(number)
    journal.append(LINE)
    old_append = journal.fast_append
    assert journal.close_if_idle()
    assert _count_open(tmp_path) == 0
    with pytest.raises(Exception):  # noqa: B017, PT011 - a caller that kept the function learns that the file is closed
        old_append(LINE)
    journal.append(LINE)
    journal.append(LINE)
    assert journal.full_id(number) == before
    assert journal.full_id(journal.next_number()) != before
    journal.close()
    first, second = (lines_of(path) for path in sorted(find_journals(tmp_path)))
    assert [only(of_type(written, records.Footer)).written for written in (first, second)] == [1, 2]
    assert [len(of_type(written, records.Task)) for written in (first, second)] == [1, 2]


def test_a_journal_with_an_open_scope_is_not_closed_as_idle(buffer: Path) -> None:
    with flowprov.workflow(campaign_id="open") as workflow:
        journal = runtime.get().journal(workflow.campaign_id)
        assert not journal.close_if_idle()
    assert journal.close_if_idle()
    assert journal.close_if_idle()


def test_campaigns_that_are_over_leave_few_files_open(buffer: Path) -> None:
    counts = []
    for number in range(20):
        with flowprov.workflow(campaign_id=f"c{number}"), flowprov.task_scope("step"):
            counts.append(_count_open(buffer))
    assert max(counts) == counts[-1] == counts[6]
    assert len({task.campaign_id for task in tasks(buffer)}) == 20
    assert guard.internal_errors() == {}


def test_the_campaign_of_the_process_and_open_ones_keep_their_files(buffer: Path) -> None:
    with flowprov.workflow("own"):
        pass
    with flowprov.workflow(campaign_id="held"):
        for number in range(10):
            with flowprov.workflow(campaign_id=f"c{number}"):
                pass
        with flowprov.task_scope("late"):
            pass
    with flowprov.workflow("own"):
        pass
    runtime.shutdown()
    footers = of_type(lines(buffer), records.Footer)
    assert len(footers) == 12
    assert only([task for task in tasks(buffer) if task.activity_id == "late"]).campaign_id == "held"


def test_a_late_event_of_a_campaign_that_was_over_is_recorded(buffer: Path) -> None:
    with flowprov.workflow(campaign_id="over"), flowprov.task_scope("early") as early:
        late = flowprov.bind(_step)
    _let_others_pass()
    late()
    runtime.shutdown()
    journals = [path for path in find_journals(buffer) if path.parent.parent.name == "over"]
    assert len(journals) == 2
    step = only([task for task in tasks(buffer) if task.activity_id == "_step"])
    assert step.parent_task_id == early.task_id
    assert {only(of_type(lines_of(path), records.Footer)).written for path in journals} == {1, 3}
    assert verify(buffer, campaign_id="over").verdict == "COMPLETE"


@flowprov.task
def _step() -> None:
    """Do nothing, as a task."""


@pytest.mark.parametrize("before", ["keeping", "writing"])
def test_a_journal_that_closes_while_a_version_is_written_has_it_once(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The program gets on while the thread of versions is just before a step: it may be in no next file."""
    begun, closed = threading.Event(), threading.Event()

    def pause() -> None:
        if threading.current_thread().name == "flowprov-versions":
            begun.set()
            closed.wait(0.5)  # the journal may rather wait for the record

    def keep(*args: Any) -> None:
        if before == "keeping":
            pause()
        _keep(*args)

    def append(journal: Journal, line: bytes) -> None:
        if before == "writing":
            pause()
        append_addition(journal, line)

    _keep, append_addition = version_records._keep, Journal.append_addition
    monkeypatch.setattr(version_records, "_keep", keep)
    monkeypatch.setattr(Journal, "append_addition", append)
    with flowprov.workflow(campaign_id="over"):
        pass
    assert begun.wait(PATIENCE_S)
    _let_others_pass()
    closed.set()
    runtime.shutdown()
    start, *ends = _versions_of_over(buffer)
    assert start.moment == "start"
    # Nobody had the time to look at the end: where the start is unknown, too, that says nothing new.
    assert [end.moment for end in ends] in ([[]] if before == "keeping" else [[], ["end"]])
    assert all("timeout" in str(end.code) for end in ends)


def test_an_end_that_nobody_could_look_at_is_recorded_as_unknown(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, go_on = threading.Event(), threading.Event()

    def examine(*_: Any, **__: Any) -> Examination:
        if threading.current_thread().name != "flowprov-versions":
            return Examination({"code": {"state": "timeout"}})
        if looked_at.is_set():
            go_on.wait(PATIENCE_S)
        return Examination({"code": {"state": "ok"}})

    monkeypatch.setattr(version_records, "examine", examine)
    with flowprov.workflow(campaign_id="over"):
        wait_until(lambda: of_type(lines(buffer), records.Version))
        looked_at.set()
    _let_others_pass()
    go_on.set()
    runtime.shutdown()
    start, end = _versions_of_over(buffer)
    assert (start.moment, start.code) == ("start", {"state": "ok"})
    assert (end.moment, end.code) == ("end", {"state": "timeout"})
