"""Tests that take minutes: many events, and many killed processes. `make soak` runs them."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import flowprov
from tests.support import run, start, tasks

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

_TEN_MILLION = """
    import gc, os
    import flowprov
    from flowprov.runtime import runtime

    def resident():
        gc.collect()
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        # The kernel can take back pages of the journal; memory of the heap is ours.
        return int(fields["RssAnon"].split()[0])

    @flowprov.task
    def step(number, factor=0.5):
        return number * factor

    with flowprov.workflow("long"):
        loop = flowprov.Loop(5_000_000)
        for number in loop:
            step(number)
            loop.end_iter({"loss": 0.5})
            if number == 500_000:
                early = resident()
        late = resident()
    captured, written, dropped = runtime.get().journals()[0].counts()
    print(early, late, captured, written, dropped)
"""


def test_memory_is_flat_over_ten_million_events(tmp_path: Path) -> None:
    printed, _ = run(_TEN_MILLION, tmp_path, env={"FLOWPROV__JOURNAL__HEARTBEAT": "1"}, timeout=1500)
    early, late, captured, written, dropped = printed.split()
    assert int(late) - int(early) < 2_000, "kB more after nine million further events"
    assert (captured, written, dropped) == ("10000002", "10000002", "{}")


_WORKING = """
    import os
    import flowprov

    @flowprov.task
    def step(number, text):
        return {"number": number}

    with flowprov.workflow("Doomed"):
        number = 0
        while True:
            step(number, "y" * (number % 2_000))
            os.write(1, b"%d\\n" % number)
            number += 1
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, writer: str) -> None:
    moments = random.Random(writer)  # noqa: S311 - moments, no secrets
    for attempt in range(100):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with start(_WORKING, folder, env={"FLOWPROV__JOURNAL__WRITER": writer}) as process:
            assert process.stdout is not None
            process.stdout.readline()
            deadline = time.monotonic() + moments.uniform(0, 0.3)
            last = 0
            for line in process.stdout:
                last = int(line) if line.endswith("\n") else last
                if time.monotonic() > deadline:
                    process.kill()
                    break
            for line in process.stdout:
                last = int(line) if line.endswith("\n") else last
        kept = [task.used["number"] for task in tasks(folder) if task.used]
        assert kept == list(range(len(kept)))
        assert last < len(kept) <= last + 2
        rows = flowprov.read_buffer(folder / "flowprov_buffer", return_df=False)
        assert [row["status"] for row in rows if row["type"] == "workflow"] == ["INTERRUPTED"]
