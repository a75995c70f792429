"""A journal that has reached its size goes on in a next file, and nothing of it is lost by that."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from flowprov import guard, records
from flowprov.journal import Identity, Journal, JournalMaintenance, file_succession
from flowprov.journal.format import find_journals
from flowprov.records import Footer, Header, Task
from flowprov.settings import JournalSettings
from tests.support import clean_environment, lines_of, of_type, only, run, start, wait_until

ROLL = 16_384
WRITERS = pytest.mark.parametrize("writer", ["mapped", "write", "queued"])


def _open(
    folder: Path, writer: str = "write", maintenance: JournalMaintenance | None = None, **settings: Any
) -> Journal:
    values = {"path": str(folder), "writer": writer, "roll_bytes": ROLL, **settings}
    return Journal(JournalSettings(**values), Identity(campaign_id="c1", hostname="node-1"), maintenance)


def _line(journal: Journal, text: str = "x" * 200) -> bytes:
    return b'{"type":"task","task_id":%d,"activity_id":"%s"}\n' % (journal.next_number(), text.encode())


def _check(folder: Path) -> list[list[records.Record]]:
    """Check that each file says itself what it holds, and names the one before; return what they hold."""
    files = [lines_of(path) for path in find_journals(folder)]
    for before, lines in zip([None, *files], files, strict=False):
        footer = only(of_type(lines, Footer))
        assert footer in (lines[-1], lines[1]), "at the end, or behind the header of a full journal"
        assert footer.written == len(of_type(lines, Task))
        header = lines[0]
        assert isinstance(header, Header)
        if before is not None:
            earlier = before[0]
            assert isinstance(earlier, Header)
            assert header.previous == earlier.journal_id
            assert header.ancestors == [*earlier.ancestors, (earlier.journal_id, earlier.first_number)]
    return files


@WRITERS
@pytest.mark.parametrize("sync", ["off", "record"])
def test_a_journal_rolls_by_size_and_its_numbers_go_on(tmp_path: Path, writer: str, sync: str) -> None:
    journal = _open(tmp_path, writer, sync=sync)
    first = journal.full_id(0)
    for _ in range(400):
        journal.append(_line(journal))
    assert journal.full_id(0) == first
    journal.close()
    files = _check(tmp_path)
    assert len(files) > 5
    assert all(path.stat().st_size < ROLL + 1000 for path in find_journals(tmp_path))
    numbers = [task.task_id for lines in files for task in of_type(lines, Task)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 400


@WRITERS
def test_threads_lose_nothing_while_the_journal_rolls(tmp_path: Path, writer: str) -> None:
    maintenance = JournalMaintenance()
    journal = _open(tmp_path, writer, maintenance, heartbeat=0.05)

    def work() -> None:
        for _ in range(400):
            journal.append(_line(journal))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    maintenance.stop()
    journal.close()
    files = _check(tmp_path)
    numbers = [task.task_id for lines in files for task in of_type(lines, Task)]
    assert len(numbers) == len(set(numbers)) == 1600


def test_the_maintenance_ends_the_file_that_was_left(tmp_path: Path) -> None:
    maintenance = JournalMaintenance()
    journal = _open(tmp_path, "write", maintenance)
    while len(find_journals(tmp_path)) < 2:
        journal.append(_line(journal))
    first = find_journals(tmp_path)[0]
    wait_until(lambda: of_type(lines_of(first), Footer))
    assert not journal.closed
    maintenance.stop()
    journal.close()


@WRITERS
def test_a_line_larger_than_a_file_should_be_is_recorded(tmp_path: Path, writer: str) -> None:
    journal = _open(tmp_path, writer)
    for size in (10, 3 * ROLL, 10, 2 * ROLL, 10):
        journal.append(_line(journal, "y" * size))
    journal.close()
    assert sum(len(of_type(lines, Task)) for lines in _check(tmp_path)) == 5


@WRITERS
def test_the_largest_size_holds_for_all_files_together(
    tmp_path: Path, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = _open(tmp_path, writer, max_bytes=8 * ROLL)
    for _ in range(1000):
        journal.append(_line(journal))
    journal.close()
    total = sum(path.stat().st_size for path in find_journals(tmp_path))
    assert 5 * ROLL < total < 8 * ROLL + 9 * 200  # a footer may come behind it
    captured, written, dropped = journal.counts()
    assert dropped["max_bytes"] > 0
    found = sum(len(of_type(lines, Task)) for lines in _check(tmp_path))
    assert found + dropped["max_bytes"] == 1000
    assert captured == written + dropped["max_bytes"]
    assert caplog.text.count("journal.max_bytes is reached") == 1


def test_without_a_size_nothing_rolls(tmp_path: Path) -> None:
    journal = _open(tmp_path, roll_bytes=None)
    for _ in range(400):
        journal.append(_line(journal))
    journal.close()
    assert len(_check(tmp_path)) == 1


@WRITERS
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
    ids=["full", "descriptors", "gone"],
)
def test_a_roll_that_fails_goes_on_in_the_same_file_and_is_tried_again(
    tmp_path: Path,
    writer: str,
    error: OSError,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = _open(tmp_path, writer)
    journal.append(_line(journal))

    def fail(*_: object, **_options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(file_succession, "open_file", fail)
        for _ in range(200):
            journal.append(_line(journal))
        journal.write_heartbeat()
        for _ in range(300):
            journal.append(_line(journal))
        assert len(find_journals(tmp_path)) == 1
    assert caplog.text.count("could not create the file in which") == 1
    assert guard.internal_errors() == {f"going on in a next file: {type(error).__name__}": 2}
    journal.write_heartbeat()  # it is due again
    for _ in range(300):
        journal.append(_line(journal))
    journal.close()
    files = _check(tmp_path)
    assert len(files) >= 2
    assert sum(len(of_type(lines, Task)) for lines in files) == 801


def test_a_full_disk_leaves_no_second_file(small_disk: Path) -> None:
    journal = _open(small_disk, "write")
    journal.append(_line(journal))
    (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 20 * 4096))
    for _ in range(1000):
        journal.append(_line(journal))
    _, written, dropped = journal.counts()
    assert dropped["disk_full"] > 0
    (small_disk / "filler").unlink()
    journal.close()
    assert len(find_journals(small_disk)) >= 1
    assert not list(small_disk.rglob("*.unwritten"))
    found = [lines_of(path) for path in find_journals(small_disk)]
    assert written == len(of_type(found[-1], Task))


_FORKING = """
    import os, threading
    import flowprov

    @flowprov.task
    def step(number, text):
        return number

    flowprov.configure(journal={"writer": WRITER, "roll_bytes": 16384, "heartbeat": 0.1})
    with flowprov.workflow("forking"):
        over = False

        def work():
            while not over:
                step(0, "x" * 200)

        thread = threading.Thread(target=work)
        thread.start()
        children = []
        for _ in range(10):
            for number in range(30):
                step(number, "p" * 200)
            pid = os.fork()
            if pid == 0:
                for number in range(60):
                    step(number, "c" * 200)
                flowprov.runtime.runtime.get().close()
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        over = True
        thread.join()
