"""Workers in the client's process: their tasks do not mix with the client's own events."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from distributed import Client, Event, LocalCluster, get_worker

import flowprov
from flowprov import guard, records
from flowprov.capture.dask import DaskWorkerPlugin, current_task, encoding, origin
from flowprov.runtime import runtime
from tests.dask import steps
from tests.dask.support import dask_tasks, ended, statuses
from tests.support import lines, of_type, only, tasks, wait_until

cloudpickle = pytest.importorskip("cloudpickle")
_started, _go = threading.Event(), threading.Event()


def _hold() -> None:
    _started.set()
    _go.wait()


def _running_here() -> int:
    return len(current_task.executions_of(get_worker()).running)


def test_tasks_in_the_clients_process_are_recorded(threads: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=threads) as workflow:
        here = threads.submit(steps.where_am_i).result()
        threads.submit(steps.launch, 1).result()
    assert here["task"] == only(ended(buffer, "where_am_i")).task_id
    assert statuses(ended(buffer)) == ["FINISHED"] * 3
    assert {task.workflow_id for task in dask_tasks(buffer)} == {workflow.workflow_id}
    assert guard.internal_errors() == {}


def test_a_cluster_that_was_started_inside_a_task_does_not_put_its_tasks_into_it(buffer: Path) -> None:
    with (
        flowprov.workflow("W"),
        flowprov.task_scope("starting"),
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow("Inner", dask_client=client) as inner,
    ):
        client.submit(steps.work, 1).result()
    finished = only(ended(buffer, "work"))
    iteration = only([task for task in tasks(buffer) if task.activity_id == "round_iteration"])
    assert finished.workflow_id == iteration.workflow_id == inner.workflow_id
    assert iteration.parent_task_id == finished.task_id


def test_a_task_that_starts_because_another_seceded_is_not_inside_it(buffer: Path) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow(dask_client=client),
    ):
        first = client.submit(steps.secede_inside_a_scope, "secede started", "secede go")
        here = client.submit(steps.where_am_i).result()
        assert Event("secede started", client=client).wait(30)
        Event("secede go", client=client).set()
        first.result()
    assert here["task"] == only(ended(buffer, "where_am_i")).task_id
    assert only(ended(buffer, "secede_inside_a_scope")).status == "FINISHED"


def test_an_internal_error_costs_one_record_and_is_counted(
    threads: Any, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("on purpose")

    with flowprov.workflow(dask_client=threads):
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "encode_used", broken)
            assert threads.submit(steps.add, 1).result() == 3
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "generated_of", broken)
            assert threads.submit(steps.add, 2).result() == 4
        with monkeypatch.context() as patch:
            patch.setattr(origin, "context_of_task", broken)
            assert threads.submit(steps.add, 3).result() == 5
        assert threads.submit(steps.add, 4).result() == 6
        assert threads.submit(_running_here).result() == 1
        dropped = [journal.counts()[2] for journal in runtime.get().journals()]
    assert dropped == [{"fault": 2}]
    assert guard.internal_errors() == {
        "recording the start of a Dask task: RuntimeError": 1,
        "recording the end of a Dask task: RuntimeError": 1,
        "recording a Dask task: RuntimeError": 1,
    }
    assert only(ended(buffer, "add")).used["x"] == 4


def test_a_task_that_still_runs_when_its_worker_closes_is_interrupted(buffer: Path) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow(dask_client=client),
    ):
        future = client.submit(_hold, pure=False)
        assert _started.wait(30)
        closing = threading.Thread(target=cluster.scale, args=(0,))
        closing.start()
        interrupted = only(wait_until(lambda: ended(buffer, "_hold")))
        _go.set()
        closing.join()
        future.release()
    assert interrupted.status == "INTERRUPTED"
    assert all(not journal.open_scopes for journal in runtime.get().journals())


def test_closing_a_cluster_does_not_close_the_journal_of_the_clients_process(buffer: Path) -> None:
    with flowprov.workflow("W"):
        with (
            LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
            Client(cluster) as client,
            flowprov.workflow(dask_client=client),
        ):
            client.submit(steps.add, 1).result()
        steps.square(3)
    assert [task.activity_id for task in tasks(buffer)] == ["add", "add", "square"]


def test_results_that_were_spilled_are_described_without_being_loaded(threads: Any, buffer: Path) -> None:
    class Spilling(dict[str, Any]):
        """Results none of which is in memory."""

        memory: ClassVar[dict[str, Any]] = {}

    worker = only(list(threads.cluster.workers.values()))
    worker.state.data = worker.memory_manager.data = Spilling()
    with flowprov.workflow(dask_client=threads):
        assert threads.submit(steps.add, 1).result() == 3
    assert only(ended(buffer)).generated["result"].endswith("spilled>")


def test_a_plugin_registered_under_two_names_records_each_task_once(threads: Any, buffer: Path) -> None:
    threads.register_plugin(DaskWorkerPlugin(), name="another")
    with flowprov.workflow(dask_client=threads):
        threads.submit(steps.add, 1).result()
    assert statuses(dask_tasks(buffer)) == ["FINISHED", "RUNNING"]


def test_no_execution_runs_after_the_tasks_have_ended(threads: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=threads):
        threads.gather(threads.map(steps.add, range(20)))
        worker = only(list(threads.cluster.workers.values()))
        assert current_task.executions_of(worker).running == {}
    assert len(of_type(lines(buffer), records.Task)) == 40


@pytest.mark.parametrize("through", [copy.deepcopy, lambda held: cloudpickle.loads(cloudpickle.dumps(held))])
def test_what_the_program_holds_of_a_cluster_is_copied_while_it_is_open(
    threads: Any, buffer: Path, through: Any
) -> None:
    with flowprov.workflow(dask_client=threads) as workflow:
        copied, plugin = through((workflow, DaskWorkerPlugin()))
        with copied:
            threads.submit(steps.where_am_i).result()
        copied.stop()
        plugin.transition("key", "waiting", "executing")
        plugin.teardown(None)
        assert copied.workflow_id == workflow.workflow_id
        threads.submit(steps.launch, 1).result()
    assert {task.workflow_id for task in dask_tasks(buffer)} == {workflow.workflow_id}
    assert [wf.status for wf in of_type(lines(buffer), records.Workflow)] == ["RUNNING", "FINISHED"]
    assert guard.internal_errors() == {}


def test_a_task_that_control_flow_ends_is_finished(threads: Any, buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"control_flow_exceptions": ["builtins.LookupError"]}
    )
    with flowprov.workflow(dask_client=threads):
        for error in (KeyError("pruned"), ValueError("wrong")):
            with pytest.raises(type(error)):
                threads.submit(steps.raise_in_a_loop, error).result()
    rows = flowprov.read_buffer(buffer, merge=True, return_df=False)
    outcomes = {
        (row["activity_id"], row["status"], row["custom_metadata"].get("ended_by"))
        for row in rows
        if row["activity_id"] is not None
    }
    assert outcomes == {
        (activity, *outcome)
        for activity in ("raise_in_a_loop", "round_iteration")
        for outcome in (("FINISHED", "KeyError"), ("ERROR", None))
    }
