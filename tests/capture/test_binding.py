"""``bind`` of functions whose body runs later: of coroutines and generators."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import types
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import only, tasks


@flowprov.task
def _counted(n: int = 1) -> int:
    return n


@types.coroutine
def _marked(n: int) -> Generator[Any, Any, int]:
    yield from asyncio.sleep(0).__await__()
    return _counted() + n


async def _coroutine(n: int) -> int:
    await asyncio.sleep(0)
    return _counted() + n


def _generator(n: int) -> Generator[int, None, None]:
    yield n
    _counted()


async def _async_generator(n: int) -> AsyncIterator[int]:
    await asyncio.sleep(0)
    _counted()
    yield n


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _list(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


DRIVES: dict[Callable[..., Any], Callable[[Any], Any]] = {
    _marked: lambda awaitable: asyncio.run(_await(awaitable)),
    _coroutine: asyncio.run,
    _generator: list,
    _async_generator: lambda items: asyncio.run(_list(items)),
}


@pytest.mark.parametrize("function", DRIVES)
def test_what_a_bound_function_creates_runs_in_the_task(buffer: Path, function: Callable[..., Any]) -> None:
    with flowprov.workflow("W"):
        with flowprov.task_scope("parent") as parent:
            bound = flowprov.bind(function)
        with flowprov.task_scope("caller"):
            DRIVES[function](bound(1))
            current = flowprov.current_task()
            assert current is not None
            assert current.task_id != parent.task_id
    row = only([task for task in tasks(buffer) if task.activity_id == "_counted"])
    assert row.parent_task_id == parent.task_id


@pytest.mark.parametrize("function", DRIVES)
def test_a_bound_function_is_of_the_kind_of_the_function(buffer: Path, function: Callable[..., Any]) -> None:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    with flowprov.workflow("W"):
        bound = flowprov.bind(function)
        assert bound is not function
        for one in (function, functools.partial(function, 1), types.MethodType(function, 1)):
            again = flowprov.bind(one)
            assert [is_kind(again) for is_kind in kinds] == [is_kind(one) for is_kind in kinds]
        assert inspect.signature(bound) == inspect.signature(function)
        assert pickle.loads(pickle.dumps(bound)).func is function


def test_between_the_steps_of_what_is_bound_the_task_of_the_caller_is_current(buffer: Path) -> None:
    with flowprov.workflow("W"):
        with flowprov.task_scope("parent"):
            paused = flowprov.bind(_coroutine)(1)
            generator = flowprov.bind(_generator)(1)
        with flowprov.task_scope("caller") as caller:
            paused.send(None)
            next(generator)
            _counted()
            paused.close()
            generator.close()
    row = only([task for task in tasks(buffer) if task.activity_id == "_counted"])
    assert row.parent_task_id == caller.task_id
