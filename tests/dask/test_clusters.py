"""Workers that start late, close and die; plugins that come and go. Each test has a cluster of its own."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster

import flowprov
from flowprov import records
from flowprov.capture.dask import DaskWorkerPlugin
from tests.dask import steps
from tests.dask.support import dask_program, dask_tasks, ended, metadata, statuses
from tests.support import lines, of_type, only, run, tasks, wait_until


@pytest.fixture
def small() -> Iterator[Any]:
    """Start one worker process."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_worker_that_starts_late_records_too(small: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=small):
        small.submit(steps.add, 1).result()
        early = set(small.scheduler_info()["workers"])
        small.cluster.scale(2)
        small.wait_for_workers(2)
        late = only(list(set(small.scheduler_info()["workers"]) - early))
        small.submit(steps.add, 2, workers=[late]).result()
    finished = {task.used["x"]: task for task in ended(buffer) if task.used}
    assert metadata(finished[2], "worker") == late
    assert finished[1].workflow_id == finished[2].workflow_id


def test_an_execution_that_died_with_its_worker_has_no_end_and_the_next_one_has(
    small: Any, buffer: Path, tmp_path: Path
) -> None:
    with flowprov.workflow(dask_client=small):
        assert small.submit(steps.die_once, str(tmp_path / "marker")).result() == "survived"
    recorded = dask_tasks(buffer)
    assert statuses(recorded) == ["FINISHED", "RUNNING", "RUNNING"]
    finished = only(ended(buffer))
    dead = only([task for task in recorded if task.task_id != finished.task_id])
    assert metadata(dead, "dask_key") == metadata(finished, "dask_key")
    assert dead.pid != finished.pid


