"""The program closes descriptors of ours by their number, and opens files of its own under those numbers.

Programs that become daemons close all descriptors; programs that redirect a stream put it over a number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

import flowprov
from flowprov.journal.own_file import map_shared
from flowprov.read.verify import verify
from flowprov.records import Footer, Task
from tests.journal.support import open_journal
from tests.support import lines, of_type, only, run, wait_until

_PROGRAM = """
    import json, os, sys, time
    import flowprov

    @flowprov.task
    def step(number):
        return number

    def numbers_of_flowprov():
        found = []
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue
            if "flowprov_buffer" in target or "memfd:flowprov" in target:
                found.append(number)
        return found

    def take(how, name):
        # Open files of the program under the numbers that were flowprov's.
        numbers = numbers_of_flowprov()
        assert numbers
        if how == "closerange":
            os.closerange(3, 1024)
            own = []
            while not set(numbers) <= set(own):
                own.append(os.open(f"checkpoint-{name}-{len(own)}", os.O_RDWR | os.O_CREAT))
        else:
            own = []
            for number in numbers:
                file = os.open(f"checkpoint-{name}-{len(own)}", os.O_RDWR | os.O_CREAT)
                os.dup2(file, number)
                os.close(file)
                own.append(number)
        for number in own:
            os.write(number, b"weights of the model")
        return {number: os.fstat(number).st_ino for number in own}

    def check(own):
        for number, inode in own.items():
            assert os.fstat(number).st_ino == inode, "a descriptor of the program was closed"
            assert os.pread(number, 1 << 20, 0) == b"weights of the model"

    how, when = sys.argv[1], sys.argv[2]
    owned = []
"""

_RUNNING = """
    def record(begin, end):
        for number in range(begin, end):
            step(number)

    flowprov.configure(journal={"heartbeat": 0.05 if when == "heartbeat" else 60})
    with flowprov.workflow("W", campaign_id="c1"):
        record(0, 100)
        if when == "fork":
            own = take(how, "a")
            child = os.fork()
            if child == 0:
                record(100, 1100)
                check(own)
                flowprov.runtime.runtime.shutdown()
                check(own)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            record(1100, 2000)
        elif when == "close":
            record(100, 2000)
            own = take(how, "a")
        else:
            own = take(how, "a")
            record(100, 1100)
            if when == "heartbeat":
                time.sleep(0.3)
            check(own)
            if when == "twice":
                check(own)
                [os.close(number) for number in own]
                own = take(how, "b")
            record(1100, 2000)
        check(own)
    check(own)
    flowprov.runtime.runtime.reset()
    import gc; gc.collect()
    check(own)
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("when", ["running", "heartbeat", "twice", "fork", "close"])
@pytest.mark.parametrize("how", ["closerange", "dup2"])
def test_files_of_the_program_stay_as_they_are_and_no_record_is_lost(
    tmp_path: Path, how: str, when: str, writer: str
) -> None:
    _, warnings = run(
        _PROGRAM + _RUNNING,
        tmp_path,
        how,
        when,
        env={"FLOWPROV__JOURNAL__WRITER": writer},
    )
    assert "Traceback" not in warnings
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", campaign_id="c1", return_df=False)
    recorded = [row["used"]["number"] for row in rows if row["activity_id"] == "step"]
    assert sorted(recorded) == list(range(2000)), "each record once"
    assert warnings.count("somebody has closed") == {"twice": 2}.get(when, 1), warnings
    assert verify(tmp_path / "flowprov_buffer", campaign_id="c1").verdict == "COMPLETE"


