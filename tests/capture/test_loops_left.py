"""``break`` out of a loop leaves the program's own iterator as a plain ``for`` leaves it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.capture.capture_states import STATES, capture_in

LOOPS: dict[str, Callable[..., Any]] = {
    "plain for": lambda items, **_: items,
    "Loop": flowprov.Loop,
    "EpochLoop": flowprov.EpochLoop,
    "BatchLoop": flowprov.BatchLoop,
}


def numbers(log: list[str]) -> Iterator[int]:
    try:
        yield from range(6)
    finally:
        log.append("closed")


class Reader:
    """An iterator of the program that can be closed."""

    def __init__(self) -> None:
        self.items = iter(range(6))
        self.closed = 0

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> int:
        return next(self.items)

    def close(self) -> None:
        """Count that somebody closed it."""
        self.closed += 1


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_program_goes_on_reading_its_generator_after_a_break(buffer: Path, loop: str, state: str) -> None:
    log: list[str] = []
    source = numbers(log)
    with capture_in(state, buffer) as options:
        for item in LOOPS[loop](source, **options):
            if item == 1:
                break
        assert (next(source), log) == (2, [])
        with contextlib.suppress(ValueError):
            for _ in LOOPS[loop](source, **options):
                raise ValueError
        assert (list(source), log) == ([4, 5], ["closed"])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_break_closes_no_iterator_of_the_program(buffer: Path, loop: str, state: str) -> None:
    reader = Reader()
    with capture_in(state, buffer) as options:

        def first() -> Any:
            for item in LOOPS[loop](reader, **options):
                return item
            return None

        assert first() == 0
        assert first() == 1
    assert (list(reader), reader.closed) == ([2, 3, 4, 5], 0)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_generator_that_only_the_loop_holds_is_closed_by_a_break(
    buffer: Path, loop: str, state: str
) -> None:
    log: list[str] = []
    with capture_in(state, buffer) as options:
        for _ in LOOPS[loop](numbers(log), **options):
            break
        assert log == ["closed"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_captured_generator_that_is_left_can_be_read_on(buffer: Path, loop: str, state: str) -> None:
    @flowprov.task
    def stream() -> Iterator[int]:
        yield from range(4)

    with capture_in(state, buffer) as options:
        source = stream()
        for _ in LOOPS[loop](source, **options):
            break
        assert list(source) == [1, 2, 3]
