"""Explicit tasks whose lives overlap: each ends when it is told to, and none ends another one."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard, records
from flowprov.runtime import context
from tests.support import lines_of_program, run, tasks


@flowprov.task
def work() -> None: ...


def _row(buffer: Path, activity: str) -> records.Task:
    (row,) = (task for task in tasks(buffer) if task.activity_id == activity)
    return row


def _parents(buffer: Path) -> dict[Any, Any]:
    """Return the activity of the parent of each task, by its own activity."""
    names: dict[Any, Any] = {task.task_id: task.activity_id for task in tasks(buffer)}
    return {task.activity_id: names.get(task.parent_task_id) for task in tasks(buffer)}


def _statuses(buffer: Path) -> dict[Any, Any]:
    return {task.activity_id: task.status for task in tasks(buffer)}


@pytest.mark.parametrize("stop_order", ["ab", "ba", "acb", "cab", "bca", "abc", "bac", "cba"])
def test_tasks_end_in_any_order(buffer: Path, stop_order: str) -> None:
    with flowprov.workflow("W"):
        opened = {name: flowprov.task_scope(name).start() for name in sorted(stop_order)}
        for name in stop_order:
            opened[name].set_generated(name=name)
            opened[name].stop()
        work()
    assert set(_statuses(buffer).values()) == {"FINISHED"}
    assert len(tasks(buffer)) == len(stop_order) + 1
    for name in stop_order:
        assert _row(buffer, name).generated == {"name": name}
        assert _row(buffer, name).custom_metadata is None
    ends = [_row(buffer, name).ended_at for name in stop_order]
    assert ends == sorted(ends, key=int)  # type: ignore[arg-type]
    assert _parents(buffer)["work"] is None
    assert context.current.get() is None
    assert guard.internal_errors() == {}


def test_what_begins_belongs_to_the_innermost_task_that_is_still_open(buffer: Path) -> None:
    with flowprov.workflow("W"):
        first = flowprov.task_scope("first").start()
        second = flowprov.task_scope("second").start()
        flowprov.task(activity_id="in second")(lambda: 1)()
        first.stop()
        flowprov.task(activity_id="still in second")(lambda: 1)()
        second.stop()
        flowprov.task(activity_id="in none")(lambda: 1)()
    assert _parents(buffer) == {
        "first": None,
        "second": "first",
        "in second": "second",
        "still in second": "second",
        "in none": None,
    }


# -- with everything else that is open -----------------------------------------------------------------------


def _a_block_and_a_started_task() -> None:
    with flowprov.task_scope("block"):
        started = flowprov.task_scope("started").start()
        work()
    started.stop()


def _a_started_task_that_ends_in_a_block() -> None:
    started = flowprov.task_scope("started").start()
    with flowprov.task_scope("block"):
        started.stop()
        work()


def _a_task_that_outlives_its_function() -> None:
    @flowprov.task(activity_id="block")
    def begin() -> flowprov.task_scope:
        return flowprov.task_scope("started").start()

    started = begin()
    work()
    started.stop()


def _a_task_over_a_part_of_a_loop() -> None:
    started = None
    for i in flowprov.Loop(4, name="block"):
        if i == 1:
            started = flowprov.task_scope("started").start()
        if i == 2 and started is not None:
            work()
            started.stop()


def _a_loop_that_is_left_inside_a_task() -> None:
    started = flowprov.task_scope("started").start()
    for _ in flowprov.Loop(4, name="block"):
        work()
        started.stop()
        break


def _a_generator_with_a_task_in_it() -> None:
    def rows() -> Iterator[int]:
        started = flowprov.task_scope("started").start()
        yield 1
        started.stop()
        yield 2

    for _ in flowprov.Loop(rows(), name="block"):
        pass
    work()


@pytest.mark.parametrize(
    "overlap",
    [
        _a_block_and_a_started_task,
        _a_started_task_that_ends_in_a_block,
        _a_task_that_outlives_its_function,
        _a_task_over_a_part_of_a_loop,
        _a_loop_that_is_left_inside_a_task,
        _a_generator_with_a_task_in_it,
    ],
)
def test_a_task_overlaps_with_anything(buffer: Path, overlap: Callable[[], None]) -> None:
    with flowprov.workflow("W"):
        overlap()
        flowprov.task(activity_id="after")(lambda: 1)()
    assert set(_statuses(buffer).values()) == {"FINISHED"}
    assert _row(buffer, "started").custom_metadata is None
    assert _row(buffer, "work").status == "FINISHED"
    assert _parents(buffer)["after"] is None
    ids = [task.task_id for task in tasks(buffer)]
    assert len(ids) == len(set(ids))
    assert {task.parent_task_id for task in tasks(buffer)} <= {None, *ids}
    assert guard.internal_errors() == {}


def test_an_exception_passes_a_started_task_by(buffer: Path) -> None:
    with flowprov.workflow("W"):
        outer = flowprov.task_scope("outer").start()
        with pytest.raises(ValueError, match="bad"), flowprov.task_scope("block"):
            inner = flowprov.task_scope("inner").start()
            raise ValueError("bad")
        work()
        inner.stop()
        outer.stop()
    assert _statuses(buffer) == {
        "outer": "FINISHED",
        "block": "ERROR",
        "inner": "FINISHED",
        "work": "FINISHED",
    }
    assert _parents(buffer)["work"] == "inner"


def test_a_task_that_fails_does_not_end_those_that_were_opened_after_it(buffer: Path) -> None:
    with flowprov.workflow("W"):
        first = flowprov.task_scope("first", custom_metadata={"kept": 1}).start()
        second = flowprov.task_scope("second").start()
        with flowprov.task_scope("block"):
            first.stop(ValueError("bad"))
            work()
        second.stop("went wrong")  # type: ignore[arg-type]
    assert _statuses(buffer) == {"first": "ERROR", "second": "ERROR", "block": "FINISHED", "work": "FINISHED"}
    row = _row(buffer, "first")
    assert row.error is not None
    assert (row.error.type, row.error.message, row.custom_metadata) == ("ValueError", "bad", {"kept": 1})


# -- threads and asyncio -------------------------------------------------------------------------------------


def test_a_task_ends_in_another_thread_than_it_began(buffer: Path) -> None:
    with flowprov.workflow("W"):
        started = flowprov.task_scope("started").start()
        thread = threading.Thread(target=started.stop)
        thread.start()
        thread.join()
        work()  # here it is still in the context
        with flowprov.task_scope("next"):
            pass
        assert flowprov.current_task() is None
    assert _statuses(buffer) == {"started": "FINISHED", "work": "FINISHED", "next": "FINISHED"}
    assert _parents(buffer) == {"started": None, "work": None, "next": None}


def test_tasks_travel_through_a_queue_from_thread_to_thread(buffer: Path) -> None:
    waiting: queue.Queue[Any] = queue.Queue()

    def finish() -> None:
        while (item := waiting.get()) is not None:
            item.set_generated(done=True)
            item.stop()

    with flowprov.workflow("W"):
        thread = threading.Thread(target=finish)
        thread.start()
        for i in range(50):
            waiting.put(flowprov.task_scope(f"item {i}").start())
        waiting.put(None)
        thread.join()
    assert sorted(_statuses(buffer)) == sorted(f"item {i}" for i in range(50))
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}
    assert all(task.generated == {"done": True} for task in tasks(buffer))
    assert guard.internal_errors() == {}


def test_tasks_of_asyncio_overlap(buffer: Path) -> None:
    async def fetch(i: int, others: list[asyncio.Event]) -> None:
        started = flowprov.task_scope(f"fetch {i}").start()
        await asyncio.sleep(0)
        others[i].set()
        await others[(i + 1) % len(others)].wait()
        flowprov.task(activity_id=f"parse {i}")(lambda: 1)()
        started.stop()

    async def main() -> None:
        events = [asyncio.Event() for _ in range(5)]
        await asyncio.gather(*(fetch(i, events) for i in range(5)))

    with flowprov.workflow("W"):
        asyncio.run(main())
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}
    parents = _parents(buffer)
    assert {name: parents[name] for name in parents if name.startswith("parse")} == {
        f"parse {i}": f"fetch {i}" for i in range(5)
    }
    assert {parents[f"fetch {i}"] for i in range(5)} == {None}


def test_a_task_of_asyncio_ends_in_another_one(buffer: Path) -> None:
    async def main() -> None:
        started = flowprov.task_scope("started").start()

        async def finish() -> None:
            started.stop()

        await asyncio.create_task(finish())
        work()

    with flowprov.workflow("W"):
        asyncio.run(main())
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}


def test_one_object_is_used_by_many_threads_at_once(buffer: Path) -> None:
    step = flowprov.task_scope("step")
    barrier = threading.Barrier(4)

    def use(i: int) -> None:
        barrier.wait(30)
        with step as handle:
            handle.set_generated(i=i)
            barrier.wait(30)
            flowprov.task(activity_id=f"in {i}")(lambda: 1)()
            barrier.wait(30)

    with flowprov.workflow("W"), ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    steps: dict[Any, Any] = {task.task_id: task for task in tasks(buffer) if task.activity_id == "step"}
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}
    assert len(steps) == 4
    for i in range(4):
        parent = steps[_row(buffer, f"in {i}").parent_task_id]
        assert (parent.generated, parent.thread) == ({"i": i}, _row(buffer, f"in {i}").thread)


# -- opened and closed oddly ---------------------------------------------------------------------------------


def test_one_object_can_nest_in_itself_and_be_used_again(buffer: Path) -> None:
    step = flowprov.task_scope("step")
    with flowprov.workflow("W"):
        with step as outer, step as inner:
            outer.set_generated(depth=0)
            inner.set_generated(depth=1)
        step.start().set_generated(depth=2)
        assert step.start() is step
        step.stop()
        step.stop()
    rows = sorted(tasks(buffer), key=lambda task: task.started_at or 0)
    assert [row.generated for row in rows] == [{"depth": 0}, {"depth": 1}, {"depth": 2}]
    assert [row.parent_task_id for row in rows] == [None, rows[0].task_id, None]


def test_a_block_that_is_not_recorded_ends_no_other_one(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"torch": {"capture_batches_at_every": 2}}
    )
    step = flowprov.task_scope("step")
    with flowprov.workflow("W"), step as outer:
        for _ in flowprov.BatchLoop(2):
            with step:
                pass
        work()
        outer.set_generated(last=True)
    outer_row = next(task for task in tasks(buffer) if task.task_id == outer.task_id)
    assert outer_row.generated == {"last": True}
    assert _row(buffer, "work").parent_task_id == outer.task_id
    assert len(tasks(buffer)) == 4


@pytest.mark.parametrize("error", [None, ValueError("bad")])
def test_a_task_that_is_never_stopped_ends_with_its_workflow(buffer: Path, error: Exception | None) -> None:
    started: list[flowprov.task_scope] = []
    with contextlib.suppress(ValueError), flowprov.workflow("W"):
        started += [flowprov.task_scope("first").start(), flowprov.task_scope("second").start()]
        started[0].set_generated(part=1)
        thread = threading.Thread(target=lambda: started.append(flowprov.task_scope("in a thread").start()))
        thread.start()
        thread.join()
        if error is not None:
            raise error
    rows = {task.activity_id: (task.status, task.custom_metadata) for task in tasks(buffer)}
    assert rows == dict.fromkeys(("first", "second", "in a thread"), ("FINISHED", {"left_early": True}))
    assert _row(buffer, "first").generated == {"part": 1}
    before = lines_of_program(buffer)
    for scope in started:
        scope.stop()
    assert lines_of_program(buffer) == before
    assert before[-1].status == ("FINISHED" if error is None else "ERROR")  # type: ignore[union-attr]


def test_a_task_that_is_open_when_the_process_is_killed_reads_as_interrupted(tmp_path: Path) -> None:
    run(
        """
        import os, signal, flowprov
        flowprov.workflow("W").start()
        first = flowprov.task_scope("first").start()
        second = flowprov.task_scope("second").start()
        second.set_generated(part=1)
        first.stop()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        status=-9,
    )
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    outcomes = {row["activity_id"]: (row["status"], row["generated"]) for row in rows}
    assert outcomes["first"] == ("FINISHED", None)
    assert outcomes["second"] == ("INTERRUPTED", {"part": 1})


def test_nothing_is_raised_without_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV_DISABLED", "1")
    first = flowprov.task_scope("first").start()
    second = flowprov.task_scope("second").start()
    first.set_generated(a=1)
    first.add_tags("a")
    first.custom_metadata["a"] = 1
    assert first.task_id is None
    first.stop()
    second.stop(ValueError("bad"))
    second.stop()
