"""An exception that a signal handler raises passes through flowprov, wherever it arrives.

The interpreter looks for signals at the start of a function, at a jump backward and after each call. A tracer
raises the exception of a handler at one such point of flowprov's code after the other, so that none is left
out. Real timers, and exceptions that another thread sends, are tried beside it.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.runtime import context, runtime
from tests.interrupting import Deadline, interrupted, on_alarm
from tests.support import lines, of_type, run


@flowprov.task
def add(x: float, y: float = 1.0) -> float:
    return x + y


@flowprov.task
def nested(x: float) -> float:
    return add(x) + add(x, 2.0)


@flowprov.task(tags=["g"])
def produce(n: int) -> Iterator[int]:
    yield from range(n)


def give_to_task() -> None:
    with flowprov.task_scope("step", used={"a": [1, {"b": 2}]}) as step:
        step.set_generated(x=1.5, y="text")
        step.add_tags("t")
        step.custom_metadata["m"] = {1, 2}


def iterate() -> None:
    loop = flowprov.Loop(2)
    for i in loop:
        loop.end_iter(i=i)
    for _ in flowprov.Loop(["a"], name="letters"):
        add(1)


def fail() -> None:
    with pytest.raises(ZeroDivisionError):
        divide()


@flowprov.task
def divide() -> float:
    return 1 / 0


ACTIONS: dict[str, Callable[[], Any]] = {
    "call": lambda: add(1.0),
    "call that encodes objects": lambda: add(complex(1, 2)),  # type: ignore[arg-type]
    "nested calls": lambda: nested(1.0),
    "generator": lambda: list(produce(2)),
    "task_scope": give_to_task,
    "loops": iterate,
    "call that raises": fail,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_the_exception_of_a_handler_passes_on_from_every_point(buffer: Path, name: str) -> None:
    action = ACTIONS[name]
    with flowprov.workflow("w") as workflow:
        scope = context.current.get()
        journal = next(iter(runtime.get().journals()))
        action()
        position, arrived = 1, True
        while arrived:
            arrived = interrupted(action, position)
            assert context.current.get() is scope
            assert set(journal.open_scopes) == {workflow.workflow_id}
            add(1.0)  # the next task belongs to the workflow again
            position += 1
        assert position > 10
    captured, written, dropped = journal.counts()
    events = [line for line in lines(buffer) if type(line) in (records.Task, records.Workflow)]
    assert written == len(events)
    assert captured == written + sum(dropped.values())
    assert set(dropped) <= {"interrupted"}
    rows = flowprov.read_buffer(buffer, return_df=False)
    ids = [row["task_id"] for row in rows if row["task_id"]]
    assert len(ids) == len(set(ids))
    missing = {row["parent_task_id"] for row in rows} - {None, *ids}
    assert not missing, "a task whose body ran has a record"


@pytest.mark.parametrize("action", [lambda: add(1.0), lambda: list(flowprov.Loop(1))], ids=["call", "loop"])
def test_a_task_is_recorded_though_a_handler_raises_just_where_a_segment_is_full(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]
) -> None:
    def refuse(_line: bytes) -> None:
        raise ValueError("data out of range")  # as a memory map does

    def interrupt(*_arguments: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, on_alarm)
    with flowprov.workflow("w"):
        (journal,) = runtime.get().journals()
        with monkeypatch.context() as patched, pytest.raises(Deadline):
            patched.setattr(journal, "fast_append", refuse)
            patched.setattr(journal, "append_slowly", interrupt)
            action()
    signal.signal(signal.SIGALRM, before)
    assert len(of_type(lines(buffer), records.Task)) == 1
    captured, written, dropped = journal.counts()
    assert captured == written == 3  # it, and both ends of the workflow
    assert not dropped


def test_the_exception_of_a_handler_passes_on_from_a_task_scope_that_is_not_recorded(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flowprov.workflow("w"):
        scope = context.current.get()
        monkeypatch.setenv("FLOWPROV_DISABLED", "1")
        position = 1
        while interrupted(give_to_task, position):
            assert context.current.get() is scope
            position += 1
        monkeypatch.delenv("FLOWPROV_DISABLED")
        assert position > 10
    assert not [line for line in lines(buffer) if type(line) is records.Task]


@pytest.mark.parametrize("error", ["Deadline", "TimeoutError", "ValueError", "MemoryError", "TypeError"])
def test_a_loop_that_waits_for_its_alarm_ends(tmp_path: Path, error: str) -> None:
    program = f"""
        import signal
        import flowprov

        class Deadline(Exception): pass

        def on_alarm(number, frame):
            raise {error}("time is up")

        @flowprov.task
        def work(x):
            flowprov.current_task().set_generated(seen=x)
            return x

        signal.signal(signal.SIGALRM, on_alarm)
        alarms = 0
        with flowprov.workflow("w"):
            # The import system takes an OSError that arrives while it looks for a file for its own.
            for i in (loop := flowprov.Loop(1)):
                work(i)
                loop.end_iter(i=i)
            for _ in range(150):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0007)
                    loop = flowprov.Loop(10**9)
                    for i in loop:
                        work(i)
                        loop.end_iter(i=i)
                except {error}:
                    alarms += 1
        print(alarms)
    """
    stdout, _ = run(program, tmp_path)
    assert stdout.strip() == "150"
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    (footer,) = of_type(lines(tmp_path), records.Footer)
    events = [line for line in lines(tmp_path) if type(line) in (records.Task, records.Workflow)]
    assert footer.written == len(events)
    assert footer.captured == footer.written + sum((footer.dropped or {}).values())
    assert set(footer.dropped or {}) <= {"interrupted"}
    missing = {row["parent_task_id"] for row in rows} - {row["task_id"] for row in rows}
    assert len(missing) <= (footer.dropped or {}).get("interrupted", 0)


def test_what_another_thread_sends_passes_on(buffer: Path) -> None:
    """``PyThreadState_SetAsyncExc`` raises a class without arguments, at any instruction."""
    arrived = []
    ready = threading.Event()

    def work() -> None:
        ready.set()
        try:
            for _ in range(1_000_000):  # far more than it takes
                add(1.0)
        except Deadline:
            arrived.append(True)

    with flowprov.workflow("w"):
        for _ in range(100):
            ready.clear()
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            ready.wait()
            for _ in range(1000):
                if ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Deadline)
                ):
                    break
            thread.join(20)
            assert not thread.is_alive(), "the exception was kept"
    assert len(arrived) == 100


class RaisingRepr:
    """A value whose repr raises."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def __repr__(self) -> str:
        raise self._error


class RaisingAttribute:
    """A value that looks like an array and raises whatever is read of it."""

    shape = dtype = 1

    def __getattribute__(self, name: str) -> Any:
        raise MemoryError


VALUES: dict[str, Callable[[], Any]] = {
    "no memory": lambda: RaisingRepr(MemoryError),
    "no stack": lambda: RaisingRepr(RecursionError),
    "no time": lambda: RaisingRepr(TimeoutError),
    "attributes": RaisingAttribute,
}


@flowprov.task
def take(value: Any) -> int:
    return id(value)


@pytest.mark.parametrize("name", VALUES)
def test_what_a_value_raises_while_it_is_read_stays_inside(buffer: Path, name: str) -> None:
    with flowprov.workflow("w"):
        take(VALUES[name]())
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert rows[-1]["status"] == "FINISHED"
