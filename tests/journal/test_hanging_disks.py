"""A file system that hangs, of FUSE or frozen: threads of the program go on, and no record is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.records import Task
from tests.support import REPOSITORY, lines_of, of_type, only, start, wait_until


class HangingDisk(NamedTuple):
    """A mounted file system and the process that serves it."""

    folder: Path
    process: subprocess.Popen[str]

    def hang(self) -> None:
        """Let it answer no more."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def answer(self) -> None:
        """Let it answer again, also what it was asked meanwhile."""
        os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[HangingDisk]:
    """Mount a FUSE file system; skip without the right to."""
    folder = tmp_path / "fuse"
    folder.mkdir()
    daemon = [sys.executable, str(REPOSITORY / "tests" / "fuse_daemon.py"), str(folder)]
    with subprocess.Popen(daemon, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            pytest.skip("needs the right to mount a FUSE file system")
        disk = HangingDisk(folder, process)
        try:
            yield disk
        finally:
            disk.answer()
            subprocess.run(["umount", "-l", str(folder)], check=True)
            process.terminate()


_PROGRAM = """
    import json, pathlib, sys, threading, time
    import flowprov

    @flowprov.task
    def step(number):
        return number

    ticks, longest, running = 0, 0.0, True

    def tick():
        global ticks
        while running:
            ticks += 1
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    number = 0
    with flowprov.workflow("W", campaign_id="c1"):
        while not pathlib.Path("done").exists():
            begin, before = time.monotonic(), ticks
            step(number)
            number += 1
            took = time.monotonic() - begin
            if took > longest:
                longest, meanwhile = took, ticks - before
            if number == 200:
                pathlib.Path("recording").touch()
            time.sleep(0.001)
        ended = time.monotonic()
    running = False
    thread.join()
    flowprov.runtime.runtime.shutdown()
    closing = time.monotonic() - ended
    counts = flowprov.runtime.runtime.peek().journals()[0].counts()
    told = {"calls": number, "longest": longest, "meanwhile": meanwhile, "closing": closing, "counts": counts}
    print(json.dumps(told), flush=True)
"""


def _environment(folder: Path, writer: str) -> dict[str, str]:
    return {
        "FLOWPROV__JOURNAL__PATH": str(folder / "buffer"),
        "FLOWPROV__JOURNAL__WRITER": writer,
        "FLOWPROV__JOURNAL__MAX_WAIT": "0.5",
        "FLOWPROV__JOURNAL__HEARTBEAT": "0.1",
    }


@pytest.mark.parametrize("writer", ["auto", "write"])
def test_a_file_system_that_hangs_for_a_while_holds_up_one_call_and_no_other_thread(
    fuse: HangingDisk, tmp_path: Path, writer: str
) -> None:
    process = start(_PROGRAM, tmp_path, env=_environment(fuse.folder, writer))
    wait_until((tmp_path / "recording").exists)
    fuse.hang()
    time.sleep(3)
    assert process.poll() is None
    fuse.answer()
    time.sleep(0.3)
    (tmp_path / "done").touch()
    printed, warnings = process.communicate(timeout=60)
    assert process.returncode == 0, warnings
    told = json.loads(printed)
    assert 0.4 < told["longest"] < 2.5, "as long as max_wait, and not as long as the file system"
    assert told["meanwhile"] > 20, "the other thread went on"
    assert warnings.count("does not answer") == 1
    [path] = find_journals(fuse.folder / "buffer")
    steps = [task for task in of_type(lines_of(path), Task) if task.activity_id == "step" and task.ended_at]
    numbers = [task.used["number"] for task in steps if task.used is not None]
    assert numbers == list(range(told["calls"])), "all of them, in order"
    captured, written, dropped = told["counts"]
    assert (captured, dropped) == (written, {})
    assert verify(fuse.folder / "buffer").verdict == "COMPLETE"


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system that can be frozen; skip without the right to."""
    image, folder = tmp_path / "image", tmp_path / "ext4"
    folder.mkdir()
    image.touch()
    os.truncate(image, 32 << 20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount an ext4")
    try:
        yield folder
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], capture_output=True, check=False)
        subprocess.run(["umount", str(folder)], check=True)


def test_a_frozen_disk_holds_up_one_call_where_the_settings_ask_for_a_queue(
    frozen: Path, tmp_path: Path
) -> None:
    environment = _environment(frozen, "queued")
    process = start(_PROGRAM, tmp_path, env=environment)
    wait_until((tmp_path / "recording").exists)
    subprocess.run(["fsfreeze", "--freeze", str(frozen)], check=True)
    time.sleep(3)
    subprocess.run(["fsfreeze", "--unfreeze", str(frozen)], check=True)
    (tmp_path / "done").touch()
    printed, warnings = process.communicate(timeout=60)
    assert process.returncode == 0, warnings
    told = json.loads(printed)
    assert told["longest"] < 2.5
    assert told["meanwhile"] > 20
    assert verify(frozen / "buffer").verdict == "COMPLETE"


def test_a_program_ends_although_the_file_system_hangs(fuse: HangingDisk, tmp_path: Path) -> None:
    process = start(_PROGRAM, tmp_path, env=_environment(fuse.folder, "auto"))
    wait_until((tmp_path / "recording").exists)
    fuse.hang()
    time.sleep(1.5)
    (tmp_path / "done").touch()
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    fuse.answer()  # the kernel keeps a process that waits for an answer to what was asked already
    _, warnings = process.communicate(timeout=60)
    assert process.returncode == 0, warnings
    assert told["closing"] < 12
    assert "are not written" in warnings
    assert verify(fuse.folder / "buffer").verdict == "INCOMPLETE"


def test_what_the_disk_refuses_after_it_hung_counts_as_dropped(fuse: HangingDisk, tmp_path: Path) -> None:
    environment = {**_environment(fuse.folder, "auto"), "FLOWPROV__JOURNAL__MAX_BYTES": "200000"}
    process = start(_PROGRAM, tmp_path, env=environment)
    wait_until((tmp_path / "recording").exists)
    fuse.hang()
    time.sleep(2.5)
    fuse.answer()
    time.sleep(2)
    (tmp_path / "done").touch()
    printed, warnings = process.communicate(timeout=60)
    assert process.returncode == 0, warnings
    captured, written, dropped = json.loads(printed)["counts"]
    assert captured == written + sum(dropped.values())
    events = of_type(lines_of(only(find_journals(fuse.folder / "buffer"))), Task)
    assert len([task for task in events if task.ended_at]) <= written
    assert dropped
