"""What the tests have Dask workers do; imported there by name."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

from distributed import Event, get_client, secede

import flowprov
from flowprov.capture.dask.fetch import worker


def add(x: int, y: int = 2) -> int:
    """Add two numbers."""
    return x + y


def total(items: list[int], *more: int, **named: int) -> dict[str, int]:
    """Add many numbers, and give the sum by name."""
    return {"total": sum(items) + sum(more) + sum(named.values())}


def fail(message: str) -> None:
    """Raise."""
    raise ValueError(message)


class Unpicklable(Exception):  # noqa: N818 - what it is matters here
    """An exception that pickle cannot carry."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_unpicklably() -> None:
    """Raise what Dask cannot send as it is."""
    raise Unpicklable("one", "two")


def hold(started: str, go: str) -> str:
    """Say that it started, and wait for a word to end."""
    Event(started).set()
    Event(go).wait()
    return "held"


def state_of(key: str, dask_worker: Any) -> str | None:
    """Tell in which state a worker has a task."""
    state = dask_worker.state.tasks.get(key)
    return None if state is None else str(state.state)


def where_am_i() -> dict[str, Any]:
    """Tell what is current."""
    task, workflow = flowprov.current_task(), flowprov.current_workflow()
    return {
        "task": task and task.task_id,
        "workflow": workflow and workflow.workflow_id,
        "pid": os.getpid(),
    }


async def where_is_a_coroutine() -> dict[str, Any]:
    """Tell what is current in a coroutine, and in an asyncio task that it starts."""
    await asyncio.sleep(0)
    here = where_am_i()
    here["inside"] = await asyncio.create_task(_step_of_a_coroutine())
    return here


async def _step_of_a_coroutine() -> dict[str, Any]:
    return where_am_i()


@flowprov.task
def square(number: int) -> int:
    """Square a number, as a task of its own."""
    return number * number


def work(rounds: int) -> int:
    """Do steps that flowprov records."""
    done = 0
    for number in flowprov.Loop(range(rounds), name="round", item_name="number"):
        done += square(number)
    handle = flowprov.current_task()
    if handle is not None:
        handle.set_generated(rounds=rounds)
        handle.add_tags("worked")
        handle.custom_metadata["kind"] = "test"
    return done


def fail_in_a_loop() -> None:
    """Raise inside a loop."""
    for _ in flowprov.Loop(range(3), name="round"):
        fail("in the loop")


def launch(number: int) -> int:
    """Launch another task from inside this one."""
    return int(get_client().submit(add, number, pure=False).result())


def launch_inside_a_scope(number: int) -> int:
    """Launch another task from inside a step of this one."""
    with flowprov.task_scope("launching"):
        return launch(number)


def secede_inside_a_scope(started: str, go: str) -> None:
    """Give the worker's slot to the next task while a scope is open."""
    with flowprov.task_scope("seceding"):
        secede()
        hold(started, go)


def work_in_a_thread() -> None:
    """Have a thread do a step."""
    thread = threading.Thread(target=square, args=(3,))
    thread.start()
    thread.join()


def die_once(marker: str) -> str:
    """Kill the worker at the first call."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def launch_in_a_thread(number: int) -> None:
    """Launch another task from a thread of this one."""
    client = get_client()
    thread = threading.Thread(target=lambda: client.submit(add, number, pure=False).result())
    thread.start()
    thread.join()


def fail_once(marker: str) -> str:
    """Raise at the first call."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        fail("the first time")
    return "done"


def double(value: Any) -> Any:
    """Double a number, or each of an array."""
    return value * 2


def is_small(number: int) -> bool:
    """Tell small numbers."""
    return number < 3


def with_double(table: Any) -> Any:
    """Add a column."""
    return table.assign(z=table.x * 2)


def x_of(row: Any) -> Any:
    """Give a field."""
    return row.x


def pair(number: int) -> tuple[int, int]:
    """Give two numbers."""
    return number, number + 1


def write(records: int) -> None:
    """Record much."""
    for number in range(records):
        with flowprov.task_scope("written", used={"text": "x" * 300, "number": number}):
            pass


def our_threads() -> list[str]:
    """Name the threads of ours that are here."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("flowprov"))


def break_handing() -> None:
    """Have what hands journals over raise."""
    worker._own = lambda _: 1 / 0  # type: ignore[assignment,return-value]


def operations(dask_worker: Any) -> list[str]:
    """Name what was added to what a worker answers."""
    return [name for name in dask_worker.handlers if name.startswith("flowprov")]
