"""Scopes that ended are let go, many may be open, and coroutines that share a context end for themselves."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope
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


def test_many_open_scopes_are_looked_at_one_by_one_only_where_that_is_needed(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    current_scope = Scope.current_scope

    def count(scope: Scope) -> Scope | None:
        looks.append(scope)
        return current_scope(scope)

    with flowprov.workflow("many"):
        tasks = [flowprov.task_scope("open").start() for _ in range(1000)]
        scope = context.current.get()
        assert scope is not None
        monkeypatch.setattr(Scope, "current_scope", count)
        assert context.is_open(scope)
        assert len(looks) <= 2
        monkeypatch.undo()
        for task in tasks:
            task.stop()
    assert not context.is_open(scope)


def test_a_heartbeat_lets_other_threads_go_on_between_open_records(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    with flowprov.workflow("many"):
        tasks = [flowprov.task_scope("open").start() for _ in range(1000)]
        (journal,) = runtime.get().journals()
        monkeypatch.setattr("flowprov.journal.journal.time.sleep", pauses.append)
        journal.write_heartbeat()
        monkeypatch.undo()
        for task in tasks:
            task.stop()
    assert len(pauses) >= 4
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert sum(row["activity_id"] == "open" for row in rows) == 1000
