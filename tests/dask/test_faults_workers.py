"""Workers that are killed, retired, or run out of memory: records are compared with the real executions."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, KilledWorker, LocalCluster

import flowprov
from flowprov import guard
from tests.dask import fault_steps as steps
from tests.dask.support import metadata, rows, statuses
from tests.support import only, wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """Path of the file in which executions are counted."""
    return tmp_path / "counter"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """Path of the file for which tasks wait."""
    return tmp_path / "go"


@pytest.fixture
def two(buffer: Path) -> Iterator[Any]:
    """Start two worker processes; in the end no process, thread or internal error is left."""
    before = set(psutil.Process().children(recursive=True))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client
    left = [
        child
        for child in set(psutil.Process().children(recursive=True)) - before
        if "resource_tracker" not in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE
    ]
    assert left == []
    # the thread of versions rests after its work, and ends then
    wait_until(lambda: _our_threads() in ([], ["flowprov-maintenance"]))
    assert guard.internal_errors() == {}


def _our_threads() -> list[str]:
    """List the names of flowprov's threads in this process."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("flowprov")]


def _workers(client: Any) -> dict[str, int]:
    """Return the process id of each worker, by address."""
    return dict(client.run(os.getpid))


def test_both_attempts_of_a_task_are_recorded_if_its_worker_was_killed(
    two: Any, buffer: Path, counter: Path, go: Path
) -> None:
    with flowprov.workflow(dask_client=two):
        future = two.submit(steps.hold, 21, str(counter), str(go))
        victim = only(wait_until(lambda: steps.ticks_of(counter)))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(steps.ticks_of(counter)) == 2)
        go.touch()
        assert future.result(60) == 42
        two.wait_for_workers(2)  # the nanny has started another one
        present = set(_workers(two).items())
        done = two.gather([two.submit(steps.counted, 1, str(counter), workers=[name]) for name, _ in present])
    assert done == [2, 2]
    first, second = sorted(rows(buffer, "hold"), key=lambda task: task.started_at or 0)
    assert [first.status, second.status] == ["INTERRUPTED", "FINISHED"]
    assert [first.pid, second.pid] == steps.ticks_of(counter)[:2]
    assert metadata(first, "dask_key") == metadata(second, "dask_key")
    assert victim not in dict(present).values()


def test_tasks_of_a_worker_that_retires_are_recorded_as_they_ran(
    two: Any, buffer: Path, counter: Path
) -> None:
    with flowprov.workflow(dask_client=two):
        early = two.map(steps.counted, range(20), counter=str(counter))
        assert two.gather(early) == [2 * number for number in range(20)]
        leaving = next(iter(_workers(two)))
        two.retire_workers([leaving])
        assert len(_workers(two)) == 1
        late = two.map(steps.counted, range(100, 110), counter=str(counter))
        assert sum(two.gather([*early, *late])) == 2 * (sum(range(20)) + sum(range(100, 110)))
    recorded = rows(buffer, "counted")
    assert Counter(task.pid for task in recorded) == Counter(steps.ticks_of(counter))
    assert set(statuses(recorded)) == {"FINISHED"}


def test_a_task_whose_worker_is_scaled_away_has_an_end_and_another_attempt(
    two: Any, buffer: Path, counter: Path, go: Path
) -> None:
    with flowprov.workflow(dask_client=two):
        futures = [
            two.submit(steps.hold, number, str(counter), str(go), workers=[name], allow_other_workers=True)
            for number, name in enumerate(_workers(two))
        ]
        wait_until(lambda: len(steps.ticks_of(counter)) == 2)
        two.cluster.scale(1)
        wait_until(lambda: len(two.scheduler_info()["workers"]) == 1)
        go.touch()
        assert two.gather(futures) == [0, 2]
    recorded = rows(buffer, "hold")
    assert Counter(task.pid for task in recorded) == Counter(steps.ticks_of(counter))
    assert statuses(recorded).count("FINISHED") >= 2
    assert set(statuses(recorded)) <= {"FINISHED", "INTERRUPTED", "CANCELLED"}


def test_stolen_tasks_are_recorded_once_where_they_ran(
    two: Any, buffer: Path, counter: Path, go: Path
) -> None:
    with flowprov.workflow(dask_client=two):
        robbed, thief = _workers(two).items()
        blocker = two.submit(steps.hold, 0, str(counter), str(go), workers=[robbed[0]])
        wait_until(lambda: steps.ticks_of(counter))
        futures = two.map(
            steps.counted, range(20), counter=str(counter), workers=[robbed[0]], allow_other_workers=True
        )
        assert two.gather(futures) == [2 * number for number in range(20)]
        go.touch()
        assert blocker.result(30) == 0
    recorded = rows(buffer, "counted")
    assert Counter(task.pid for task in recorded) == {thief[1]: 20}
    assert statuses(recorded) == ["FINISHED"] * 20


def test_a_task_that_takes_too_much_memory_is_interrupted_at_each_attempt(
    buffer: Path, counter: Path, go: Path
) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit="512MiB", dashboard_address=":0"
        ) as small,
        Client(small) as client,
        flowprov.workflow(dask_client=client),
    ):
        with pytest.raises(KilledWorker):
            client.submit(steps.allocate, 600 << 20, str(counter), str(go)).result(60)
        assert client.submit(steps.counted, 4, str(counter)).result(60) == 8
    assert statuses(rows(buffer, "allocate")) == ["INTERRUPTED"] * 2
    assert [task.pid for task in rows(buffer, "allocate")] == steps.ticks_of(counter)[:2]
    assert statuses(rows(buffer, "counted")) == ["FINISHED"]


def test_a_task_that_cannot_be_unpickled_never_ran_and_has_no_record(buffer: Path, counter: Path) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as small,
        Client(small) as client,
        flowprov.workflow(dask_client=client),
    ):
        with pytest.raises(KilledWorker):  # Dask unpickles a task with its message, and that ends the worker
            client.submit(steps.same, steps.Poisoned()).result(60)
        assert client.submit(steps.counted, 4, str(counter)).result(20) == 8
    assert rows(buffer, "same") == []
    assert statuses(rows(buffer, "counted")) == ["FINISHED"]
