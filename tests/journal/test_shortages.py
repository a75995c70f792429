"""Shortages that pass: recording goes on by plain writes, or stops and begins again; each loss is counted."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from flowprov import records
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.format import find_journals
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.read.verify import verify
from flowprov.records import Footer, Task
from tests.journal.support import open_journal, step
from tests.support import WITHOUT_VERSIONS, lines, lines_of, of_type, only, run, tasks, wait_until

_PROGRAM = """
    import json, os, pathlib, resource, sys, time
    import flowprov
    from flowprov.runtime import runtime

    @flowprov.task
    def step(number):
        return "y" * 500

    def journal():
        return runtime.get().journals()[-1]

    def record(begin, end):
        for number in range(begin, end):
            assert step(number) == "y" * 500

    def wait_until_writing():
        until = time.monotonic() + 30
        while journal()._stoppage is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert journal()._stoppage is None

    def report(**more):
        captured, written, dropped = journal().counts()
        print(json.dumps({"captured": captured, "written": written, "dropped": dropped, **more}))
"""

# No file descriptors are left when the first segment is full, and when the file is to be created.
_NO_DESCRIPTORS = (
    _PROGRAM
    + """
    def exhaust():
        global hoard
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        hoard = []
        try:
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.errno == 24

    def release():
        while hoard:
            os.close(hoard.pop())

    hoard = []
    if sys.argv[1] == "from the start":
        with flowprov.workflow("before", campaign_id="before"):
            step(0)  # what is imported late is there now
        exhaust()
    with flowprov.workflow("W", campaign_id="c1"):
        record(0, 10)
        if hoard:
            assert journal()._stoppage is not None
            release()
            wait_until_writing()
        else:
            exhaust()
        record(10, 1000)
        during = type(journal()._writer).__name__
        if hoard:
            release()
            until = time.monotonic() + 30
            while type(journal()._writer).__name__ == "AppendWriter" and time.monotonic() < until:
                time.sleep(0.01)
        record(1000, 2000)
        report(during=during, after=type(journal()._writer).__name__)
"""
)

# No memory can be mapped when the first segment is full.
_NO_MEMORY = (
    _PROGRAM
    + """
    def used():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    with flowprov.workflow("W"):
        record(0, 10)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used() + 32_768, hard))
        record(10, 400)
        during = type(journal()._writer).__name__
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        until = time.monotonic() + 30
        while type(journal()._writer).__name__ == during == "AppendWriter" and time.monotonic() < until:
            time.sleep(0.01)
        record(400, 2000)
        report(during=during, after=type(journal()._writer).__name__)
"""
)

# The disk is full, and is freed again.
_FULL_DISK = (
    _PROGRAM
    + """
    disk = pathlib.Path(sys.argv[2])

    def fill():
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while ballast.write(b"x" * 4096) == 4096:
                    pass
            except OSError:
                pass

    if sys.argv[1] == "from the start":
        fill()
    with flowprov.workflow("W"):
        record(0, 10)
        if sys.argv[1] != "from the start":
            fill()
            record(10, 400)
        assert journal()._stoppage is not None
        (disk / "ballast").unlink()
        wait_until_writing()
        record(400, 800)
        report()
