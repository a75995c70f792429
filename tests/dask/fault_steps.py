"""Functions that Dask workers run in the tests of faults; a file counts the executions, not flowprov."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.capture.dask.task_recorder import Executions
from flowprov.journal import Journal


def tick(counter: str) -> None:
    """Count an execution. The count survives the death of this process."""
    descriptor = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def ticks_of(counter: Path) -> list[int]:
    """Return the process id of each execution so far."""
    return [int(line) for line in counter.read_text().split()] if counter.exists() else []


def counted(number: int, counter: str) -> int:
    """Count this execution, and double a number."""
    tick(counter)
    return 2 * number


def hold(number: int, counter: str, go: str) -> int:
    """Count this execution, and double a number once a file exists."""
    tick(counter)
    wait_for(go)
    return 2 * number


def wait_for(path: str) -> None:
    """Wait until a file exists; the scheduler takes no part."""
    while not Path(path).exists():
        time.sleep(0.005)


def allocate(size: int, counter: str, go: str) -> int:
    """Allocate memory, and keep it until a file exists."""
    tick(counter)
    memory = bytearray(size)
    memory[::4096] = b"x" * len(range(0, size, 4096))
    wait_for(go)
    return len(memory)


class Unloadable:
    """An object that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def make_unloadable(counter: str) -> Unloadable:
    """Return a result that cannot be sent to a client."""
    tick(counter)
    return Unloadable()


def same(value: Any) -> Any:
    """Return a value as it is."""
    return value


def make(kind: Any) -> Any:
    """Call a class."""
    return kind()


def take_internal_errors() -> dict[str, int]:
    """Return the internal errors that were counted in this process, and forget them."""
    errors = guard.internal_errors()
    guard.reset()
    return errors


def break_capture() -> None:
    """Make each start of a task raise inside the plugin, in this process."""

    def broken(*_: object) -> None:
        raise RuntimeError("on purpose")

    Executions._original_start = Executions.start  # type: ignore[attr-defined]
    Executions.start = broken  # type: ignore[method-assign,assignment]


def restore_capture() -> dict[str, int]:
    """Undo it; return the internal errors that were counted in this process."""
    Executions.start = Executions._original_start  # type: ignore[attr-defined,method-assign]
    return take_internal_errors()


def slow_the_disk(seconds: float) -> None:
    """Make the write of each record take this long in this process; 0 undoes it."""
    if seconds == 0:
        Journal.append = Journal._original_append  # type: ignore[attr-defined,method-assign]
        return
    append = Journal._original_append = Journal.append  # type: ignore[attr-defined]

    def slow(journal: Journal, line: bytes) -> None:
        time.sleep(seconds)
        append(journal, line)

    Journal.append = slow  # type: ignore[method-assign,assignment]


class Poisoned:
    """An object that only the process that created it can unpickle."""

    def __reduce__(self) -> Any:
        return _load_poisoned, (os.getpid(),)


def _load_poisoned(creator: int) -> Poisoned:
    if os.getpid() != creator:
        raise ImportError("no module named antidote")
    return Poisoned()
