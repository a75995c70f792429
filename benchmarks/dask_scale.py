"""What recording costs a Dask cluster, at scale.

Flows in: nothing; the benchmark starts a cluster of processes on this machine. Flows out: the number of
recorded tasks, whether their graph can be rebuilt, the share of the cluster's CPU that capture takes, and the
time that capture adds to a run::

    python -m benchmarks.dask_scale --tasks 100000 --pairs 20

One run measures the share. In it the CPU clock of the thread times every call into the capture, in the
workers and in the client. The CPU time of the maintenance thread is added. The time for reading the clock is
included. The cluster consists of its workers, its scheduler and the client. Pairs of runs without such clocks
measure what capture adds: one run with a workflow and one without, in alternating order. A task computes for
a millisecond, a hundredth of what Dask advises; with ``--milliseconds 0`` tasks compute nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
from distributed import Client, LocalCluster

import flowprov
from benchmarks.pairs import interval, order
from flowprov.capture.dask import submission
from flowprov.capture.dask.plugin import DaskWorkerPlugin
from flowprov.journal.format import find_journals, lines
from flowprov.records import Task

WAVE = 3000  # tasks of one submission: two thirds are leaves; each task of the last third joins two of them

# The methods and functions through which a cluster and its client call the capture for each task.
_ENTRIES: list[tuple[Any, str]] = [
    (DaskWorkerPlugin, "transition"),
    (submission, "annotation_for_submission"),
]
_originals: list[Callable[..., Any]] = []
_work = [0.0]  # CPU seconds of a task in this process
_spent: dict[int, int] = {}  # CPU nanoseconds inside the entries, by thread; threads share no sum


class Spent(msgspec.Struct, frozen=True):
    """The seconds of a run: wall time, CPU of the cluster, and CPU inside capture."""

    wall: float
    cpu: float
    inside: float


def main() -> None:
    """Print what was recorded, and what it cost."""
    arguments = argparse.ArgumentParser(description="what recording costs a Dask cluster")
    arguments.add_argument("--tasks", type=int, default=100_000)
    arguments.add_argument("--pairs", type=int, default=20)
    arguments.add_argument("--tasks-of-a-pair", type=int, default=WAVE, help="in each of its two runs")
    arguments.add_argument("--workers", type=int, default=3)
    arguments.add_argument("--milliseconds", type=float, default=1.0, help="CPU time of a task")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        flowprov.configure(journal={"path": name})
        with cluster_of(options.workers, options.milliseconds) as client:
            everything(client, options.tasks, Path(name))
        with cluster_of(options.workers, options.milliseconds) as client:
            compare(client, options.pairs, options.tasks_of_a_pair)


@contextmanager
def cluster_of(workers: int, milliseconds: float) -> Iterator[Client]:
    """Start worker processes with one thread each, whose tasks compute for `milliseconds`."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(set_work, milliseconds)
        yield client


def run(client: Client, tasks: int) -> Spent:
    """Run a number of tasks, and return what they took."""
    before = cpu_of(client)
    began = time.perf_counter()
    done = 0
    while done < tasks:
        wave = min(WAVE, tasks - done)
        joins = wave // 3
        leaves = client.map(leaf, range(wave - joins), pure=False)
        joined = client.map(join, leaves[:joins], leaves[::-1][:joins], pure=False)
        client.gather([*leaves, *joined])
        done += wave
    wall = time.perf_counter() - began
    return Spent(wall, *(late - early for late, early in zip(cpu_of(client), before, strict=True)))


def cpu_of(client: Client) -> tuple[float, float]:
    """Return CPU seconds of a cluster, its scheduler in this process included: all, and inside capture."""
    every = [cpu_here(), *client.run(cpu_here).values()]
    return sum(each[0] for each in every), sum(each[1] for each in every)


# -- in every process of the cluster ----------------------------------------------------------------------


def set_work(milliseconds: float) -> None:
    """Set how long the tasks in this process compute."""
    _work[0] = milliseconds / 1e3


def leaf(number: int) -> int:
    """Compute for a while."""
    end = time.thread_time() + _work[0]
    while time.thread_time() < end:
        number ^= 1
    return number


