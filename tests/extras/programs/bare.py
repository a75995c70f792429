"""Without an extra: record, read it, and see it, without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import flowprov
from flowprov.read.sql_query import query_rows


@flowprov.task
def double(x: int) -> int:
    """Return twice a number."""
    return 2 * x


def command(*arguments: str) -> str:
    """Return what ``flowprov`` prints."""
    flowprov_command = Path(sys.executable).with_name("flowprov")
    strictly = [sys.executable, "-W", "error", str(flowprov_command), *arguments]
    done = subprocess.run(strictly, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


with flowprov.campaign("bare"), flowprov.workflow("W"):
    loop = flowprov.Loop(3)
    for i in loop:
        loop.end_iter({"doubled": double(i)})

rows = flowprov.read_buffer(return_df=False)
assert len(rows) == 7, rows
found = query_rows("SELECT name, status FROM runs")[1]
assert found == [("W", "FINISHED")], found
assert "whence" in command("--help")
assert "double" in command("show")
print(f"done: {len(rows)} rows recorded, read and shown")
