"""What somebody, or the device, does to the file of a journal that is being written: the program lives on."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from tests.journal.support import open_journal
from tests.support import run, start, wait_until

_ROUNDS = 3000
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, ioctl_ext4(2)
_PUNCH_HOLE, _KEEP_SIZE = 2, 1  # fallocate(2)

_RECORDING = """
    import json, pathlib, sys, time
    import flowprov

    @flowprov.task
    def step(number, text):
        return number

    flowprov.configure(journal={"heartbeat": 0.05})
    number, done = 0, pathlib.Path("done")
    with flowprov.workflow("W", campaign_id="c1"):
        while not done.exists() or number < 1000:
            for _ in range(100):
                step(number, "x" * (number % 900))
                number += 1
    flowprov.runtime.runtime.shutdown()
    counts = [journal.counts() for journal in flowprov.runtime.runtime.peek().journals()]
    print(json.dumps({"calls": number, "counts": counts}))
"""


_random = random.Random(15)  # noqa: S311 - no secret


def _cut(path: Path, how: str) -> None:
    if how == "truncate":
        os.truncate(path, _random.randrange(path.stat().st_size + 1))
    elif how == "overwrite":
        path.write_bytes(b"somebody else's\n")
    else:  # what `: > file` does
        path.open("wb").close()


@pytest.mark.skipif(os.getuid() != 0, reason="another user cannot cut a journal")
@pytest.mark.parametrize("writer", ["auto", "write"])
@pytest.mark.parametrize("how", ["truncate", "overwrite", "empty"])
def test_a_program_survives_thousands_of_cuts_of_its_live_journal(
    tmp_path: Path, how: str, writer: str
) -> None:
    process = start(_RECORDING, tmp_path, env={"FLOWPROV__JOURNAL__WRITER": writer})
    buffer = tmp_path / "flowprov_buffer"
    wait_until(lambda: find_journals(buffer))
    for number in range(_ROUNDS):
        if number % 100 == 0:
            assert process.poll() is None, "it lives"
            latest = max(find_journals(buffer), key=lambda path: path.stat().st_mtime_ns)
        _cut(latest, how)
    wait_until(lambda: len(find_journals(buffer)) > 1)  # a heartbeat has seen it
    (tmp_path / "done").touch()
    printed, warnings = process.communicate(timeout=120)
    assert process.returncode == 0, warnings
    assert "somebody has cut" in warnings
    counted = json.loads(printed)
    assert all(
        captured == written + sum(dropped.values()) for captured, written, dropped in counted["counts"]
    )
    assert verify(buffer, campaign_id="c1").verdict == "INCOMPLETE", "what was cut off is missed"


@pytest.mark.parametrize("writer", ["auto", "write", "mapped"])
def test_holes_in_a_journal_and_then_a_full_disk_cost_records_and_no_more(
    small_disk: Path, tmp_path: Path, writer: str
) -> None:
    program = """
        import ctypes, json, pathlib, sys, time
        import flowprov

        @flowprov.task
        def step(number):
            return number

        libc = ctypes.CDLL(None, use_errno=True)
        disk = pathlib.Path(sys.argv[1])
        flowprov.configure(journal={"heartbeat": 0.02})
        with flowprov.workflow("W", campaign_id="c1"):
            for number in range(100):
                step(number)
            path = flowprov.runtime.runtime.peek().journals()[0].path
            with path.open("r+b") as file:  # what `fallocate -d` does: blocks of zeros become holes
                size = path.stat().st_size
                begin = -(-len(path.read_bytes().rstrip(b"\\0")) // 4096) * 4096
                if size > begin:
                    assert libc.fallocate(
                        file.fileno(), 3, ctypes.c_int64(begin), ctypes.c_int64(size - begin)
                    ) == 0
            with (disk / "ballast").open("wb", buffering=0) as ballast:
                try:
                    while ballast.write(b"x" * 4096) == 4096:
                        pass
                except OSError:
                    pass
            time.sleep(0.5)
            for number in range(100, 5000):
                step(number)
        flowprov.runtime.runtime.shutdown()
        counts = [journal.counts() for journal in flowprov.runtime.runtime.peek().journals()]
        print(json.dumps(counts))
    """
    env = {"FLOWPROV__JOURNAL__PATH": str(small_disk / "buffer"), "FLOWPROV__JOURNAL__WRITER": writer}
    printed, warnings = run(program, tmp_path, str(small_disk), env=env)
    counts = json.loads(printed)
    assert all(captured == written + sum(dropped.values()) for captured, written, dropped in counts)
    assert sum(sum(dropped.values()) for _, _, dropped in counts) > 0
    assert "the disk is full" in warnings or "recorded in" in warnings


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system of its own; skip without the right to do so."""
    image, folder = tmp_path / "image", tmp_path / "ext4"
    folder.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 32 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    mounted = made.returncode == 0 and subprocess.run(
        ["mount", "-o", "loop", str(image), str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("needs the right to mount an ext4")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("writer", ["auto", "write"])
def test_a_file_system_that_is_shut_down_costs_records_and_no_more(
    failing_disk: Path, tmp_path: Path, writer: str
) -> None:
    env = {"FLOWPROV__JOURNAL__PATH": str(failing_disk / "buffer"), "FLOWPROV__JOURNAL__WRITER": writer}
    process = start(_RECORDING, tmp_path, env=env)
    wait_until(lambda: find_journals(failing_disk / "buffer"))
    time.sleep(0.2)
    folder = os.open(failing_disk, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, _SHUTDOWN, struct.pack("i", 2))  # without flushing anything
    finally:
        os.close(folder)
    time.sleep(0.2)
    (tmp_path / "done").touch()
    printed, warnings = process.communicate(timeout=60)
    assert process.returncode == 0, warnings
    counted = json.loads(printed)
    assert sum(sum(dropped.values()) for _, _, dropped in counted["counts"]) > 0
    assert "flowprov stops recording" in warnings or "recorded in" in warnings


def test_a_mapped_journal_is_left_when_blocks_were_taken_out_of_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "buffer", "mapped")
    journal.append(b'{"type":"task","task_id":0}\n')
    path = journal.path
    assert path is not None
    with path.open("r+b") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        begin, size = ctypes.c_int64(32_768), ctypes.c_int64(32_768)
        if libc.fallocate(file.fileno(), _PUNCH_HOLE | _KEEP_SIZE, begin, size) != 0:
            pytest.skip("this file system punches no holes")
    journal.check_file()
    journal.append(b'{"type":"task","task_id":1}\n')
    assert journal.path != path
    assert journal.counts() == (1, 1, {})
    journal.close()
