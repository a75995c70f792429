"""There are exactly as many records as tasks, for each way to submit them; on many versions of Dask."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dask.delayed import delayed
from distributed import Client, LocalCluster, as_completed, wait

import flowprov
from flowprov import Buffer, records
from tests.dask import steps
from tests.dask.support import dask_tasks, ended, metadata
from tests.support import only, wait_until


@pytest.fixture
def equipped() -> Any:
    """Start a worker with a resource that tasks can ask for."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, resources={"LENS": 1}, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_records_are_exactly_the_tasks_that_ran(client: Any, buffer: Path, tmp_path: Path) -> None:
    db = pytest.importorskip("dask.bag")
    with flowprov.workflow("All", dask_client=client):
        first = client.submit(steps.add, 1)  # 1
        client.gather(client.map(steps.add, range(100, 110)))  # 10
        client.gather(client.map(steps.add, [1, 2], [first, 3], pure=False))  # 2
        delayed(steps.total)([delayed(steps.add)(200), delayed(steps.add)(201)]).compute()  # 2, and 1 total
        db.from_sequence(range(6), npartitions=3).map(steps.double).compute()  # 3
        client.submit(steps.fail_once, str(tmp_path / "marker"), retries=2).result()  # 2 attempts
        client.submit(steps.launch, 300).result()  # 1, and 1 add
        client.submit(steps.fail, "on purpose").exception()  # 1
    expected = {"add": 16, "total": 1, "double": 3, "fail_once": 2, "launch": 1, "fail": 1}
    counts = Counter(str(task.activity_id) for task in dask_tasks(buffer))
    assert counts == {name: 2 * count for name, count in expected.items()}
    by_status = Counter(task.status for task in dask_tasks(buffer))
    assert by_status == {"RUNNING": 24, "FINISHED": 22, "ERROR": 2}
    merged = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    assert len(merged) == len({row.task_id for row in merged}) == 24


def test_a_pure_call_whose_result_is_kept_runs_once_and_an_impure_one_twice(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        futures = [client.submit(steps.add, 1) for _ in range(2)]
        futures += [client.submit(steps.double, 1, pure=False) for _ in range(2)]
        client.gather(futures)
    assert Counter(task.activity_id for task in ended(buffer)) == {"add": 1, "double": 2}


def test_tasks_that_are_submitted_while_others_complete_are_recorded(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        completed, results = as_completed([client.submit(steps.add, 0, 1)]), []
        for future in completed:
            results.append(future.result())
            if len(results) < 5:
                completed.add(client.submit(steps.add, future, 1))
    assert results == [1, 2, 3, 4, 5]
    rows = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    rows.sort(key=lambda row: row.generated["result"])  # type: ignore[index]
    assert [row.dependencies for row in rows[1:]] == [[row.task_id] for row in rows[:-1]]


def test_resources_that_a_task_asked_for_are_recorded(equipped: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=equipped):
        equipped.gather(equipped.map(steps.add, range(3), resources={"LENS": 1}))
        equipped.submit(steps.double, 1).result()
    asked = ended(buffer, "add")
    assert [metadata(task, "resources") for task in asked] == [{"LENS": 1}] * 3
    assert "resources" not in (only(ended(buffer, "double")).custom_metadata or {})


def test_worker_and_durations_of_a_task_are_recorded(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client):
        addresses = sorted(client.scheduler_info()["workers"])
        first = client.submit(steps.add, 1, workers=addresses[:1])
        client.submit(steps.double, first, workers=addresses[1:2]).result()
    second = only(ended(buffer, "double"))
    assert metadata(second, "worker") == addresses[1]
    assert metadata(second, "worker_name") in (0, 1)
    assert metadata(second, "compute") >= 0
    assert metadata(second, "transfer") >= 0
    assert "transfer" not in (only(ended(buffer, "add")).custom_metadata or {})
    assert second.hostname
    assert "Dask" in str(second.thread)


def test_attempts_at_one_submission_are_numbered(client: Any, buffer: Path, tmp_path: Path) -> None:
    with flowprov.workflow(dask_client=client):
        client.submit(steps.fail_once, str(tmp_path / "marker"), retries=1).result()
        for _ in range(2):
            client.submit(steps.add, 1, key="mine").result()
            wait_until(lambda: not any(client.has_what().values()))
    rows = [row for row in Buffer(buffer).records(merge=True) if isinstance(row, records.Task)]
    attempts = [(row.activity_id, row.status, metadata(row, "attempt")) for row in rows]
    assert attempts[:2] == [("fail_once", "ERROR", 1), ("fail_once", "FINISHED", 2)]
    assert attempts[2:] == [("add", "FINISHED", 1)] * 2
    assert [metadata(row, "dask_key") for row in rows[2:]] == ["mine"] * 2


def test_a_search_has_a_run_for_each_configuration_however_often_it_was_tried(
    client: Any, buffer: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    marker = str(tmp_path / "marker")
    with flowprov.workflow("search", dask_client=client):
        futures = [client.submit(steps.fit, lr, pure=False) for lr in (0.1, -1.0, -2.0)]
        futures.append(client.submit(steps.fit, 0.4, marker, retries=1))
        wait(futures)
    runs = flowprov.runs(buffer).sort_values("params.lr").set_index("params.lr")
    assert runs["status"].to_dict() == {-2.0: "ERROR", -1.0: "ERROR", 0.1: "FINISHED", 0.4: "FINISHED"}
    assert runs["attempts"].tolist() == [1, 1, 1, 2]
    assert runs["error"].dropna().tolist() == ["ValueError: lr is below zero"] * 2


def test_results_are_described_and_never_copied(threads: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=threads):
        assert threads.submit(Uncopied).result().calls == []
    assert "Uncopied" in str(only(ended(buffer)).generated)


class Uncopied:
    """A result that notes each copy and pickle of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __copy__(self) -> None:
        self.calls.append("copy")

    def __deepcopy__(self, memo: Any) -> None:
        self.calls.append("deepcopy")

    def __reduce__(self) -> Any:
        self.calls.append("reduce")
        return Uncopied, ()
