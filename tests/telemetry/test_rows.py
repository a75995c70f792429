"""From the sampler to the rows, end to end: which rows have readings, and which readings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.records import Sample, Task
from flowprov.runtime import runtime
from tests.support import lines, of_type, only, run
from tests.telemetry.support import ALL_HOST, await_samples

torch = pytest.importorskip("torch")


def rows_of(buffer: Path) -> list[dict[str, Any]]:
    runtime.reset()
    return flowprov.read_buffer(buffer, return_df=False, merge=True)


def record(buffer: Path, **settings: Any) -> None:
    telemetry = {**ALL_HOST, "interval": 0.02}
    flowprov.configure(journal={"path": str(buffer)}, **{"telemetry_capture": telemetry, **settings})


def test_every_row_has_readings_of_the_requested_kinds(buffer: Path) -> None:
    record(buffer)
    with flowprov.workflow("W"):
        for _ in flowprov.EpochLoop(1):
            flowprov.task(time.sleep)(0.05)
    rows = rows_of(buffer)
    assert len(rows) == 3
    for row in rows:
        for side in ("telemetry_at_start", "telemetry_at_end"):
            assert set(row[side]) >= {*ALL_HOST, "distance_s"}


def test_readings_lie_on_both_sides_of_a_task_and_are_the_nearest(buffer: Path) -> None:
    record(buffer)
    with flowprov.workflow("W"):
        await_samples(buffer, 1)
        flowprov.task(time.sleep)(0.3)
    row = next(row for row in rows_of(buffer) if row["type"] == "task")
    start, end = row["telemetry_at_start"], row["telemetry_at_end"]
    assert -10 < start["distance_s"] <= 0
    assert 0 <= end["distance_s"] < 10
    task, times = only(of_type(lines(buffer), Task)), [item.at for item in of_type(lines(buffer), Sample)]
    assert start["sampled_at"] == max(at for at in times if at <= task.started_at)
    assert end["sampled_at"] == min(at for at in times if at >= task.ended_at)


def test_rows_have_no_readings_if_telemetry_is_off(buffer: Path) -> None:
    record(buffer, telemetry_capture=None)
    flowprov.task(len)("abc")
    assert all(row["telemetry_at_start"] is row["telemetry_at_end"] is None for row in rows_of(buffer))


def test_iterations_of_lightweight_loops_have_no_readings_but_tasks_in_them_have(buffer: Path) -> None:
    record(buffer, instrumentation={"torch": {"epoch_loop": "lightweight", "batch_loop": "lightweight"}})
    with flowprov.workflow("W"):
        for _ in flowprov.EpochLoop(1):
            for _ in flowprov.BatchLoop(1):
                flowprov.task(time.sleep)(0.05)
    has_reading = {row["activity_id"]: row["telemetry_at_start"] is not None for row in rows_of(buffer)}
    assert has_reading == {
        None: True,
        "epoch_iteration": False,
        "train_batch_iteration": False,
        "sleep": True,
    }


@pytest.mark.parametrize(("mode", "expected"), [("tensor_inspection", False), ("telemetry", True)])
def test_child_forwards_have_readings_if_their_mode_includes_telemetry(
    buffer: Path, mode: str, *, expected: bool
) -> None:
    record(buffer)
    with flowprov.workflow("W"):
        model = flowprov.torch_capture(
            torch.nn.Sequential(torch.nn.ReLU()), what="parent_and_children", children_mode=mode
        )
        model(torch.ones(1, 3))
    rows = rows_of(buffer)
    assert {row["telemetry_at_end"] is not None for row in rows if row["subtype"] == "child_forward"} == {
        expected
    }
    assert all(row["telemetry_at_end"] for row in rows if row["subtype"] == "parent_forward")


@pytest.mark.parametrize("mode", ["sampled", "exact"])
def test_dask_tasks_have_the_readings_of_their_worker(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("distributed")
    printed, _ = run(
        f"""
        import os, time
        from distributed import Client, LocalCluster
        import flowprov
        from flowprov.runtime import runtime

        def work(seconds):
            time.sleep(seconds)
            return os.getpid()

        if __name__ == "__main__":
            kinds = {{"process": True, "interval": 0.02, "mode": "{mode}"}}
            flowprov.configure(telemetry_capture=kinds)
            with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
                with Client(cluster) as client, flowprov.workflow("W", dask_client=client):
                    pid = client.submit(work, 0.3).result()
            runtime.reset()
            rows = flowprov.read_buffer(return_df=False)
            for row in rows:
                if row["subtype"] == "dask_task":
                    sides = row["telemetry_at_start"], row["telemetry_at_end"]
                    print(row["pid"] == pid, row["status"], *(side is not None for side in sides))
        """,
        tmp_path,
    )
    assert printed.split("\n")[:2] == ["True RUNNING True False", "True FINISHED True True"]
