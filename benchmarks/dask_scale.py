"""What recording costs a Dask cluster, at scale.

Flows in: nothing; a cluster of processes is started on this machine. Flows out: how many tasks were recorded,
whether their graph can be rebuilt, the share of the cluster's CPU that is spent inside capture, and what
capture adds to the time of a run::

    python -m benchmarks.dask_scale --tasks 100000 --pairs 20

The share is taken in a run of its own, in which every call of the capture, in the workers and in the client,
is timed by the CPU clock of its thread, its keeper thread added; reading that clock is part of what is
counted. The cluster is its workers, its scheduler and the client. What capture adds is taken from pairs of
runs that nothing times, with and without a workflow, one after the other, in changing order. A task computes
for a millisecond, a hundredth of what Dask's own advice asks for; ``--milliseconds 0`` leaves Dask alone with
capture.
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

WAVE = 3000  # tasks of one submission: two thirds are leaves, a third joins two of them each

# The methods and functions by which a cluster and its client enter the capture, task by task.
_ENTRIES: list[tuple[Any, str]] = [
    (DaskWorkerPlugin, "transition"),
    (submission, "annotation_for_submission"),
]
_originals: list[Callable[..., Any]] = []
_work = [0.0]  # CPU seconds that a task takes, in this process
_spent: dict[int, int] = {}  # CPU nanoseconds inside the entries, by thread: no two threads share a sum


class Spent(msgspec.Struct, frozen=True):
    """What a run took, in seconds: by the wall, CPU of the cluster, CPU of that inside capture."""

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
    """Start worker processes with a thread each, in which tasks will compute for so long."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(set_work, milliseconds)
        yield client


def run(client: Client, tasks: int) -> Spent:
    """Run so many tasks."""
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
    """Add up the CPU seconds of all processes of a cluster; the scheduler lives in this one."""
    every = [cpu_here(), *client.run(cpu_here).values()]
    return sum(each[0] for each in every), sum(each[1] for each in every)


# -- in every process of the cluster ----------------------------------------------------------------------


def set_work(milliseconds: float) -> None:
    """Have tasks in this process compute for so long."""
    _work[0] = milliseconds / 1e3


def leaf(number: int) -> int:
    """Compute for a while."""
    end = time.thread_time() + _work[0]
    while time.thread_time() < end:
        number ^= 1
    return number


def join(first: int, second: int) -> int:
    """Compute for a while, from two results."""
    return leaf(first - second)


def begin_timing() -> None:
    """Time the entries of the capture in this process from now on."""
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
            took = clock() - before  # what is below is ours, and not the capture's
            thread = here()
            spent[thread] = spent.get(thread, 0) + took

    return timed


def cpu_here() -> tuple[float, float]:
    """Give CPU seconds of this process: all, and inside the capture (where timed) with its keeper thread."""
    inside = sum(_spent.values())
    for thread in threading.enumerate():
        if thread.name == "flowprov-keeper" and thread.ident is not None:
            inside += time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
    return time.process_time(), inside / 1e9


# -- all of them ------------------------------------------------------------------------------------------


def everything(client: Client, tasks: int, buffer: Path) -> None:
    """Print whether many tasks are all recorded, and the share of the capture."""
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
    """Print what capture adds to runs, and how sure that is."""
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
    """Run tasks in a workflow, or in none."""
    with flowprov.workflow("pair", dask_client=client) if captured else nullcontext():
        return run(client, tasks)


if __name__ == "__main__":
    importlib.import_module("benchmarks.dask_scale").main()  # the workers find its functions by this name