def join(first: int, second: int) -> int:
    """Compute for a while, with two results as input."""
    return leaf(first - second)


def begin_timing() -> None:
    """Start to time the entries of the capture in this process."""
    for owner, name in _ENTRIES:
        original = getattr(owner, name)
        _originals.append(original)
        setattr(owner, name, _timed(original))


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    clock, here, spent = time.thread_time_ns, threading.get_ident, _spent

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        before = clock()
        try:
            return function(*args, **kwargs)
        finally:
            took = clock() - before  # what follows is the benchmark's own work
            thread = here()
            spent[thread] = spent.get(thread, 0) + took

    return timed


def cpu_here() -> tuple[float, float]:
    """Return the CPU seconds of this process: all, and those of capture with its maintenance thread."""
    inside = sum(_spent.values())
    for thread in threading.enumerate():
        if thread.name == "flowprov-maintenance" and thread.ident is not None:
            inside += time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
    return time.process_time(), inside / 1e9


# -- all of them ------------------------------------------------------------------------------------------


def everything(client: Client, tasks: int, buffer: Path) -> None:
    """Print whether all of many tasks are recorded, and the share of the capture."""
    with flowprov.workflow("warm", campaign_id="warm", dask_client=client):
        run(client, WAVE)
    begin_timing()
    client.run(begin_timing)
    with flowprov.workflow("scale", campaign_id="scale", dask_client=client):
        spent = run(client, tasks)
    print(f"{tasks:,} tasks in {spent.wall:.0f} s on {len(client.scheduler_info()['workers'])} workers.")
    recorded = sum(
        line.startswith(b'{"type":"task"')
        for path in find_journals(buffer / "scale")
        for _, line in lines(path.read_bytes())
    )
    rows = [
        row
        for row in flowprov.Buffer(buffer).records(campaign_id="scale", merge=True)
        if isinstance(row, Task)
    ]
    known = {row.task_id for row in rows if row.status == "FINISHED"}
    wanted = [name for row in rows for name in row.dependencies or ()]
    found = sum(name in known for name in wanted)
    print(f"Recorded: {recorded:,} lines of {len(rows):,} executions; {len(known):,} of them FINISHED.")
    print(f"Graph: {found:,} of {len(wanted):,} dependencies lead to a recorded execution.")
    print(
        f"CPU: {spent.inside:.2f} s inside capture of {spent.cpu:.1f} s of the cluster: "
        f"{spent.inside / spent.cpu:.2%} (goal 3 %); {1e6 * spent.inside / tasks:.0f} of "
        f"{1e6 * spent.cpu / tasks:,.0f} µs a task.",
        flush=True,
    )


# -- pairs ------------------------------------------------------------------------------------------------


def compare(client: Client, pairs: int, tasks: int) -> None:
    """Print what capture adds to runs, with its 95 % interval."""
    with flowprov.workflow("warm", dask_client=client):
        run(client, tasks)
    run(client, tasks)
    taken: list[tuple[Spent, Spent]] = []
    for number in range(pairs):
        spent = {captured: one_of_a_pair(client, tasks, captured=captured) for captured in order(number)}
        taken.append((spent[True], spent[False]))
    print(f"{pairs} pairs of {tasks:,} tasks, captured beside not captured: median and 95 % interval.")
    for name, measure in (("Wall time", _wall), ("CPU of the cluster", _cpu)):
        ratios = [measure(captured) / measure(plain) for captured, plain in taken]
        low, high = interval(ratios)
        print(f"{name}: {statistics.median(ratios) - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]")


def _wall(spent: Spent) -> float:
    return spent.wall


def _cpu(spent: Spent) -> float:
    return spent.cpu


def one_of_a_pair(client: Client, tasks: int, *, captured: bool) -> Spent:
    """Run tasks, in a workflow if they are to be captured."""
    with flowprov.workflow("pair", dask_client=client) if captured else nullcontext():
        return run(client, tasks)


if __name__ == "__main__":
    importlib.import_module("benchmarks.dask_scale").main()  # the workers find its functions by this name
