"""Scopes that ended are let go, and coroutines that share a context end for themselves."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import run

TICKS = """
    import asyncio, gc
    import flowprov

    def resident():
        gc.collect()
        with open("/proc/self/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["RssAnon"].split()[0])

    ticks = 0

    def next_tick(loop, stop):
        global ticks
        ticks += 1
        loop.call_soon(tick, loop, stop) if ticks < stop else loop.stop()

    @flowprov.task
    def in_task(loop, stop):
        next_tick(loop, stop)

    def in_scope(loop, stop):
        with flowprov.task_scope("tick"):
            next_tick(loop, stop)

    def in_both(loop, stop):
        with flowprov.task_scope("outer"):
            in_task(loop, stop)

    with flowprov.workflow("ticks"):
        for tick in (in_task, in_scope, in_both):
            held = []
            for stop in (2_000, 12_000):
                ticks = 0
                loop = asyncio.new_event_loop()
                loop.call_soon(tick, loop, stop)
                loop.run_forever()
                loop.close()
                held.append(resident())
            print(held[1] - held[0])
"""


def test_callbacks_that_schedule_themselves_hold_no_chain_of_scopes(tmp_path: Path) -> None:
    printed, _ = run(TICKS, tmp_path)
    assert max(map(int, printed.split())) < 500, "kB more after ten thousand further ticks"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task takes no context before")
@pytest.mark.parametrize("waits", [(0.02, 0.05, 0.01), (0.01, 0.02, 0.03), (0.03, 0.02, 0.01)])
@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_coroutines_that_share_a_context_end_for_themselves(
    buffer: Path, waits: tuple[float, ...], failing: int | None
) -> None:
    @flowprov.task
    async def work(number: int) -> int:
        await asyncio.sleep(waits[number])
        if number == failing:
            raise ValueError(number)
        return number

    async def main() -> None:
        shared = contextvars.copy_context()
        loop: Any = asyncio.get_running_loop()  # `context` is not known to the types of Python 3.10
        works = [loop.create_task(work(number), context=shared) for number in range(3)]
        await asyncio.gather(*works, return_exceptions=True)

    with flowprov.workflow("shared"):
        asyncio.run(main())
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["activity_id"] == "work"]
    statuses = {row["used"]["number"]: row["status"] for row in rows}
    assert statuses == {number: "ERROR" if number == failing else "FINISHED" for number in range(3)}
