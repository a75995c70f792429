"""Faults of flowprov's own are in the heartbeats and the footer of a journal, within bounds."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flowprov
from flowprov import guard, records
from flowprov.journal.format import find_journals
from flowprov.journal.internal_errors import MAX_KINDS, MAX_NAME_LENGTH, bounded_internal_errors
from flowprov.journal.summary import summarize
from flowprov.read.journal_report import JournalReport, report_on, sum_internal_errors
from flowprov.records import Footer, Heartbeat
from flowprov.runtime import encoders, runtime
from tests.journal.support import NS, header, open_journal, step, write
from tests.support import lines, lines_of, of_type, only, start

FAULT = "encoding the arguments of a task: RuntimeError"


@flowprov.task
def _add(number: int) -> int:
    return number + 1


def _report(path: Path) -> JournalReport:
    summary = summarize(path)
    assert summary is not None
    return report_on(summary)


def test_a_fault_in_a_capture_path_is_in_the_footer(buffer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_mapping: Any) -> bytes:
        raise RuntimeError("our own fault")

    with flowprov.workflow("W"):
        _add(1)
        monkeypatch.setitem(encoders.encoder_globals, "_flowprov_json", broken)
        assert [_add(1), _add(2)] == [2, 3]
    counted = guard.internal_errors()
    runtime.shutdown()
    footer = only(of_type(lines(buffer), Footer))
    assert footer.internal_errors == counted
    assert sum(counted.values()) == 2
    assert footer.dropped == {"fault": 2}


def test_a_fault_in_a_killed_process_is_in_its_last_heartbeat(tmp_path: Path) -> None:
    code = """
        import flowprov, sys
        from flowprov.runtime import encoders, runtime

        @flowprov.task
        def add(number):
            return number + 1

        def broken(mapping):
            raise RuntimeError("our own fault")

        with flowprov.workflow("W"):
            add(1)
            encoders.encoder_globals["_flowprov_json"] = broken
            add(1)
            for journal in runtime.get().journals():
                journal.write_heartbeat()
            print("beaten", flush=True)
            sys.stdin.read()
    """
    with start(code, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "beaten\n"
        process.kill()
    (path,) = find_journals(tmp_path)
    (kind,) = of_type(lines_of(path), Heartbeat)[-1].internal_errors
    assert kind.endswith(": RuntimeError")
    report = _report(path)
    assert (report.footer, report.internal_errors) == (None, {kind: 1})


def test_without_a_fault_the_field_is_not_written(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(records.encode(step(0)))
    journal.write_heartbeat()
    journal.close()
    assert journal.path is not None
    assert b"internal_errors" not in journal.path.read_bytes()
    assert _report(journal.path).internal_errors is None


def test_at_most_twenty_kinds_are_kept_and_the_others_are_summed() -> None:
    for number in range(30):
        for _ in range(30 - number):
            guard.report_internal_error(f"activity {number}", ValueError())
    bounded = bounded_internal_errors()
    assert bounded is not None
    assert len(bounded) == MAX_KINDS + 1
    assert bounded["activity 0: ValueError"] == 30
    assert bounded["other"] == sum(range(1, 11))
    assert sum(bounded.values()) == sum(guard.internal_errors().values())


def test_long_names_are_cut_and_those_that_become_equal_are_summed(tmp_path: Path) -> None:
    guard.report_internal_error("x" * 500, ValueError())
    guard.report_internal_error("x" * 600, ValueError())
    journal = open_journal(tmp_path)
    journal.append(records.encode(step(0)))
    journal.close()
    assert journal.path is not None
    footer = only(of_type(lines_of(journal.path), Footer))
    assert footer.internal_errors == {"x" * MAX_NAME_LENGTH: 2}


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_the_reserved_slot_takes_the_footer_whatever_the_faults_are(tmp_path: Path, writer: str) -> None:
    journal = open_journal(tmp_path, writer)
    journal.settings = type(journal.settings)(path=str(tmp_path), writer=writer, max_bytes=16_384)  # type: ignore[arg-type]
    numbers = itertools.count()
    while not journal.counts()[2]:
        journal.append(records.encode(step(next(numbers), used={"text": "x" * 100})))
    assert journal.path is not None
    guard.report_internal_error("short", ValueError())
    journal.write_heartbeat()
    assert _report(journal.path).internal_errors == {"short: ValueError": 1}
    for number in range(30):
        guard.report_internal_error(f"{number}" + "y" * 300, ValueError())
    journal.write_heartbeat()
    assert _report(journal.path).dropped == {"max_bytes": 1}
    journal.close()
    report = _report(journal.path)
    assert report.footer is not None
    assert (report.dropped, report.damages) == ({"max_bytes": 1}, [])


def test_each_process_counts_once_however_many_journals_it_wrote(tmp_path: Path) -> None:
    counts = [(1, {"a": 1}), (1, {"a": 3, "b": 1}), (2, {"a": 5}), (3, None)]
    reports = []
    for number, (pid, errors) in enumerate(counts):
        footer = Footer(at=2 * NS, captured=0, written=0, internal_errors=errors)
        reports.append(_report(write(tmp_path, header(f"j{number}", pid=pid), footer)))
    assert sum_internal_errors(reports) == {"a": 8, "b": 1}


def test_an_older_reader_reads_a_footer_with_internal_errors() -> None:
    class OlderFooter(records.base.RecordBase, frozen=True, kw_only=True, tag="footer"):
        at: int
        captured: int
        written: int

    line = records.encode(Footer(at=1, captured=2, written=2, internal_errors={FAULT: 1}))
    assert msgspec.json.decode(line, type=OlderFooter) == OlderFooter(at=1, captured=2, written=2)
