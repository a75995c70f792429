"""What is timed: one scenario in one process, plain and captured.

Flows in: the functions, loops and models of one library (flowprov or the peer), and the name of a scenario
from the command line. Flows out: one JSON object with the microseconds that capture adds to an event: in the
calls, and until the last event is on disk.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

EVENTS = {
    "task": 50_000,
    "loop": 100_000,
    "loop with two scalars": 100_000,
    "parent forward": 10_000,
    "and 3 children": 5_000,
    "and 3 inspected": 5_000,
}
# What the scenarios record of the model and of its modules; both libraries use these words.
MODES = {
    "parent forward": ("parent_only", None),
    "and 3 children": ("parent_and_children", "lightweight"),
    "and 3 inspected": ("parent_and_children", "tensor_inspection"),
}
BATCH = (64, 512)  # shape of the model's input
TELEMETRY = " with telemetry"  # ends the name of a scenario that records all telemetry of host and process


def base_of(name: str) -> str:
    """Return the name of a scenario without the ending for telemetry."""
    return name.removesuffix(TELEMETRY)


def mode_of(name: str) -> tuple[str, str | None]:
    """Return what a scenario records of the model, and of its modules."""
    what, children_mode = MODES.get(base_of(name), ("parent_only", None))
    if children_mode is not None and name.endswith(TELEMETRY):
        children_mode = f"telemetry_and_{children_mode}"
    return what, children_mode


class Library(NamedTuple):
    """One library's way to capture.

    Attributes
    ----------
    session
        Returns the block inside which events are captured. They are on disk when the block ends.
    task, loop
        Wrap a function, and a number of iterations.
    model
        Captures a class of models in a mode. The peer reads the mode from its settings.
    fewer
        Divides the number of events in scenarios with telemetry, because the peer takes milliseconds for
        each.
    """

    session: Callable[[], AbstractContextManager[Any]]
    task: Callable[[Callable[..., Any]], Callable[..., Any]]
    loop: Callable[[int], Any]
    model: Callable[[Any, tuple[str, str | None]], Any]
    fewer: int = 1


def work(x: int, y: float = 2.0) -> int:  # noqa: ARG001 - an argument to record
    """Do next to nothing, so that the added cost shows."""
    return x


class PlainLoop:
    """A loop without capture."""

    def __init__(self, count: int) -> None:
        self._items = range(count)

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def end_iter(self, values: dict[str, Any]) -> None:
        """Accept values and do nothing."""


def run(library: Library) -> None:
    """Time the scenario that the command line names, and print what capture adds to an event."""
    name = sys.argv[1]
    count = EVENTS[base_of(name)] // (library.fewer if name.endswith(TELEMETRY) else 1)
    with library.session():  # the first session pays what is done once per process
        _programs(library, name)[1](count // 20)
    gc.collect()  # else the garbage of importing torch may be collected inside one of the times
    gc.freeze()
    start = time.perf_counter()
    with library.session():
        plain, captured = _programs(library, name)
        calls = _seconds(captured, count)
    total = time.perf_counter() - start
    without = statistics.median(_seconds(plain, count) for _ in range(5))
    per_event = 1e6 / count
    measured = {"capture": (calls - without) * per_event, "total": (total - without) * per_event}
    sys.stdout.write("\n" + json.dumps(measured) + "\n")


def _programs(library: Library, name: str) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Return the plain and the captured program of a scenario; each takes the number of events."""
    base = base_of(name)
    if base == "task":
        function = library.task(work)
        return (lambda count: _call(work, count)), (lambda count: _call(function, count))
    if base == "loop":
        return (lambda count: _iterate(range(count))), (lambda count: _iterate(library.loop(count)))
    if base == "loop with two scalars":
        return (lambda count: _report(PlainLoop(count))), (lambda count: _report(library.loop(count)))
    import torch

    torch.set_num_threads(1)
    mode = mode_of(name)
    kind = _layer() if mode[1] is None else _three_layers()
    captured, plain = library.model(type("Captured", (kind,), {}), mode)(), kind()
    batch = torch.zeros(BATCH)
    return (lambda count: _forward(plain, batch, count)), (lambda count: _forward(captured, batch, count))


def _layer() -> Any:
    """Return a class whose instances are one layer."""
    import torch

    class Layer(torch.nn.Linear):
        def __init__(self, **_: Any) -> None:  # the peer passes arguments of its own
            super().__init__(BATCH[1], 8)

    return Layer


def _three_layers() -> Any:
    """Return a class whose instances have three layers."""
    import torch

    class Layers(torch.nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()
            self.first = torch.nn.Linear(BATCH[1], 8)
            self.second = torch.nn.ReLU()
            self.third = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> Any:
            return self.third(self.second(self.first(x)))

    return Layers


def _call(function: Callable[..., Any], count: int) -> None:
    for number in range(count):
        function(number, y=0.5)


def _iterate(items: Iterable[int]) -> None:
    for _ in items:
        pass


def _report(loop: Any) -> None:
    for number in loop:
        loop.end_iter({"loss": 0.25, "accuracy": number / 3})


def _forward(model: Any, batch: Any, count: int) -> None:
    import torch

    with torch.no_grad():
        for _ in range(count):
            model(batch)


def _seconds(function: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    function(count)
    return time.perf_counter() - start
