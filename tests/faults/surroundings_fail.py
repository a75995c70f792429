"""Faults of the surroundings: the disk, the bytes on it, and the clock.

Flows in: a stage. Flows out: the fault, played on it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.stage import Stage, is_task, journal_lines

_HOUR_S = 3600
_CLOCK = Path(__file__).with_name("clock.c")


def disk_full(stage: Stage) -> None:
    disk = stage.folder / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    stage.at_end(lambda: subprocess.run(["umount", "--lazy", str(disk)], check=True))
    stage.buffer = disk / "buffer"
    stage.environment["FLOWPROV__JOURNAL__PATH"] = str(stage.buffer)
    stage.server.start()
    stage.run(TASKS="4000", TEXT="500")
    stage.await_shippers_gone()


def damaged_journal(stage: Stage) -> None:
    stage.server.start()
    stage.run(delivering=False)
    lines = [row for row in journal_lines(stage.buffer) if is_task(row.line)]
    victim = lines[len(lines) // 2]
    path = next(stage.buffer.rglob(f"*{victim.journal}.jsonl"))
    with path.open("r+b") as file:
        file.seek(victim.position + 10)
        file.write(b"\xff\x01damage")
    stage.ship()
    verified = stage.verify()[1]
    offsets = [damage["offset"] for journal in verified["journals"] for damage in journal["damages"]]
    assert offsets == [victim.position]


def clock_jumps(stage: Stage) -> None:
    library, offset = stage.folder / "clock.so", stage.folder / "offset"
    compiling = ["cc", "-shared", "-fPIC", "-o", str(library), str(_CLOCK), "-ldl"]
    if shutil.which("cc") is None or subprocess.run(compiling, capture_output=True, check=False).returncode:
        pytest.skip("needs a C compiler, for a clock that can be set")
    offset.write_text("0")
    stage.environment.update(LD_PRELOAD=str(library), CLOCK_OFFSET_FILE=str(offset))
    stage.server.start()
    program = stage.start(GATES="0.3 0.6", PACE="0.001")
    for jump in (_HOUR_S, -_HOUR_S):
        program.wait_at_gate()
        stage.await_some_delivered()
        offset.write_text(str(jump))
        program.resume()
    program.finish()
    stage.await_shippers_gone()
    times = [json.loads(row.line)["at"] for row in stage.server.rows() if b'"type":"heartbeat"' in row.line]
    assert max(times) - min(times) > _HOUR_S * 1_000_000_000, "the program followed the clock that was set"
