"""A killed client, a lost scheduler, internal errors, a slow disk, results that cannot be pickled."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import flowprov
from flowprov import records
from tests.dask import fault_steps as steps
from tests.dask.support import PATIENCE, dask_program, dask_tasks, ended, rows, statuses
from tests.support import only, start, wait_until

pytestmark = pytest.mark.timeout(120)

CLIENT = """
    import sys, flowprov
    from distributed import Client
    from tests.dask import fault_steps as steps

    address, counter, go = sys.argv[1:]
    with Client(address) as client, flowprov.workflow("Gone", dask_client=client):
        client.submit(steps.hold, 1, counter, go).result()
"""


def test_a_task_whose_client_was_killed_is_cancelled_when_its_function_is_over(
    client: Any, cluster: Any, tmp_path: Path
) -> None:
    counter, go = tmp_path / "counter", tmp_path / "go"
    with start(CLIENT, tmp_path, cluster.scheduler_address, str(counter), str(go)) as program:
        wait_until(lambda: steps.ticks_of(counter))
        program.kill()
        program.communicate()
    wait_until(lambda: not any(client.processing().values()))
    go.touch()
    folder = tmp_path / "flowprov_buffer"
    cancelled = only(wait_until(lambda: ended(folder, "hold")))
    assert cancelled.status == "CANCELLED"
    assert cancelled.pid == only(steps.ticks_of(counter))
    workflow = only(
        [row for row in flowprov.Buffer(folder).records(merge=True) if isinstance(row, records.Workflow)]
    )
    assert workflow.status == "INTERRUPTED"
    assert client.submit(steps.same, 3).result() == 3


def test_a_lost_scheduler_does_not_hold_up_the_program_and_its_tasks_are_interrupted(
    buffer: Path, tmp_path: Path
) -> None:
    counter, go, address = tmp_path / "counter", tmp_path / "go", tmp_path / "scheduler.json"
    connection = ("--scheduler-file", str(address))
    with (
        dask_program(
            "scheduler", "--port", "0", "--dashboard-address", ":0", *connection, folder=tmp_path
        ) as scheduler,
        dask_program(
            "worker", *connection, "--no-nanny", "--nthreads", "1", "--death-timeout", "20", folder=tmp_path
        ) as worker,
    ):
        wait_until(address.exists)
        client = Client(scheduler_file=str(address), timeout=PATIENCE)
        with flowprov.workflow("Lost", dask_client=client):
            assert client.submit(steps.counted, 4, str(counter)).result(PATIENCE) == 8
            future = client.submit(steps.hold, 1, str(counter), str(go))
            wait_until(lambda: len(steps.ticks_of(counter)) == 2)
            scheduler.kill()
            wait_until(lambda: future.status != "pending")  # Dask has given it up
            closing = time.monotonic()
        assert time.monotonic() - closing < 25, "flowprov waits for 7 s at most, Dask itself for 30 s"
        wait_until(lambda: statuses(rows(buffer, "hold")) == ["INTERRUPTED"])
        client.close(timeout=2)
        go.touch()
        assert worker.wait(PATIENCE) is not None
    assert statuses(rows(buffer, "counted")) == ["FINISHED"]
    assert statuses(rows(buffer, "hold")) == ["INTERRUPTED"]


def test_the_cluster_goes_on_while_the_plugin_raises_and_the_internal_errors_are_counted(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        client.run(steps.break_capture)
        try:
            assert client.gather(client.map(steps.same, range(20), pure=False)) == list(range(20))
        finally:
            errors = client.run(steps.restore_capture).values()
        assert client.submit(steps.same, "after").result() == "after"
    counts = sum((Counter(of_worker) for of_worker in errors), Counter[str]())
    assert set(counts) == {"recording a Dask task: RuntimeError"}
    assert counts.total() == 20
    assert [task.used for task in ended(buffer)] == [{"value": "after"}]


def test_a_slow_disk_under_the_journal_slows_the_cluster_and_loses_nothing(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        client.run(steps.slow_the_disk, 0.05)
        try:
            assert client.gather(client.map(steps.same, range(20), pure=False)) == list(range(20))
        finally:
            client.run(steps.slow_the_disk, 0)
    assert statuses(dask_tasks(buffer)) == ["FINISHED"] * 20 + ["RUNNING"] * 20


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_client_and_the_task_is_finished(
    client: Any, buffer: Path, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    with flowprov.workflow(dask_client=client):
        with pytest.raises(Exception, match=r"not to be pickled|Could not serialize"):
            client.submit(steps.make_unloadable, str(counter)).result(PATIENCE)
        assert client.submit(steps.same, 3).result() == 3
    recorded = rows(buffer, "make_unloadable")
    assert len(recorded) == len(steps.ticks_of(counter)) == 1
    assert recorded[0].status == "FINISHED"  # the function did, and other tasks could use its result


def test_a_worker_that_is_frozen_for_a_while_loses_nothing(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        frozen = next(iter(client.run(os.getpid).values()))
        futures = client.map(steps.same, range(20), pure=False)
        os.kill(frozen, signal.SIGSTOP)
        try:
            wait_until(lambda: ended(buffer))
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert client.gather(futures) == list(range(20))
    assert statuses(rows(buffer, "same")) == ["FINISHED"] * 20
