"""What is recorded of a Dask task: two records with one id, its inputs, its outputs, its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dask.delayed import delayed
from distributed import Event, wait

import flowprov
from flowprov import records
from tests.dask import steps
from tests.dask.support import dask_tasks, ended, metadata, statuses
from tests.support import lines, of_type, only, tasks, wait_until


def test_a_task_has_a_running_and_a_finished_record_with_one_id(client: Any, buffer: Path) -> None:
    with flowprov.workflow("Sums", dask_client=client) as workflow:
        assert client.submit(steps.add, 1).result() == 3
        recorded = dask_tasks(buffer)  # both records are there before the result is
    running, finished = recorded
    assert [task.status for task in recorded] == ["RUNNING", "FINISHED"]
    assert running.task_id == finished.task_id
    assert {task.workflow_id for task in recorded} == {workflow.workflow_id}
    assert {task.campaign_id for task in recorded} == {workflow.campaign_id}
    assert {task.activity_id for task in recorded} == {"add"}
    assert running.used == finished.used == {"x": 1, "y": 2}
    assert running.generated is None
    assert finished.generated == {"result": 3}
    assert None not in (running.submitted_at, running.started_at, finished.ended_at)
    assert running.submitted_at <= running.started_at <= finished.ended_at  # type: ignore[operator]
    assert "Dask" in str(finished.thread)
    assert metadata(finished, "dask_key").startswith("add-")
    assert metadata(finished, "worker").startswith("tcp://")


def test_inputs_are_named_and_futures_among_them_are_references(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        one, two = client.submit(steps.add, 1), client.submit(steps.add, 2)
        assert client.submit(steps.total, [one, two, 3], one, bonus=two).result() == {"total": 17}
    names = {future: f"dask:{future.key}" for future in (one, two)}
    finished = only(ended(buffer, "total"))
    assert finished.used == {
        "items": [{"$task": names[one]}, {"$task": names[two]}, 3],
        "more": [{"$task": names[one]}],
        "bonus": {"$task": names[two]},
    }
    assert finished.generated == {"total": 17}
    assert set(finished.dependencies or ()) == set(names.values())


def test_an_exception_is_recorded_with_its_traceback_and_reaches_the_client(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        future = client.submit(steps.fail, "no luck")
        assert isinstance(future.exception(), ValueError)
    failed = only(ended(buffer))
    assert failed.status == "ERROR"
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no luck")
    assert "steps.py" in str(failed.error.traceback)
    assert "raise ValueError(message)" in str(failed.error.traceback)


def test_an_exception_that_cannot_be_pickled_is_recorded_by_its_text(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        wait(client.submit(steps.fail_unpicklably))
    error = only(ended(buffer)).error
    assert "Unpicklable" in error.type
    assert "one and two" in error.message
    assert "fail_unpicklably" in error.traceback


def test_a_cancelled_task_ends_when_its_function_returns(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        future = client.submit(steps.hold, "cancel started", "cancel go")
        assert Event("cancel started", client=client).wait(30)
        future.cancel()
        wait_until(lambda: "cancelled" in client.run(steps.state_of, future.key).values())
        Event("cancel go", client=client).set()
        cancelled = only(wait_until(lambda: ended(buffer)))
    assert cancelled.status == "CANCELLED"
    assert cancelled.generated is None


def test_map_and_delayed_give_each_task_its_records(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        assert client.gather(client.map(steps.add, range(10), y=5)) == list(range(5, 15))
        graph = delayed(steps.add)(delayed(steps.add)(100), y=1)
        assert graph.compute() == 103
    recorded = ended(buffer, "add")
    assert sorted(task.generated["result"] for task in recorded if task.generated) == [
        *range(5, 15),
        102,
        103,
    ]
    assert len(dask_tasks(buffer)) == 2 * 12
    assert len({task.task_id for task in recorded}) == 12


def test_a_key_that_runs_twice_is_two_executions(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        for _ in range(2):
            future = client.submit(steps.add, 1, key="the same")
            future.result()
            future.release()
            wait_until(lambda: not any(client.has_what().values()))
        wait([client.submit(steps.add, 1, pure=False) for _ in range(2)])
    finished = ended(buffer)
    assert statuses(finished) == ["FINISHED"] * 4
    assert len({task.task_id for task in finished}) == 4
    assert len([task for task in finished if metadata(task, "dask_key") == "the same"]) == 2


def test_each_attempt_of_a_task_that_is_retried_is_recorded(
    client: Any, buffer: Path, tmp_path: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        assert client.submit(steps.fail_once, str(tmp_path / "marker"), retries=1).result() == "done"
    first, second = sorted(ended(buffer), key=lambda task: int(metadata(task, "run_id")))
    assert (first.status, second.status) == ("ERROR", "FINISHED")
    assert first.task_id != second.task_id
    assert metadata(first, "dask_key") == metadata(second, "dask_key")


def test_what_happens_inside_a_task_belongs_to_it(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(steps.work, 2).result()
        here = client.submit(steps.where_am_i).result()
    finished = only(ended(buffer, "work"))
    rounds = [task for task in tasks(buffer) if task.activity_id == "round_iteration"]
    squares = [task for task in tasks(buffer) if task.activity_id == "square"]
    assert {task.parent_task_id for task in rounds} == {finished.task_id}
    assert [task.parent_task_id for task in squares] == [task.task_id for task in rounds]
    assert finished.generated == {"result": 1, "rounds": 2}
    assert finished.tags == ["worked"]
    assert metadata(finished, "kind") == "test"
    assert here["task"] == only(ended(buffer, "where_am_i")).task_id
    assert here["workflow"] == workflow.workflow_id


def test_the_task_of_a_coroutine_is_current_inside_it(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        here = client.submit(steps.where_is_a_coroutine).result()
    assert here["task"] == here["inside"]["task"] == only(ended(buffer)).task_id


def test_a_thread_of_a_task_belongs_to_its_workflow(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(steps.work_in_a_thread).result()
    square = only([task for task in tasks(buffer) if task.activity_id == "square"])
    assert square.workflow_id == workflow.workflow_id
    assert square.parent_task_id is None


def test_an_iteration_that_ended_by_the_exception_of_its_task_is_corrected(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        wait(client.submit(steps.fail_in_a_loop))
    correction = only(of_type(lines(buffer), records.Correction))
    assert correction.status == "ERROR"
    assert correction.error.message == "in the loop"


def test_only_dask_tasks_are_recorded_where_instrumentation_is_off(client: Any, buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, instrumentation={"enabled": False})
    with flowprov.workflow(dask_client=client):
        client.submit(steps.work, 2).result()
        here = client.submit(steps.where_am_i).result()
    assert {task.activity_id for task in tasks(buffer)} == {"work", "where_am_i"}
    assert here["task"] == only(ended(buffer, "where_am_i")).task_id
    assert only(ended(buffer, "work")).generated == {"result": 1, "rounds": 2}