def test_worker_processes_write_their_footer_when_the_cluster_closes(buffer: Path) -> None:
    with (
        LocalCluster(n_workers=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow(dask_client=client),
    ):
        client.submit(steps.add, 1).result()
    footer = only(of_type(lines(buffer), records.Footer))  # the client's own is not written yet
    assert (footer.captured, footer.written, footer.open) == (2, 2, None)


def test_workers_that_were_started_inside_a_workflow_run_tasks_of_other_workflows(buffer: Path) -> None:
    with flowprov.workflow("Starts"), flowprov.task_scope("starting"):
        cluster = LocalCluster(n_workers=1, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        with flowprov.workflow("Runs", dask_client=client) as workflow:
            client.submit(steps.work, 1).result()
            client.submit(steps.work_in_a_thread).result()
        client.submit(steps.add, 1).result()
    inside = [task for task in tasks(buffer) if task.activity_id != "starting"]
    assert {task.activity_id for task in inside} == {"work", "round_iteration", "square", "work_in_a_thread"}
    assert {task.workflow_id for task in inside} == {workflow.workflow_id}


def test_a_plugin_that_was_unregistered_records_nothing_until_the_next_workflow(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        client.submit(steps.add, 1).result()
        client.unregister_worker_plugin("flowprov")
        client.submit(steps.add, 2).result()
    with flowprov.workflow(dask_client=client):
        client.submit(steps.add, 3).result()
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [1, 3]


def test_a_function_decorated_in_main_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    code = """
        import flowprov
        from distributed import Client, LocalCluster

        @flowprov.task
        def double(number):
            return 2 * number

        def through(number):
            return double(number)

        if __name__ == "__main__":
            with LocalCluster(n_workers=1, dashboard_address=":0") as cluster, Client(cluster) as client:
                with flowprov.workflow("Main", dask_client=client):
                    print(client.submit(double, 4).result(), client.submit(through, 5).result())
    """
    printed, errors = run(code, tmp_path)
    assert printed.split() == ["8", "10"]
    assert "flowprov" not in errors
    recorded = tasks(tmp_path / "flowprov_buffer")
    outer = {task.activity_id: task for task in recorded if task.subtype == "dask_task"}
    inner = {task.parent_task_id: task for task in recorded if task.subtype is None}
    assert inner[str(outer["double"].task_id)].generated == {"result": 8}
    assert inner[str(outer["through"].task_id)].generated == {"result": 10}
    assert outer["double"].used == {"number": 4}


def test_a_preloaded_plugin_records_the_tasks_of_a_client_without_flowprov(tmp_path: Path) -> None:
    code = """
        import sys
        from operator import neg
        from distributed import Client, LocalCluster

        if __name__ == "__main__":
            inherited = {"FLOWPROV_CAMPAIGN_ID": "night", "FLOWPROV_WORKFLOW_ID": "shift"}
            with LocalCluster(
                n_workers=1, dashboard_address=":0", preload="flowprov.preload", env=inherited
            ) as cluster, Client(cluster) as client:
                client.submit(neg, 3).result()
            assert "flowprov" not in sys.modules
    """
    run(code, tmp_path)
    finished = only(ended(tmp_path / "flowprov_buffer"))
    assert (finished.activity_id, finished.used) == ("neg", {"a": 3})
    assert (finished.campaign_id, finished.workflow_id) == ("night", "shift")


def test_dasks_configuration_registers_the_plugin_in_workers_that_others_start(
    buffer: Path, tmp_path: Path
) -> None:
    environment = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "['flowprov.preload']",
        "FLOWPROV__JOURNAL__PATH": str(buffer),
    }
    file = tmp_path / "scheduler.json"
    known = ("--scheduler-file", str(file), "--no-dashboard")
    with (
        dask_program("scheduler", *known, "--port", "0", folder=tmp_path, env=environment),
        dask_program("worker", *known, "--nthreads", "1", folder=tmp_path, env=environment),
    ):
        wait_until(file.exists)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(1, timeout=60)
            assert client.run(plugins_of) == dict.fromkeys(client.scheduler_info()["workers"], 1)
            with flowprov.workflow(dask_client=client):  # the plugin is there already
                assert client.submit(steps.add, 1).result() == 3
            assert client.run(plugins_of) == dict.fromkeys(client.scheduler_info()["workers"], 1)
    assert statuses(dask_tasks(buffer)) == ["FINISHED", "RUNNING"]


def plugins_of(dask_worker: Any) -> int:
    """Count the plugins of flowprov in a worker."""
    return sum(name == "flowprov" for name in dask_worker.plugins)


def test_an_asynchronous_client_records_its_tasks(tmp_path: Path) -> None:
    code = """
        import asyncio, flowprov
        from operator import neg
        from distributed import Client

        async def main():
            async with Client(processes=False, asynchronous=True, dashboard_address=":0") as client:
                await client.register_plugin(flowprov.DaskWorkerPlugin())
                with flowprov.workflow("Async", dask_client=client):
                    print(await client.submit(neg, 3))

        asyncio.run(main())
    """
    printed, errors = run(code, tmp_path)
    assert printed.split() == ["-3"]
    assert "flowprov" not in errors
    assert statuses(dask_tasks(tmp_path / "flowprov_buffer")) == ["FINISHED", "RUNNING"]


def test_the_plugin_can_be_pickled_and_carries_the_settings_of_its_client(buffer: Path) -> None:
    arrived = pickle.loads(pickle.dumps(DaskWorkerPlugin()))
    assert (arrived.name, arrived.idempotent) == ("flowprov", True)
    assert str(buffer).encode() in arrived._settings


def test_a_disabled_plugin_does_nothing(monkeypatch: pytest.MonkeyPatch, buffer: Path) -> None:
    monkeypatch.setenv("FLOWPROV_DISABLED", "1")
    plugin = DaskWorkerPlugin()
    plugin.setup(SimpleNamespace())
    plugin.transition("key", "ready", "executing")
    plugin.teardown(SimpleNamespace())
    assert tasks(buffer) == []
