"""Which workflow a thread or a coroutine joins that has no context of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.runtime import runtime
from tests.support import run


@flowprov.task
def step(name: str) -> str:
    return name


def _tree(folder: Path) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return the parent of each workflow, and the workflow of each step, by their names."""
    rows = flowprov.read_buffer(folder, return_df=False, merge=True)
    workflows = {row["workflow_id"]: row for row in rows if row["type"] == "workflow"}
    parents = {
        row["name"]: row["parent_workflow_id"] and workflows[row["parent_workflow_id"]]["name"]
        for row in workflows.values()
    }
    steps = {
        row["used"]["name"]: workflows[row["workflow_id"]]["name"] for row in rows if row["type"] == "task"
    }
    return parents, steps


def _trial(name: str, meeting: threading.Barrier) -> None:
    with flowprov.workflow(name):
        meeting.wait()  # all trials are open
        step(f"step of {name}")
        meeting.wait()


def _in_pool(names: list[str]) -> None:
    meeting = threading.Barrier(len(names))
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: _trial(name, meeting), names))


def _in_threads(names: list[str]) -> None:
    meeting = threading.Barrier(len(names))
    threads = [threading.Thread(target=_trial, args=(name, meeting)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _in_coroutines(names: list[str]) -> None:
    async def trial(name: str, meeting: asyncio.Event, arrived: list[str]) -> None:
        with flowprov.workflow(name):
            arrived.append(name)
            if len(arrived) == len(names):
                meeting.set()
            await meeting.wait()
            step(f"step of {name}")

    async def study() -> None:
        meeting, arrived = asyncio.Event(), list[str]()
        await asyncio.gather(*(trial(name, meeting, arrived) for name in names))

    asyncio.run(study())


def _with_start_and_stop(names: list[str]) -> None:
    meeting = threading.Barrier(len(names))

    def trial(name: str) -> None:
        opened = flowprov.workflow(name).start()
        meeting.wait()
        step(f"step of {name}")
        meeting.wait()
        opened.stop()

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(trial, names))


WAYS = [_in_pool, _in_threads, _in_coroutines, _with_start_and_stop]


@pytest.mark.parametrize("open_all", WAYS)
def test_workflows_that_are_open_beside_each_other_have_no_parent(
    buffer: Path, open_all: Callable[[list[str]], None]
) -> None:
    open_all(["a", "b", "c"])
    parents, steps = _tree(buffer)
    assert parents == {"a": None, "b": None, "c": None}
    assert steps == {f"step of {name}": name for name in "abc"}


@pytest.mark.parametrize("open_all", WAYS)
def test_they_are_children_of_the_workflow_that_was_open_before(
    buffer: Path, open_all: Callable[[list[str]], None]
) -> None:
    with flowprov.workflow("study"):
        open_all(["a", "b"])
    parents, steps = _tree(buffer)
    assert parents == {"study": None, "a": "study", "b": "study"}
    assert steps == {"step of a": "a", "step of b": "b"}


def test_a_workflow_inside_a_threads_own_is_its_child(buffer: Path) -> None:
    meeting = threading.Barrier(2)

    def trial(name: str) -> None:
        with flowprov.workflow(name):
            meeting.wait()
            with flowprov.workflow(f"part of {name}"):
                meeting.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(trial, ["a", "b"]))
    parents, _ = _tree(buffer)
    assert parents == {"a": None, "b": None, "part of a": "a", "part of b": "b"}


def _while_another_thread_has_a_workflow(act: Callable[[], None]) -> None:
    opened, done = threading.Event(), threading.Event()

    def hold() -> None:
        with flowprov.workflow("another thread's"):
            opened.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    opened.wait(60)
    helper = threading.Thread(target=act)
    helper.start()
    helper.join()
    done.set()
    holder.join()


def test_a_step_of_a_thread_without_a_workflow_does_not_join_that_of_another_thread(buffer: Path) -> None:
    _while_another_thread_has_a_workflow(lambda: (step("first"), step("second")))  # type: ignore[arg-type]
    runtime.shutdown()
    parents, steps = _tree(buffer)
    implicit = steps["first"]
    assert steps == {"first": implicit, "second": implicit}
    assert parents == {implicit: None, "another thread's": None}


def test_a_step_of_a_thread_joins_what_was_open_before_any_thread_opened_one(buffer: Path) -> None:
    with flowprov.workflow("program"):
        _while_another_thread_has_a_workflow(lambda: step("loose"))  # type: ignore[arg-type]
    parents, steps = _tree(buffer)
    assert steps == {"loose": "program"}
    assert parents == {"program": None, "another thread's": "program"}


def test_what_the_main_thread_opened_meanwhile_is_its_own(buffer: Path) -> None:
    with flowprov.workflow("program"):

        def while_open() -> None:
            step("loose")

        opened, done = threading.Event(), threading.Event()

        def hold() -> None:
            with flowprov.workflow("thread's"):
                opened.set()
                done.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        opened.wait(60)
        with flowprov.workflow("report"):
            step("of report")
            helper = threading.Thread(target=while_open)
            helper.start()
            helper.join()
        done.set()
        holder.join()
    parents, steps = _tree(buffer)
    assert parents == {"program": None, "thread's": "program", "report": "program"}
    assert steps == {"of report": "report", "loose": "program"}


def test_a_workflow_that_a_finished_coroutine_left_open_is_the_programs(buffer: Path) -> None:
    opened: list[Any] = []

    async def cell() -> None:
        opened.append(flowprov.workflow("notebook").start())

    async def next_cell() -> None:
        step("next cell")

    asyncio.run(cell())
    asyncio.run(next_cell())
    opened[0].stop()
    assert _tree(buffer)[1] == {"next cell": "notebook"}


def test_trials_of_optuna_in_threads_are_siblings(tmp_path: Path) -> None:
    code = """
        import threading
        import flowprov, optuna

        meeting = threading.Barrier(2)

        @flowprov.task
        def step(name): pass

        def objective(trial):
            with flowprov.workflow(f"trial {trial.number}"):
                meeting.wait(60)
                step(f"step of trial {trial.number}")
                meeting.wait(60)
            return trial.suggest_float("x", 0, 1)

        with flowprov.workflow("study"):
            optuna.create_study().optimize(objective, n_trials=4, n_jobs=2)
    """
    run(code, tmp_path)
    parents, steps = _tree(tmp_path / "flowprov_buffer")
    trials = [f"trial {number}" for number in range(4)]
    assert parents == {"study": None, **dict.fromkeys(trials, "study")}
    assert steps == {f"step of {name}": name for name in trials}
