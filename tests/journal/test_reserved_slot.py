"""The reserved slot: a journal that can grow no more writes its heartbeats and its footer there."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from pathlib import Path

import pytest

from flowprov import guard, records
from flowprov.journal import Journal
from flowprov.journal.files import ReservedSlot
from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.journal.reader import read_head
from flowprov.journal.summary import summarize
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.records import Footer, Heartbeat
from tests.journal.support import header, open_journal, read_journal, step, write
from tests.support import lines_of, of_type, only

MAX_BYTES = 16_384


@pytest.fixture(params=["mapped", "write"])
def stopped(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """A journal that reached its largest size and dropped one event."""
    journal = open_journal(tmp_path, request.param)
    journal.settings = type(journal.settings)(path=str(tmp_path), writer=request.param, max_bytes=MAX_BYTES)
    number = itertools.count()
    while not journal.counts()[2]:
        journal.append(records.encode(step(next(number), used={"text": "x" * 100})))
    return journal


def _path(journal: Journal) -> Path:
    assert journal.path is not None
    return journal.path


def _report(journal: Journal) -> JournalReport:
    summary = summarize(_path(journal))
    assert summary is not None
    return report_on(summary)


def test_a_live_process_reports_its_dropped_events(stopped: Journal) -> None:
    for dropped in (1, 2, 3):
        stopped.write_heartbeat()
        report = _report(stopped)
        assert (report.alive, report.dropped, report.damages) == (True, {"max_bytes": dropped}, [])
        assert report.captured == report.written + dropped
        assert report.written == report.found
        stopped.append(records.encode(step(0)))
    assert len(of_type(lines_of(_path(stopped)), Heartbeat)) == 1, "each one overwrites the one before"
    stopped.close()
    report = _report(stopped)
    assert (report.alive, report.dropped) == (False, {"max_bytes": 4})


def test_the_last_heartbeat_of_a_killed_process_has_its_dropped_events(stopped: Journal) -> None:
    stopped.write_heartbeat()
    assert stopped._writer is not None
    stopped._writer.abandon()  # as a kill would
    report = _report(stopped)
    assert (report.alive, report.footer, report.dropped) == (False, None, {"max_bytes": 1})


def test_the_time_of_the_heartbeat_in_the_slot_counts_as_the_last_record(stopped: Journal) -> None:
    stopped.write_heartbeat()
    beat = only(of_type(lines_of(_path(stopped)), Heartbeat))
    summary = summarize(_path(stopped))
    assert summary is not None
    assert summary.last_at >= beat.at


def test_a_heartbeat_with_many_open_scopes_fits_into_the_slot(stopped: Journal) -> None:
    class Open:
        def __init__(self, key: str) -> None:
            self.workflow_id, self.key = key, None

        def current_scope(self) -> Open:
            return self

        open_in = None

        def open_line(self) -> None:
            return None

    stopped.open_scopes = {str(n): Open(f"{n:036}") for n in range(200)}  # type: ignore[misc]
    stopped.write_heartbeat()
    beat = only(of_type(lines_of(_path(stopped)), Heartbeat))
    assert beat.dropped == {"max_bytes": 1}
    assert len(beat.open) == 20


def test_the_footer_overwrites_a_heartbeat_and_is_not_overwritten(small_disk: Path, tmp_path: Path) -> None:
    journal = open_journal(small_disk, "write")
    while not journal.counts()[2]:
        journal.append(records.encode(step(0, used={"text": "x" * 20_000})))
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while _fill(ballast.fileno(), 4_096):
            pass
    while _append(journal):
        pass  # the rest of the last page
    journal.write_heartbeat()
    path = _path(journal)
    assert read_head(path).late is None
    assert read_head(path).heartbeat is not None
    journal.close()
    journal.write_heartbeat()
    late = read_head(path).late
    assert late is not None
    assert late.dropped == journal.counts()[2]
    assert of_type(lines_of(path), Heartbeat) == []
    assert only(of_type(lines_of(path), Footer)) == late


def _fill(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, b"x" * size) == size
    except OSError:
        return False


def _append(journal: Journal) -> bool:
    assert journal._writer is not None
    try:
        journal._writer.append(b'{"type":"sample","at":1,"values":{}}\n')
    except Exception:  # the disk is full to its last byte
        return False
    return True


def test_a_heartbeat_that_does_not_fit_at_the_end_goes_to_the_slot_and_does_not_stop_the_journal(
    stopped: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.reset()
    stopped._stoppage = None  # as if no event had been too long yet
    stopped.fast_append = _refuse
    assert stopped._writer is not None
    monkeypatch.setattr(stopped._writer, "append", _refuse)
    with caplog.at_level(logging.WARNING, "flowprov"):
        stopped.write_heartbeat()
        stopped.write_heartbeat()
        assert of_type(lines_of(_path(stopped)), Heartbeat), "in the slot, as nowhere else is space"
        assert caplog.messages == [], "nothing is lost yet"
        assert stopped._stoppage is None
        for _ in range(3):
            stopped.write_control(records.Correction(task_id=1, status="ERROR"))
        assert only(caplog.messages).startswith("flowprov could not write to")
        for _ in range(3):
            stopped.append(b"{}\n")
        assert len(caplog.messages) == 2
        assert "flowprov stops recording" in caplog.messages[1]


def _refuse(_line: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_an_open_record_that_could_not_be_written_is_written_by_a_later_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open:
        workflow_id, key = "w", 7

        def current_scope(self) -> Open:
            return self

        open_in = None

        def open_line(self) -> bytes:
            return records.encode(records.OpenTask(task_id=7))

    journal = open_journal(tmp_path, "write")
    journal.append(records.encode(step(1)))
    journal.open_scopes = {7: Open()}  # type: ignore[dict-item]
    assert journal._writer is not None
    with monkeypatch.context() as full:
        full.setattr(journal._writer, "append", _refuse)
        journal.write_heartbeat()
    assert of_type(lines_of(_path(journal)), records.OpenTask) == []
    journal.write_heartbeat()
    journal.write_heartbeat()
    assert only(of_type(lines_of(_path(journal)), records.OpenTask)).task_id == 7
    journal.close()


def test_a_reader_sees_whole_records_while_the_slot_is_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path, header())
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(padding_line(RESERVED_SLOT) + records.encode(step(1)))
    slot, done = ReservedSlot(path, offset), threading.Event()

    def overwrite() -> None:
        for dropped in range(1, 20_000):
            captured = dropped * 7919
            slot.write(
                records.encode(Heartbeat(at=captured, captured=captured, dropped={"max_bytes": captured}))
            )
        slot.write(records.encode(Footer(at=1, captured=1, written=1)))
        done.set()

    writer = threading.Thread(target=overwrite)
    writer.start()
    last = 0
    while not done.is_set():
        contents = read_journal(path)
        for beat in of_type(contents.records, Heartbeat):
            assert beat.at == beat.captured == beat.dropped["max_bytes"] >= last
            last = beat.captured
        assert len(contents.records) in (2, 3)
    writer.join()
    assert read_head(path).late == Footer(at=1, captured=1, written=1)


def test_a_line_that_is_too_long_for_the_slot_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path, header())
    before = path.read_bytes()
    assert not ReservedSlot(path, len(before)).write(b"x" * RESERVED_SLOT)
    assert path.read_bytes() == before


def test_a_torn_read_that_looks_like_a_heartbeat_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header())
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(padding_line(RESERVED_SLOT))
    heartbeat = Heartbeat(at=2, captured=2000, written=2000)
    ReservedSlot(path, offset).write(records.encode(heartbeat))
    whole = path.read_bytes()
    torn = iter([whole.replace(b'"captured":2000', b'"captured":2999')])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: next(torn, None) or real(*arguments))
    assert read_journal(path).records[1:] == [heartbeat]
