"""``@workflow`` on generators: open from the first step to the last, and current only while the body runs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import types
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.runtime import context
from tests.support import lines, of_type, only, tasks

cloudpickle = pytest.importorskip("cloudpickle")


@flowprov.task
def step(n: int = 0) -> int:
    return n


@flowprov.workflow("stream")
def stream(n: int) -> Generator[int, Any, str]:
    """Yield numbers, and take what is sent."""
    for i in range(n):
        step(i)
        sent = yield i
        if sent is not None:
            step(sent)
    return "done"


@flowprov.workflow("stream")
async def async_stream(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        step(i)
        yield i


def _collect(n: int) -> list[int]:
    return list(stream(n))


def _collect_async(n: int) -> list[int]:
    async def collect() -> list[int]:
        return [i async for i in async_stream(n)]

    return asyncio.run(collect())


def _workflows(buffer: Path, name: str = "stream") -> list[dict[str, Any]]:
    return [row for row in flowprov.read_buffer(buffer, return_df=False) if row["name"] == name]


def _workflow_of_tasks(buffer: Path) -> dict[str, list[Any]]:
    """Return the inputs of the steps by the name of their workflow."""
    names = {wf.workflow_id: wf.name for wf in of_type(lines(buffer), records.Workflow) if wf.name}
    steps: dict[str, list[Any]] = {}
    for task in tasks(buffer):
        if task.activity_id == "step":
            steps.setdefault(names[task.workflow_id], []).append((task.used or {})["n"])
    return steps


@pytest.mark.parametrize("collect", [_collect, _collect_async])
def test_what_the_body_does_belongs_to_the_workflow(buffer: Path, collect: Any) -> None:
    assert collect(3) == [0, 1, 2]
    row = only(_workflows(buffer))
    assert (row["status"], row["error"]) == ("FINISHED", None)
    assert _workflow_of_tasks(buffer) == {"stream": [0, 1, 2]}
    last = max(task.ended_at or 0 for task in tasks(buffer))
    assert only([wf for wf in of_type(lines(buffer), records.Workflow) if wf.ended_at]).ended_at >= last


def test_one_that_types_coroutine_marked_is_awaited(buffer: Path) -> None:
    @flowprov.workflow("stream")
    @types.coroutine
    def fetch(n: int) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return step(n)

    async def main() -> int:
        return await fetch(7)

    assert asyncio.run(main()) == 7
    assert _workflow_of_tasks(buffer) == {"stream": [7]}


def test_it_opens_at_the_first_step(buffer: Path) -> None:
    generator = stream(2)
    assert not buffer.exists()
    assert next(generator) == 0
    assert [wf.status for wf in of_type(lines(buffer), records.Workflow)] == ["RUNNING"]
    assert list(generator) == [1]
    assert _workflows(buffer)[0]["status"] == "FINISHED"


@pytest.mark.parametrize("enclosing", ["consumer", None])
def test_what_the_consumer_does_belongs_to_the_consumer(buffer: Path, enclosing: str | None) -> None:
    with flowprov.workflow(enclosing) if enclosing else contextlib.nullcontext():
        for i in stream(2):
            step(10 + i)
        step(20)
    steps = _workflow_of_tasks(buffer)
    assert steps.pop("stream") == [0, 1]
    assert list(steps.values()) == [[10, 11, 20]]
    parents = [row["workflow_id"] for row in _workflows(buffer, "consumer")] or [None]
    assert [row["parent_workflow_id"] for row in _workflows(buffer)] == parents
    assert not (enclosing and context.open_workflows)


def test_what_the_consumer_of_an_asynchronous_one_does_belongs_to_the_consumer(buffer: Path) -> None:
    async def consume() -> None:
        with flowprov.workflow("consumer"):
            async for i in async_stream(2):
                step(10 + i)

    asyncio.run(consume())
    assert _workflow_of_tasks(buffer) == {"stream": [0, 1], "consumer": [10, 11]}


def test_two_that_take_turns_stay_apart(buffer: Path) -> None:
    @flowprov.workflow("other")
    def other() -> Iterator[int]:
        for i in (100, 200):
            with flowprov.task_scope("inner"):
                step(i)
                yield i

    assert list(zip(stream(3), other(), strict=False)) == [(0, 100), (1, 200)]
    assert _workflow_of_tasks(buffer) == {"stream": [0, 1, 2], "other": [100, 200]}
    assert {row["status"] for row in flowprov.read_buffer(buffer, return_df=False)} == {"FINISHED"}


def test_sent_values_and_the_result_pass_through(buffer: Path) -> None:
    generator = stream(2)
    assert next(generator) == 0
    assert generator.send(7) == 1
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert stopped.value.value == "done"
    assert _workflow_of_tasks(buffer) == {"stream": [0, 7, 1]}


def test_one_that_is_left_early_is_finished(buffer: Path) -> None:
    for i in stream(10):
        if i == 1:
            break
    row = only(_workflows(buffer))
    assert (row["status"], row["custom_metadata"]) == ("FINISHED", {"left_early": True})


def test_an_asynchronous_one_that_is_left_early_is_finished(buffer: Path) -> None:
    async def consume() -> None:
        async with contextlib.aclosing(async_stream(10)) as numbers:  # type: ignore[type-var]
            async for i in numbers:
                if i == 1:
                    break

    asyncio.run(consume())
    row = only(_workflows(buffer))
    assert (row["status"], row["custom_metadata"]) == ("FINISHED", {"left_early": True})


def test_an_exception_in_the_body_is_recorded_and_passes_through(buffer: Path) -> None:
    @flowprov.workflow("stream")
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("bad")

    @flowprov.workflow("stream")
    async def failing_async() -> AsyncIterator[int]:
        yield 1
        raise ValueError("bad")

    async def consume() -> None:
        async for _ in failing_async():
            pass

    with pytest.raises(ValueError, match="bad"):
        list(failing())
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(consume())
    assert [(row["status"], row["error"]["message"]) for row in _workflows(buffer)] == [("ERROR", "bad")] * 2


def test_an_exception_that_is_thrown_in_reaches_the_body(buffer: Path) -> None:
    handled: list[str] = []

    @flowprov.workflow("stream")
    def session() -> Iterator[str]:
        try:
            yield "open"
        except KeyError:
            handled.append("sync")

    @flowprov.workflow("stream")
    async def async_session() -> AsyncIterator[str]:
        try:
            yield "open"
        except KeyError:
            handled.append("async")

    @flowprov.task
    async def task_session() -> AsyncIterator[str]:
        try:
            yield "open"
        except KeyError:
            handled.append("task")

    async def use() -> None:
        for function in (async_session, task_session):
            async with contextlib.asynccontextmanager(function)() as state:
                assert state == "open"
                raise KeyError

    with contextlib.contextmanager(session)():
        raise KeyError
    with flowprov.workflow("W"):
        asyncio.run(use())
    assert handled == ["sync", "async", "task"]
    assert {row["status"] for row in flowprov.read_buffer(buffer, return_df=False)} == {"FINISHED"}


def test_the_kind_of_the_function_is_kept(buffer: Path) -> None:
    assert inspect.isgeneratorfunction(stream)
    assert inspect.isasyncgenfunction(async_stream)
    assert stream.__doc__ == "Yield numbers, and take what is sent."
    assert list(cloudpickle.loads(cloudpickle.dumps(stream))(2)) == [0, 1]


def test_without_capture_the_generators_are_as_before(buffer: Path) -> None:
    flowprov.configure(instrumentation={"enabled": False}, journal={"path": str(buffer)})
    assert _collect(2) == [0, 1]
    assert _collect_async(2) == [0, 1]
    assert not buffer.exists()


def test_methods_of_every_kind_are_decorated(buffer: Path) -> None:
    class Pipeline:
        """Has workflows of every kind."""

        @flowprov.workflow()
        def plain(self) -> str:
            """Return something."""
            return type(self).__name__

        @flowprov.workflow()
        @staticmethod
        def static(n: int) -> int:
            """Return a number."""
            return n

        @flowprov.workflow()
        @classmethod
        def of_class(cls) -> str:
            """Return the name of the class."""
            return cls.__name__

        @flowprov.workflow()
        def rows(self) -> Iterator[str]:
            """Yield something."""
            yield type(self).__name__

    pipeline = Pipeline()
    assert pipeline.plain() == pipeline.of_class() == Pipeline.of_class() == "Pipeline"
    assert pipeline.static(3) == Pipeline.static(3) == 3
    assert list(pipeline.rows()) == ["Pipeline"]
    names = [wf.name for wf in of_type(lines(buffer), records.Workflow) if wf.status == "RUNNING"]
    assert names == ["plain", "of_class", "of_class", "static", "static", "rows"]