"""


@WRITERS
def test_forks_while_journals_roll(tmp_path: Path, writer: str) -> None:
    program = "    import flowprov.runtime.runtime\n" + _FORKING.replace("WRITER", repr(writer))
    run(program, tmp_path)
    files = [lines_of(path) for path in find_journals(tmp_path / "flowprov_buffer")]
    for lines in files:
        footer = only(of_type(lines, Footer))
        assert footer.written == sum(type(one) in (Task, records.Workflow) for one in lines)
    of_children = [task for lines in files for task in of_type(lines, Task) if "c" in task.used["text"]]
    of_parent = [task for lines in files for task in of_type(lines, Task) if "p" in task.used["text"]]
    assert len(of_children) == 600
    assert len(of_parent) == 300


_KILLED = """
    import os
    import flowprov

    @flowprov.task
    def step(number, text):
        return number

    with flowprov.workflow("Doomed"):
        number = 0
        while True:
            step(number, "x" * (number % 300))
            os.write(1, b"%d\\n" % number)
            number += 1
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_a_random_moment_of_a_roll_loses_no_acknowledged_call(
    tmp_path: Path, writer: str, seed: int
) -> None:
    env = clean_environment(FLOWPROV__JOURNAL__WRITER=writer, FLOWPROV__JOURNAL__ROLL_BYTES="16384")
    with start(_KILLED, tmp_path, env=env) as process:
        assert process.stdout is not None
        acknowledged = []
        for line in process.stdout:
            acknowledged.append(int(line))
            if len(acknowledged) == 100 + 13 * seed:  # about 40 of them fill a file
                process.kill()
                break
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    files = [lines_of(path) for path in find_journals(tmp_path / "flowprov_buffer")]
    assert len(files) > 2
    kept = [task.used["number"] for lines in files for task in of_type(lines, Task)]
    assert kept == list(range(len(kept))), "no gap and nothing twice"
    assert set(acknowledged) <= set(kept)
