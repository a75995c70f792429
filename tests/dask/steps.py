"""Functions that Dask workers run in the tests; workers import them by name."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

from distributed import Event, get_client, secede

import flowprov
from flowprov.capture.dask import current_task
from flowprov.capture.dask.fetch import worker


def add(x: int, y: int = 2) -> int:
    """Add two numbers."""
    return x + y


def total(items: list[int], *more: int, **named: int) -> dict[str, int]:
    """Add many numbers, and return the sum by name."""
    return {"total": sum(items) + sum(more) + sum(named.values())}


def fit(lr: float, marker: str | None = None) -> None:
    """Train, unless the learning rate is wrong; at the first call with a marker, the memory is full."""
    if lr < 0:
        raise ValueError("lr is below zero")
    if marker is not None and not Path(marker).exists():
        Path(marker).touch()
        raise MemoryError
    for _ in flowprov.EpochLoop(1):
        flowprov.log_metrics(loss=lr)


def fail(message: str) -> None:
    """Raise ValueError."""
    raise ValueError(message)


class Unpicklable(Exception):  # noqa: N818 - its name says what it is
    """An exception that pickle cannot carry."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def fail_unpicklably() -> None:
    """Raise an exception that Dask cannot send as it is."""
    raise Unpicklable("one", "two")


def hold(started: str, go: str) -> str:
    """Set one event, and wait for another."""
    Event(started).set()
    Event(go).wait()
    return "held"


def state_of(key: str, dask_worker: Any) -> str | None:
    """Return the state of a task in a worker."""
    state = dask_worker.state.tasks.get(key)
    return None if state is None else str(state.state)


def where_am_i() -> dict[str, Any]:
    """Return the ids of the current task and workflow."""
    task, workflow = flowprov.current_task(), flowprov.current_workflow()
    return {
        "task": task and task.task_id,
        "workflow": workflow and workflow.workflow_id,
        "pid": os.getpid(),
    }


async def where_is_a_coroutine() -> dict[str, Any]:
    """Return what is current in a coroutine, and in an asyncio task that it starts."""
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
    """Run tasks that flowprov records."""
    total = 0
    for number in flowprov.Loop(range(rounds), name="round", item_name="number"):
        total += square(number)
    handle = flowprov.current_task()
    if handle is not None:
        handle.set_generated(rounds=rounds)
        handle.add_tags("worked")
        handle.custom_metadata["kind"] = "test"
    return total


def fail_in_a_loop() -> None:
    """Raise inside a loop."""
    for _ in flowprov.Loop(range(3), name="round"):
        fail("in the loop")


def raise_in_a_loop(error: Exception) -> None:
    """Raise an exception inside a loop."""
    for _ in flowprov.Loop(range(3), name="round"):
        raise error


def launch(number: int) -> int:
    """Submit another task from inside this one."""
    return int(get_client().submit(add, number, pure=False).result())


def launch_inside_a_scope(number: int) -> int:
    """Submit another task from inside a task_scope of this one."""
    with flowprov.task_scope("launching"):
        return launch(number)


def secede_inside_a_scope(started: str, go: str) -> None:
    """Secede while a scope is open, so that the worker starts its next task."""
    with flowprov.task_scope("seceding"):
        secede()
        hold(started, go)


def work_in_a_thread() -> None:
    """Run a recorded task in a thread."""
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
    """Submit another task from a thread of this one."""
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
    """Whether a number is small."""
    return number < 3


def with_double(table: Any) -> Any:
    """Add a column."""
    return table.assign(z=table.x * 2)


def x_of(row: Any) -> Any:
    """Return a field of a row."""
    return row.x


def pair(number: int) -> tuple[int, int]:
    """Return two numbers."""
    return number, number + 1


def write(records: int) -> None:
    """Write many records."""
    for number in range(records):
        with flowprov.task_scope("written", used={"text": "x" * 300, "number": number}):
            pass


def our_threads() -> list[str]:
    """List the names of flowprov's threads in this process."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("flowprov"))


def break_fetching() -> None:
    """Make the function that sends journals raise."""
    worker._journals_of_campaign = lambda _: 1 / 0  # type: ignore[assignment,return-value]


def operations(dask_worker: Any) -> list[str]:
    """List the operations that flowprov added to a worker."""
    return [name for name in dask_worker.handlers if name.startswith("flowprov")]


def kept_actors(dask_worker: Any) -> int:
    """Count the actors whose tasks flowprov keeps in a worker."""
    return len(current_task.executions_of(dask_worker).actors)


def live_actors(dask_worker: Any) -> int:
    """Count the actors of a worker."""
    return len(dask_worker.state.actors)


def replaced(dask_worker: Any) -> list[str]:
    """List what flowprov replaced in a worker."""
    handlers = [name for name, handler in dask_worker.handlers.items() if hasattr(handler, "_flowprov")]
    return handlers + [name for name in vars(dask_worker.executors["actor"]) if name == "submit"]


def write_artifact(path: str, text: str) -> Any:
    Path(path).write_text(text)
    return flowprov.log_artifact(path)


def read_artifact(artifact: Any) -> str | None:
    return flowprov.use_artifact(artifact).digest
