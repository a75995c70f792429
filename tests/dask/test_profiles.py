"""What the settings of a client say of Dask: its workers get the profile, and may record nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

import flowprov
from tests.dask import steps
from tests.dask.support import dask_tasks, ended
from tests.support import only


def open_workflow() -> None:
    """Open a workflow, which records the settings of the worker."""
    with flowprov.workflow("inner"):
        pass


def test_workers_get_the_profile_and_the_origins_of_the_clients_settings(buffer: Path) -> None:
    flowprov.configure(profile="cluster", journal__path=str(buffer), telemetry_capture__gpu=None)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow("outer", dask_client=client),
    ):
        client.submit(open_workflow).result()
    rows = flowprov.read_buffer(buffer, return_df=False)
    inner, outer = (only([row for row in rows if row["name"] == name]) for name in ("inner", "outer"))
    assert inner["settings"] == outer["settings"]
    assert inner["settings"]["profile"] == "cluster"
    assert inner["settings"]["origins"]["telemetry_capture.cpu"] == "profile single_gpu"


def test_without_dask_tasks_the_workflow_is_recorded_and_with_the_profile_off_nothing_is(
    client: Any, buffer: Path
) -> None:
    with flowprov.configured(dask__enabled=False), flowprov.workflow("W", dask_client=client):
        assert client.submit(steps.add, 1, pure=False).result() == 3
    assert only(flowprov.read_buffer(buffer, return_df=False))["name"] == "W"
    with flowprov.configured(profile="off"), flowprov.workflow("Off", dask_client=client):
        assert client.submit(steps.add, 1, pure=False).result() == 3
    assert only(flowprov.read_buffer(buffer, return_df=False))["name"] == "W"
    assert dask_tasks(buffer) == []
    with flowprov.workflow("On", dask_client=client):
        client.submit(steps.add, 1, pure=False).result()
    assert len(ended(buffer)) == 1
