"""Artifacts in Dask tasks: they belong to the task, and a handle travels from one worker to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flowprov
from tests.contents.files import sha256
from tests.dask import steps
from tests.dask.support import dask_tasks


def test_an_artifact_belongs_to_its_dask_task_and_travels_to_another_one(
    client: Any, buffer: Path, tmp_path: Path
) -> None:
    with flowprov.workflow("Chain", dask_client=client) as workflow:
        made = client.submit(steps.write_artifact, str(tmp_path / "made.bin"), "content")
        assert client.submit(steps.read_artifact, made).result() == sha256(b"content")
    ids = {task.activity_id: task.task_id for task in dask_tasks(buffer)}
    frame = flowprov.artifacts(buffer)
    rows = {(row.role, row.task_id, row.workflow_id) for row in frame.itertuples()}
    assert rows == {
        ("generated", ids["write_artifact"], workflow.workflow_id),
        ("used", ids["read_artifact"], workflow.workflow_id),
    }
    assert set(frame["digest"]) == {sha256(b"content")}
    found = flowprov.lineage(str(ids["read_artifact"]), buffer)
    assert "write_artifact" in str(found)
