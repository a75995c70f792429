"""A consumer that asks for the next item before the last step begins is noticed, and no other is."""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov


@flowprov.task
def step(item: Any) -> Any:
    return item


def one_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items, the next one already fetched, as accelerate does to know the last one."""
    iterator = iter(items)
    current = next(iterator)
    for following in iterator:
        yield current
        current = following
    yield current


def three_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items from a queue that is filled first, as prefetching loaders do."""
    iterator = iter(items)
    queue = collections.deque(itertools.islice(iterator, 3))
    while queue:
        yield queue.popleft()
        queue.extend(itertools.islice(iterator, 1))


class Fetcher:
    """An iterator class that holds one item back, as Lightning does for loaders without a length."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._held = [next(self._items)]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._held:
            raise StopIteration
        current = self._held.pop()
        self._held.extend(itertools.islice(self._items, 1))
        return current


def in_order(items: Iterable[Any]) -> Iterator[Any]:
    """Yield items as a progress bar does."""
    yield from items


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "read ahead" in record.getMessage()]


@pytest.mark.parametrize("consume", [one_ahead, three_ahead, Fetcher])
@pytest.mark.parametrize("loop", [flowprov.Loop, flowprov.BatchLoop])
def test_a_consumer_that_reads_ahead_is_said_once(
    buffer: Path,
    caplog: pytest.LogCaptureFixture,
    consume: Callable[[Iterable[Any]], Iterable[Any]],
    loop: Callable[[Any], Iterable[Any]],
) -> None:
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("w"):
        for _ in range(2):
            assert list(map(step, consume(loop(range(6))))) == list(range(6))
    (message,) = warnings_of(caplog)
    assert "Put the loop around what the framework yields" in message


def test_the_loop_around_what_a_framework_yields_is_right(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("w"):
        for item in flowprov.BatchLoop(one_ahead(range(3))):
            step(item)
    assert warnings_of(caplog) == []
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["task_id"]]
    items = {row["task_id"]: row["used"]["batch"] for row in rows if row["subtype"] == "iteration"}
    steps = [row for row in rows if row["activity_id"] == "step"]
    assert [items[row["parent_task_id"]] for row in steps] == [row["used"]["item"] for row in steps]


def every_second(loop: Iterable[int]) -> None:
    for item in loop:
        if item % 2:
            step(item)


def nothing(loop: Iterable[int]) -> None:
    for _ in loop:
        pass


def through_a_progress_bar(loop: Iterable[int]) -> None:
    for item in in_order(loop):
        step(item)


def with_values_only(loop: Any) -> None:
    for item in in_order(loop):
        loop.end_iter(loss=item)
        if item > 3:
            step(item)


@pytest.mark.parametrize("body", [every_second, nothing, through_a_progress_bar, with_values_only])
def test_a_loop_that_is_consumed_in_order_is_not_suspected(
    buffer: Path, caplog: pytest.LogCaptureFixture, body: Callable[[Any], None]
) -> None:
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("w"):
        body(flowprov.BatchLoop(range(30)))
        body(flowprov.Loop(range(30)))
    assert warnings_of(caplog) == []
