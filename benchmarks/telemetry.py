"""What telemetry costs: the same program with and without the sampler.

Flows in: nothing. Flows out: what sampling adds to each event, the share of a core that the sampler takes,
and the bytes of a sample and of a task record::

    python -m benchmarks.telemetry --pairs 40 --minutes 1

Pairs of runs follow one another in one process, in alternating order. Each run is long enough for several
samples.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import flowprov
from benchmarks.pairs import interval, order
from flowprov.journal.format import find_journals, lines
from flowprov.runtime import runtime
from flowprov.telemetry.procfs_probes import KINDS

ALL: dict[str, Any] = dict.fromkeys(KINDS, True)
EVENTS = {"task": 300_000, "loop": 500_000, "forward and 3 children": 30_000}


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description="what telemetry costs")
    arguments.add_argument("--pairs", type=int, default=40)
    arguments.add_argument("--minutes", type=float, default=1.0, help="for which the sampler is watched")
    arguments.add_argument("--only", choices=EVENTS, help="this event alone")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"sampled beside not sampled, {options.pairs} pairs: median and 95 % interval")
    for name in [options.only] if options.only else EVENTS:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, EVENTS[name], options.pairs, Path(folder))
    if options.only:
        return
    with tempfile.TemporaryDirectory() as folder:
        watch(options.minutes * 60, Path(folder))


def compare(name: str, count: int, pairs: int, folder: Path) -> None:
    """Print how much longer a program takes with telemetry than without."""
    ratios = []
    for number in range(pairs + 1):
        taken = {sampled: _seconds(name, count, folder, sampled=sampled) for sampled in order(number)}
        if number:  # the first pair warms up
            ratios.append(taken[True] / taken[False])
    low, high = interval(ratios)
    print(f"{name:24}{statistics.median(ratios) - 1:+7.2%} [{low - 1:+.2%}, {high - 1:+.2%}]", flush=True)


def _seconds(name: str, count: int, folder: Path, *, sampled: bool) -> float:
    flowprov.configure(journal={"path": str(folder)}, telemetry_capture=ALL if sampled else None)
    with flowprov.workflow("pair"):
        program = _program(name)
        program(count // 100)
        gc.collect()
        start = time.perf_counter()
        program(count)
        taken = time.perf_counter() - start
    runtime.reset()
    for path in find_journals(folder):
        path.unlink()
    return taken


def _program(name: str) -> Callable[[int], None]:
    if name == "task":
        return _tasks
    if name == "loop":
        return _loop
    mode = "telemetry_and_tensor_inspection"
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    model = flowprov.torch_capture(layers, what="parent_and_children", children_mode=mode)

    def forwards(count: int) -> None:
        batch = torch.zeros(4, 8)
        with torch.no_grad():
            for _ in range(count):
                model(batch)

    return forwards


@flowprov.task
def _work(x: int, y: float = 2.0) -> int:  # noqa: ARG001 - an argument to record
    return x


def _tasks(count: int) -> None:
    for number in range(count):
        _work(number, y=0.5)


def _loop(count: int) -> None:
    for _ in flowprov.Loop(count):
        pass


def watch(seconds: float, folder: Path) -> None:
    """Print the CPU share of the sampler beside an idle and beside a busy program, and the sizes on disk."""
    for program in ("idle", "busy"):
        flowprov.configure(journal={"path": str(folder / program)}, telemetry_capture=ALL)
        with flowprov.workflow("watched"):
            _work(1)
            time.sleep(2)  # the first sample is over by then; it costs more than the others
            before, began = _cpu_of_sampler(), time.monotonic()
            while time.monotonic() < began + seconds:
                if program == "busy":
                    _tasks(1000)
                else:
                    time.sleep(0.5)
            share = (_cpu_of_sampler() - before) / (time.monotonic() - began)
        runtime.reset()
        print(f"sampler beside a program that is {program}: {share:.3%} of a core (goal 0.1 %)", flush=True)
    sizes: dict[bytes, list[int]] = {}
    for path in find_journals(folder):
        for _, line in lines(path.read_bytes()):
            sizes.setdefault(line[:18], []).append(len(line) + 1)
    for kind, goal in ((b'{"type":"sample"', 600), (b'{"type":"task","t', 350)):
        found = next(sizes[each] for each in sizes if each.startswith(kind))
        mean = statistics.mean(found)
        print(f"{kind.decode()[9:-1]}: {mean:.0f} bytes on average (goal {goal}), {max(found)} at most")


def _cpu_of_sampler() -> float:
    thread = next(each for each in threading.enumerate() if each.name == "flowprov-sampler")
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident or 0)) / 1e9


if __name__ == "__main__":
    main()
