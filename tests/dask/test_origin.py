"""The workflow, campaign and parent of a Dask task, however it was submitted."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import dask
import pytest
from dask.base import annotate
from dask.delayed import delayed
from distributed import Client

import flowprov
from flowprov import guard
from flowprov.capture.dask import origin
from tests.dask import steps
from tests.dask.support import dask_tasks, ended
from tests.support import only, tasks


def _in_threads(*functions: Any) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_workflows_of_several_threads_on_one_client_do_not_mix(client: Any, buffer: Path) -> None:
    together = threading.Barrier(3)
    expected: dict[str, list[int]] = {}

    def run(number: int) -> None:
        with flowprov.workflow(f"W{number}", dask_client=client) as workflow:
            together.wait()
            client.gather([client.submit(steps.add, number, pure=False) for _ in range(5)])
            expected[workflow.workflow_id] = [number] * 5

    _in_threads(*(lambda n=n: run(n) for n in range(3)))
    recorded: dict[str, list[int]] = {}
    for task in ended(buffer):
        assert task.used is not None
        recorded.setdefault(str(task.workflow_id), []).append(task.used["x"])
    assert recorded == expected


def test_campaigns_on_one_cluster_have_journals_of_their_own(client: Any, cluster: Any, buffer: Path) -> None:
    with (
        Client(cluster, set_as_default=False) as other,
        flowprov.workflow("A", campaign_id="one", dask_client=client) as first,
        flowprov.workflow("B", campaign_id="two", dask_client=other) as second,
    ):
        client.submit(steps.add, 1).result()
        other.submit(steps.add, 2).result()
    for workflow, number in ((first, 1), (second, 2)):
        finished = only(ended(buffer / workflow.campaign_id))
        assert finished.used["x"] == number
        assert finished.workflow_id == workflow.workflow_id


def test_the_inner_of_two_workflows_on_a_client_has_the_tasks(client: Any, buffer: Path) -> None:
    with flowprov.workflow("Outer", dask_client=client) as outer:
        with flowprov.workflow("Inner", dask_client=client) as inner:
            client.submit(steps.add, 1, pure=False).result()
        client.submit(steps.add, 2, pure=False).result()
    assert [task.workflow_id for task in sorted(ended(buffer), key=lambda task: task.started_at or 0)] == [
        inner.workflow_id,
        outer.workflow_id,
    ]


def test_a_graph_belongs_to_the_workflow_that_computes_it(client: Any, buffer: Path) -> None:
    with flowprov.workflow("Builds", dask_client=client):
        graph = delayed(steps.add)(1)
    with flowprov.workflow("Computes", dask_client=client) as workflow:
        graph.compute()
    assert only(ended(buffer)).workflow_id == workflow.workflow_id


def test_a_submission_from_a_thread_belongs_to_the_only_workflow(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        _in_threads(lambda: client.submit(steps.add, 1).result())
    assert only(ended(buffer)).workflow_id == workflow.workflow_id


def test_a_submission_from_a_thread_that_two_workflows_could_have_made_gives_a_warning_and_no_record(
    client: Any, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "flowprov"),
        flowprov.workflow("A", dask_client=client),
        flowprov.workflow("B", dask_client=client) as inner,
    ):
        _in_threads(lambda: client.submit(steps.add, 1).result())
        bound = flowprov.bind(lambda: client.submit(steps.add, 2).result())
        _in_threads(bound)
    assert "flowprov.bind" in caplog.text
    finished = only(ended(buffer))
    assert finished.used["x"] == 2
    assert finished.workflow_id == inner.workflow_id


def test_a_task_that_a_task_submits_is_its_child(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(steps.launch, 5).result()
        client.submit(steps.launch_inside_a_scope, 6).result()
    children = {task.used["x"]: task for task in ended(buffer, "add") if task.used}
    scope = only([task for task in tasks(buffer) if task.activity_id == "launching"])
    assert children[5].parent_task_id == only(ended(buffer, "launch")).task_id
    assert children[6].parent_task_id == scope.task_id
    assert {task.workflow_id for task in tasks(buffer)} == {workflow.workflow_id}


def test_a_task_that_a_thread_of_a_task_submits_belongs_to_its_workflow(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(steps.launch_in_a_thread, 5).result()
    launched = only(ended(buffer, "add"))
    assert (launched.workflow_id, launched.parent_task_id) == (workflow.workflow_id, None)


def test_a_task_submitted_inside_a_task_scope_is_its_child(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client), flowprov.task_scope("sweep") as step:
        client.submit(steps.add, 1).result()
    assert only(ended(buffer)).parent_task_id == step.task_id


def test_a_task_of_no_workflow_is_not_recorded(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        client.submit(steps.add, 1).result()
    client.submit(steps.add, 2).result()
    with flowprov.workflow("no client of Dask"):
        client.submit(steps.add, 3).result()
    assert only(ended(buffer)).used == {"x": 1, "y": 2}


def test_annotations_of_the_user_are_kept_and_only_the_client_sees_the_one_of_flowprov(client: Any) -> None:
    with flowprov.workflow(dask_client=client), annotate(priority=3):
        module: Any = dask
        assert module.get_annotations() == {"priority": 3}
        future = client.submit(steps.add, 7)
        future.result()
        annotations = client.run_on_scheduler(
            lambda key, dask_scheduler: dict(dask_scheduler.tasks[key].annotations), key=future.key
        )
    assert annotations.pop(origin.ANNOTATION_KEY)["workflow_id"]
    assert annotations == {"priority": 3}


def test_an_internal_error_at_a_submission_is_counted_and_the_task_runs(
    client: Any, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_client: Any) -> None:
        raise RuntimeError("on purpose")

    with flowprov.workflow(dask_client=client):
        monkeypatch.setattr("flowprov.capture.dask.submission.annotation_for_submission", broken)
        assert client.submit(steps.add, 1).result() == 3
    assert guard.internal_errors() == {"finding the workflow of a Dask submission: RuntimeError": 1}
    assert dask_tasks(buffer) == []


def test_annotations_of_dask_carry_the_workflow_where_clients_do_not_ask_the_wrapper(
    client: Any, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowprov.capture.dask.submission.install", lambda: False)
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(steps.add, 1).result()
    assert only(ended(buffer)).workflow_id == workflow.workflow_id


def test_a_worker_that_does_not_see_the_buffer_writes_to_its_own(
    buffer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task_context = origin.TaskContext(
        "campaign", "workflow", buffer=str(tmp_path / "elsewhere"), nonce="c/h/1-a.jsonl"
    )
    with caplog.at_level(logging.WARNING, "flowprov"):
        assert origin.journal_of(task_context).settings.path == str(buffer)
    assert str(buffer) in caplog.text
    (tmp_path / "seen" / "c" / "h").mkdir(parents=True)
    (tmp_path / "seen" / "c" / "h" / "1-a.jsonl").touch()
    task_context = origin.TaskContext(
        "campaign", "workflow", buffer=str(tmp_path / "seen"), nonce="c/h/1-a.jsonl"
    )
    assert origin.journal_of(task_context).settings.path == str(tmp_path / "seen")
