"""What the tests of faults have Dask workers do. What ran is counted in a file, not by flowprov."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.capture.dask.task_recorder import Executions
from flowprov.journal import Journal


def tick(counter: str) -> None:
    """Count an execution; survives the death of this process."""
    descriptor = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def ticks_of(counter: Path) -> list[int]:
    """Give the process of each execution so far."""
    return [int(line) for line in counter.read_text().split()] if counter.exists() else []


def counted(number: int, counter: str) -> int:
    """Count itself, and double a number."""
    tick(counter)
    return 2 * number


def hold(number: int, counter: str, go: str) -> int:
    """Count itself, and double a number once a file is there."""
    tick(counter)
    wait_for(go)
    return 2 * number


def wait_for(path: str) -> None:
    """Wait for a file, without the scheduler."""
    while not Path(path).exists():
        time.sleep(0.005)


def devour(size: int, counter: str, go: str) -> int:
    """Take memory, and keep it."""
    tick(counter)
    taken = bytearray(size)
    taken[::4096] = b"x" * len(range(0, size, 4096))
    wait_for(go)
    return len(taken)


class Unloadable:
    """Something that cannot be pickled on its way back."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def make_unloadable(counter: str) -> Unloadable:
    """Give a result that no client can have."""
    tick(counter)
    return Unloadable()


def same(value: Any) -> Any:
    """Give a value back."""
    return value


def make(kind: Any) -> Any:
    """Make something."""
    return kind()


def take_faults() -> dict[str, int]:
    """Give the faults of ours that were counted in this process, and forget them."""
    found = guard.internal_errors()
    guard.reset()
    return found


def break_capture() -> None:
    """Have every change of state raise inside of our plugin, in this process."""

    def broken(*_: object) -> None:
        raise RuntimeError("on purpose")

    Executions._kept = Executions.start  # type: ignore[attr-defined]
    Executions.start = broken  # type: ignore[method-assign,assignment]


def mend_capture() -> dict[str, int]:
    """End that; gives the faults that were counted in this process."""
    Executions.start = Executions._kept  # type: ignore[attr-defined,method-assign]
    return take_faults()


def slow_the_disk(seconds: float) -> None:
    """Have every record take so long to write in this process, however short; 0 ends that."""
    if seconds == 0:
        Journal.append = Journal._quick  # type: ignore[attr-defined,method-assign]
        return
    quick = Journal._quick = Journal.append  # type: ignore[attr-defined]

    def slow(journal: Journal, line: bytes) -> None:
        time.sleep(seconds)
        quick(journal, line)

    Journal.append = slow  # type: ignore[method-assign,assignment]


class Poisoned:
    """Something that only the process that made it can load."""

    def __reduce__(self) -> Any:
        return _load_poisoned, (os.getpid(),)


def _load_poisoned(home: int) -> Poisoned:
    if os.getpid() != home:
        raise ImportError("no module named antidote")
    return Poisoned()