_DAEMON = """
    record = lambda begin, end: [step(number) for number in range(begin, end)]
    flowprov.configure(journal={"heartbeat": 60})
    workflow = flowprov.workflow("W", campaign_id="c1")
    workflow.start()
    record(0, 10)
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    own = take(how, "a") if how == "dup2" and numbers_of_flowprov() else {}
    os.closerange(0, 4096)
    for name in ("0", "1", "2", "3", "4", "5"):
        number = os.open(f"checkpoint-{name}", os.O_RDWR | os.O_CREAT)
        os.write(number, b"weights of the model")
        own[number] = os.fstat(number).st_ino
    record(10, 1000)
    check({number: inode for number, inode in own.items() if number < 6})
    flowprov.runtime.runtime.shutdown()
    check({number: inode for number, inode in own.items() if number < 6})
    open("done", "w").close()
    os._exit(0)
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("how", ["closerange", "dup2"])
def test_a_program_that_becomes_a_daemon_goes_on_recording(tmp_path: Path, how: str, writer: str) -> None:
    run(_PROGRAM + _DAEMON, tmp_path, how, "", env={"FLOWPROV__JOURNAL__WRITER": writer})
    wait_until((tmp_path / "done").exists)
    assert {path.read_bytes() for path in tmp_path.glob("checkpoint-?")} == {b"weights of the model"}
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", campaign_id="c1", return_df=False)
    recorded = sorted(row["used"]["number"] for row in rows if row["activity_id"] == "step")
    assert recorded == list(range(1000))


_CAMPAIGNS = """
    for number in range(12):
        with flowprov.workflow("W", campaign_id=f"c{number}"):
            for _ in range(20):
                step(number)
        if number == 6:
            own = take(how, "a")
    check(own)
    flowprov.runtime.runtime.shutdown()
    check(own)
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("how", ["closerange", "dup2"])
def test_journals_that_rest_are_closed_without_touching_files_of_the_program(
    tmp_path: Path, how: str, writer: str
) -> None:
    run(
        _PROGRAM + _CAMPAIGNS,
        tmp_path,
        how,
        "",
        env={"FLOWPROV__JOURNAL__WRITER": writer},
    )
    for number in range(12):
        assert verify(tmp_path / "flowprov_buffer", campaign_id=f"c{number}").verdict == "COMPLETE"


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_what_is_out_of_reach_counts_as_lost(tmp_path: Path, writer: str) -> None:
    journal = open_journal(tmp_path / "buffer", writer)
    for number in range(10):
        journal.append(b'{"type":"task","task_id":%d}\n' % number)
    shutil.rmtree(tmp_path / "buffer")
    assert journal._opened is not None
    os.close(journal._opened.file.fileno())
    journal.check_file()
    for number in range(3):
        journal.append(b'{"type":"task","task_id":%d}\n' % number)
    assert journal.counts() == (13, 3, {"removed": 10})
    journal.close()


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_threads_that_append_while_descriptors_are_closed_lose_nothing(tmp_path: Path, writer: str) -> None:
    journal, done = open_journal(tmp_path / "buffer", writer), threading.Event()
    appended = [0] * 4

    def work(name: int) -> None:
        while not done.is_set():
            journal.append(
                b'{"type":"task","task_id":"%d-%d","fill":"%s"}\n' % (name, appended[name], b"x" * 500)
            )
            appended[name] += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        time.sleep(0.02)
        with contextlib.suppress(OSError, AttributeError):  # just then it has no file, or no descriptor
            os.close(journal._opened.file.fileno())  # type: ignore[union-attr]
        journal.check_file()
    done.set()
    for thread in threads:
        thread.join()
    journal.close()
    records = of_type(lines(tmp_path / "buffer"), Task)
    assert sorted(str(task.task_id) for task in records) == sorted(
        f"{name}-{number}" for name in range(4) for number in range(appended[name])
    )
    footers = of_type(lines(tmp_path / "buffer"), Footer)
    assert sum(footer.written for footer in footers) == sum(appended)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user and back")
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_an_ordinary_user_can_end_a_journal_whose_descriptor_is_closed(writer: str) -> None:
    with tempfile.TemporaryDirectory(prefix="flowprov-test-") as name:
        folder, uid = Path(name), 65534
        os.chown(folder, uid, -1)
        os.seteuid(uid)
        try:
            journal = open_journal(folder / "buffer", writer)
            journal.append(b'{"type":"task","task_id":0}\n')
            assert journal._opened is not None
            os.close(journal._opened.file.fileno())
            journal.close()
        finally:
            os.seteuid(0)
        footer = only(of_type(lines(folder), Footer))
        assert (footer.captured, footer.written) == (1, 1)


def test_memory_of_a_file_keeps_no_descriptor(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names of numbers
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(8192)
        memory = map_shared(file.fileno(), 4096, 4096)
        memory.write(b"hello")
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
    assert (tmp_path / "file").read_bytes()[4096:4101] == b"hello"
    memory.close()


def test_children_learn_of_the_end_of_a_workflow_after_descriptors_were_closed(tmp_path: Path) -> None:
    program = (
        _PROGRAM
        + """
    from multiprocessing import get_context

    def serve(queue, results):
        while (number := queue.get()) is not None:
            step(number)
            results.put(number)

    if __name__ == "__main__":
        with flowprov.workflow("first", campaign_id="c1"):
            own = take(how, "a") if numbers_of_flowprov() else {}
            context = get_context("spawn")
            queue, results = context.Queue(), context.Queue()
            child = context.Process(target=serve, args=(queue, results))
            child.start()
            queue.put(1)
            results.get()
            check(own)
        with flowprov.workflow("second", campaign_id="c1"):
            queue.put(2)
            results.get()
            queue.put(None)
            child.join()
        check(own)
    """
    )
    run(program, tmp_path, "closerange", "")
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", campaign_id="c1", return_df=False)
    names = {row["workflow_id"]: row["name"] for row in rows if row["type"] == "workflow"}
    steps = {row["used"]["number"]: names[row["workflow_id"]] for row in rows if row["activity_id"] == "step"}
    assert steps == {1: "first", 2: "second"}
