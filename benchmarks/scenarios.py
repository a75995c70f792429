"""What is timed: the same four programs, plain and captured, in one process.

Flows in: the functions, loops and models of one library (ours or the peer's). Flows out: one JSON object,
microseconds added per event, by scenario. Plain and captured rounds alternate; the medians are compared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

ROUNDS = 7
CALLS = {"task": 4_000, "loop": 4_000, "loop with two scalars": 4_000, "parent forward": 1_500}


def work(x: int, y: float = 2.0) -> int:  # noqa: ARG001 - an argument to record
    """Do next to nothing, so that what is added shows."""
    return x


def run_task(function: Callable[..., Any], count: int) -> None:
    """Call a function many times."""
    for number in range(count):
        function(number, y=0.5)


def run_loop(items: Iterable[int]) -> None:
    """Run through a loop."""
    for _ in items:
        pass


def run_loop_with_scalars(loop: Any) -> None:
    """Run through a loop that reports two numbers per iteration."""
    for number in loop:
        loop.end_iter({"loss": 0.25, "accuracy": number / 3})


class PlainLoop:
    """A loop as it is without capture."""

    def __init__(self, count: int) -> None:
        self._items = range(count)

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def end_iter(self, values: dict[str, Any]) -> None:
        """Take values and do nothing."""


def run_forwards(model: Any, batch: Any, count: int) -> None:
    """Call a model many times."""
    for _ in range(count):
        model(batch)


def measure(scenarios: dict[str, tuple[Callable[[int], None], Callable[[int], None]]]) -> dict[str, float]:
    """Time (plain, captured) pairs in turn; gives the microseconds that capture adds per event."""
    added = {}
    for name, (plain, captured) in scenarios.items():
        count = CALLS[name]
        plain(count // 10)
        captured(count // 10)
        differences = []
        for _ in range(ROUNDS):
            before = _seconds(plain, count)
            differences.append((_seconds(captured, count) - before) / count * 1e6)
        added[name] = statistics.median(differences)
    return added


def report(added: dict[str, float]) -> None:
    """Print what was measured as the last line of the program."""
    sys.stdout.write("\n" + json.dumps(added) + "\n")


def _seconds(function: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    function(count)
    return time.perf_counter() - start
