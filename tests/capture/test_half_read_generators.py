"""Half-read generators that the garbage collector closes: no crash, nothing lost, nothing swallowed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.runtime import context
from tests.support import run, tasks

SOURCES = {
    "task": """
        @flowprov.task
        def read(n):
            try:
                yield from range(n)
            finally:
                step(n)
    """,
    "workflow": """
        @flowprov.workflow("inner")
        def read(n):
            yield from range(n)
    """,
    "asynchronous": """
        @flowprov.task
        async def read_asynchronously(n):
            for i in range(n):
                yield i

        class Steps:
            def __init__(self, generator):
                self.generator = generator
            def __next__(self):
                try:
                    self.generator.__anext__().send(None)
                except StopIteration:
                    pass

        def read(n):
            return Steps(read_asynchronously(n))
    """,
    "calls of a plain one": """
        def read(n):
            try:
                yield from range(n)
            finally:
                step(n)
    """,
    "scope in a plain one": """
        def read(n):
            for i in range(n):
                with flowprov.task_scope("s"):
                    yield i
    """,
    "loop": """
        def read(n):
            return iter(flowprov.Loop(n))
    """,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("threshold", [700, pytest.param(37, marks=pytest.mark.soak)])
def test_thousands_of_them_in_cycles_do_not_crash_the_interpreter(
    tmp_path: Path, kind: str, threshold: int
) -> None:
    head = f"""
        import gc, sys
        import flowprov

        gc.set_threshold({threshold})

        @flowprov.task
        def step(x):
            return x

        class Node: pass
    """
    rounds = """
        with flowprov.workflow("w"):
            for i in range(4000):
                node = Node()
                node.reader, node.itself = read(3), node
                next(node.reader)
                del node
                step(i)
            gc.collect()
        print("alive")
    """
    stdout, stderr = run(head + SOURCES[kind] + rounds, tmp_path)
    assert stdout.strip() == "alive"
    assert "fault" not in stderr
    finished = [task for task in tasks(tmp_path) if task.activity_id == "step"]
    assert len(finished) >= 4000
    assert {task.status for task in tasks(tmp_path)} == {"FINISHED"}
    left = [task for task in tasks(tmp_path) if (task.custom_metadata or {}).get("left_early")]
    assert len(left) == (4000 if kind in ("task", "asynchronous", "loop") else 0) or "scope" in kind


@flowprov.task
def numbers() -> Iterator[int]:
    yield from range(10)


class Node:
    """Lies in a cycle with what it holds."""

    def __init__(self, held: Any) -> None:
        self.held, self.itself = held, self


def test_one_that_is_collected_is_recorded_as_left_early(buffer: Path) -> None:
    with flowprov.workflow("w"):
        scope = context.current.get()
        for _ in range(20):
            next(Node(numbers()).held)
        gc.collect()
        assert context.current.get() is scope
    collected = [task for task in tasks(buffer) if task.activity_id == "numbers"]
    assert len(collected) == 20
    assert all(task.custom_metadata == {"left_early": True} for task in collected)
    assert all(task.generated == {"yielded": 1} for task in collected)


def test_finalizers_of_the_program_set_and_reset_their_own_variables(buffer: Path) -> None:
    """The collector runs in the context of the program, as without flowprov."""
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    def session() -> Iterator[None]:
        token = variable.set("inside")
        try:
            yield
        finally:
            seen.append(variable.get())
            variable.reset(token)

    with flowprov.workflow("w"):
        next(Node(session()).held)
        assert variable.get() == "inside"
        gc.collect()
    assert (seen, variable.get()) == (["inside"], "outside")


def test_the_exception_of_a_signal_handler_arrives_while_the_collector_runs(tmp_path: Path) -> None:
    """A callback in Python would swallow it: the collector calls it in the middle of a function of C."""
    program = """
        import json, signal, time
        import flowprov

        def on_alarm(number, frame):
            raise TimeoutError("time is up")

        @flowprov.task
        def parse(text):
            json.loads(text)  # one call of C, in which the collector runs many times
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                pass

        signal.signal(signal.SIGALRM, on_alarm)
        text = json.dumps([{"a": [1, 2, {"b": i}]} for i in range(100_000)])
        arrived = 0
        with flowprov.workflow("w"):
            for _ in range(5):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                try:
                    parse(text)
                except TimeoutError:
                    arrived += 1
        print(arrived)
    """
    stdout, stderr = run(program, tmp_path)
    assert (stdout.strip(), stderr) == ("5", "")


def test_the_loop_closes_an_asynchronous_one_that_lies_in_a_cycle(buffer: Path) -> None:
    closed = []

    @flowprov.task
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)  # needs the event loop
            closed.append("stream")

    async def read(generator: Any) -> None:
        await generator.__anext__()

    async def main() -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
        await read(Node(stream()).held)  # collected while the loop runs
        gc.collect()
        await read(stream())  # let go
        for _ in range(5):
            await asyncio.sleep(0)
        assert closed == ["stream"] * 2
        held = stream()  # still there when the loop ends
        await read(held)
        kept.append(held)
        return errors

    kept: list[Any] = []
    assert asyncio.run(main()) == []
    assert closed == ["stream"] * 3
    streams = [task for task in tasks(buffer) if task.activity_id == "stream"]
    assert [task.custom_metadata for task in streams] == [{"left_early": True}] * 3


def test_a_captured_context_manager_rolls_back(buffer: Path) -> None:
    log = []

    async def transaction() -> AsyncIterator[str]:
        try:
            yield "open"
        except ValueError as error:
            log.append(f"rolled back: {error}")
            raise
        else:
            log.append("committed")

    async def use(function: Any) -> None:
        manager = contextlib.asynccontextmanager(function)
        async with manager():
            pass
        with pytest.raises(ValueError, match="bad"):
            async with manager():
                raise ValueError("bad")

    for function in (flowprov.task(transaction), flowprov.workflow("t")(transaction)):
        for enabled in (True, False):
            flowprov.configure(journal={"path": str(buffer)}, instrumentation={"enabled": enabled})
            asyncio.run(use(function))
            assert log == ["committed", "rolled back: bad"]
            log.clear()


class Batch:
    """Something large."""


@pytest.mark.parametrize("capture", [lambda function: function, flowprov.task, flowprov.workflow("w")])
def test_nothing_holds_what_the_program_lets_go_of(buffer: Path, capture: Any) -> None:
    alive: list[Any] = []

    def noted(value: Any) -> Any:
        alive.append(weakref.ref(value))
        return value

    def batches(first: Batch) -> Iterator[Batch]:
        del first
        yield noted(Batch())
        yield noted(Batch())

    argument = Batch()
    alive.append(weakref.ref(argument))
    generator = capture(batches)(argument)
    del argument
    gc.disable()
    try:
        next(generator)
        assert [reference() for reference in alive] == [None, None]
        generator.send(noted(Batch()))
        assert [reference() for reference in alive] == [None] * 4
    finally:
        gc.enable()


@pytest.mark.parametrize("capture", [flowprov.task, flowprov.workflow("w")])
def test_an_exception_that_passes_through_leaves_no_cycle(buffer: Path, capture: Any) -> None:
    def failing() -> Iterator[int]:
        try:
            yield 1
        finally:
            pass

    class BadError(Exception):
        pass

    def fail() -> weakref.ref[BaseException]:
        generator = capture(failing)()
        next(generator)
        try:
            generator.throw(BadError())
        except BadError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()