"""
)


def _play(tmp_path: Path, program: str, *arguments: str, **env: str) -> tuple[dict[str, Any], str]:
    printed, warnings = run(
        # A thread that ends gives back descriptors and memory: these programs have none but the maintenance.
        program,
        tmp_path,
        *arguments,
        env={**WITHOUT_VERSIONS, "FLOWPROV__JOURNAL__HEARTBEAT": "0.05", **env},
    )
    reported: dict[str, Any] = json.loads(printed)
    assert reported["captured"] == reported["written"] + sum(reported["dropped"].values())
    return reported, warnings


def _check_nothing_is_lost(tmp_path: Path, calls: int) -> None:
    assert len(tasks(tmp_path)) == calls
    footer = only(of_type(lines(tmp_path), Footer))
    assert (footer.captured, footer.written, footer.dropped) == (calls + 2, calls + 2, None)
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"
    data = only(find_journals(tmp_path)).read_bytes()
    assert b"\0" not in data, "plain JSON Lines"


def test_without_descriptors_for_a_segment_nothing_is_lost(tmp_path: Path) -> None:
    reported, warnings = _play(tmp_path, _NO_DESCRIPTORS, "later", FLOWPROV__JOURNAL__WRITER="mapped")
    assert (reported["during"], reported["after"]) == ("MmapWriter", "MmapWriter"), "a segment needs none"
    assert "stops recording" not in warnings
    _check_nothing_is_lost(tmp_path, 2000)


def test_without_memory_for_a_segment_nothing_is_lost(tmp_path: Path) -> None:
    reported, warnings = _play(tmp_path, _NO_MEMORY, FLOWPROV__JOURNAL__WRITER="mapped")
    assert (reported["during"], reported["after"]) == ("AppendWriter", "MmapWriter")
    assert "stops recording" not in warnings
    _check_nothing_is_lost(tmp_path, 2000)


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_without_a_descriptor_for_the_file_recording_begins_as_soon_as_there_is_one(
    tmp_path: Path, writer: str
) -> None:
    _play(tmp_path, _NO_DESCRIPTORS, "from the start", FLOWPROV__JOURNAL__WRITER=writer)
    footer = only(of_type(lines(tmp_path / "flowprov_buffer" / "c1"), Footer))
    assert footer.captured == 2002
    assert footer.dropped is not None
    assert footer.dropped["write_error"] in (10, 11), "the opening of the workflow among them"
    assert footer.written == 2002 - footer.dropped["write_error"]


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_disk_that_is_freed_again_is_written_again(
    small_disk: Path, tmp_path: Path, when: str, writer: str
) -> None:
    env = {"FLOWPROV__JOURNAL__PATH": str(small_disk / "buffer"), "FLOWPROV__JOURNAL__WRITER": writer}
    reported, warnings = _play(tmp_path, _FULL_DISK, when, str(small_disk), **env)
    dropped = reported["dropped"]["disk_full"]
    assert dropped >= 10
    assert warnings.count("flowprov stops recording") == 1
    assert warnings.count(f"Meanwhile {dropped} events were dropped (disk_full)") == 1
    recorded = lines(small_disk)
    found = of_type(recorded, Task)
    assert {task.used["number"] for task in found if task.used} >= set(range(400, 800))
    footer = only(of_type(recorded, Footer))
    assert footer.dropped == {"disk_full": dropped}
    events = len(found) + len(of_type(recorded, records.Workflow))
    assert footer.written == events == footer.captured - dropped


@pytest.mark.parametrize("writer", ["mapped", "write", "queued"])
def test_tries_to_open_a_file_on_a_full_disk_leave_no_thread_and_no_descriptor(
    small_disk: Path, writer: str
) -> None:
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 2_000_000)
    before = _held()
    journal = open_journal(small_disk, writer)
    for number in range(20):
        journal.append(records.encode(step(number)))
        journal.try_again()
    assert journal.counts() == (20, 0, {"disk_full": 20})
    wait_until(lambda: _held() == before)
    ballast.unlink()
    journal.try_again()
    journal.append(records.encode(step(20)))
    journal.close()
    assert journal.counts() == (21, 1, {"disk_full": 20})
    wait_until(lambda: _held() == before)


def _held() -> tuple[int, int]:
    """Return the numbers of threads and of open descriptors."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def test_events_themselves_try_again_where_no_maintenance_runs(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(small_disk, "write")
    journal.settings = type(journal.settings)(path=str(small_disk), writer="write", heartbeat=0.001)
    for round_ in range(3):
        (small_disk / "ballast").write_bytes(b"")
        while journal._stoppage is None:
            journal.append(records.encode(step(1, used={"text": "x" * 20_000})))
        shutil.copy("/dev/null", small_disk / "ballast")
        assert journal.path is not None
        lost = sum(journal.counts()[2].values())
        with journal.path.open("r+b") as file:  # free the disk as a test can: a hole
            _punch_hole(file.fileno())
        while journal._stoppage is not None:
            journal.append(records.encode(step(2)))
        assert sum(journal.counts()[2].values()) >= lost > round_
    assert sum("records again" in message for message in caplog.messages) == 3
    journal.close()


def _punch_hole(descriptor: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    assert libc.fallocate(descriptor, 3, 8192, 512 * 1024) == 0


def test_the_limit_of_the_settings_is_for_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = open_journal(tmp_path, "mapped")
    journal.settings = type(journal.settings)(
        path=str(tmp_path), writer="mapped", max_bytes=16_384, heartbeat=0.001
    )
    while not journal.counts()[2]:
        journal.append(records.encode(step(1, used={"text": "x" * 200})))
    for _ in range(5):
        journal.write_heartbeat()
        journal.append(records.encode(step(1)))
    assert journal.counts()[2] == {"max_bytes": 6}
    assert "tried again" not in caplog.text
    journal.close()


@pytest.mark.parametrize("rounds", [1, 5])
def test_a_file_changes_between_mapped_and_plain_writes(tmp_path: Path, rounds: int) -> None:
    journal, expected = open_journal(tmp_path, "mapped"), []
    for number in range(rounds * 2000):
        line = records.encode(step(number, used={"text": "x" * 50}))
        journal.append(line)
        expected.append(line)
        if number % 2000 == 700:
            assert isinstance(journal._writer, MmapWriter)
            journal._writer = journal._writer.write_plainly()
        elif number % 2000 == 1400:
            assert isinstance(journal._writer, AppendWriter)
            journal.try_again()
            assert isinstance(journal._writer, MmapWriter)
    assert journal.counts() == (rounds * 2000, rounds * 2000, {})
    journal.close()
    assert journal.path is not None
    written = [records.encode(record) for record in lines_of(journal.path) if isinstance(record, Task)]
    assert written == expected
    assert b"\0" not in journal.path.read_bytes()
