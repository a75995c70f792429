"""Records of the example campaign as they should be, and the types that its tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from ladder_checks import KINDS, MODULES, PARTS

from tests.support import clean_environment

RunScript = Callable[..., subprocess.CompletedProcess[str]]
LOSSES = [(4.0, 3.9), (3.5, 3.6), (3.1, 3.4), (2.9, 3.3)]
TENSOR = {"shape": [16, 8], "dtype": "int64", "device": "cpu", "nbytes": 1024}
Row = dict[str, Any]
BASE: Row = {
    "campaign_id": "campaign",
    "status": "FINISHED",
    "parent_task_id": None,
    "parent_workflow_id": None,
    "name": None,
    "activity_id": None,
    "subtype": None,
    "task_id": None,
    "generated": {},
    "custom_metadata": {},
}


def type_command(command: str, folder: Path) -> str:
    """Run a command as a person types it into a shell, and return what it prints."""
    done = subprocess.run(  # noqa: S602 -- a person types it into a shell
        command,
        shell=True,
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _span(start: float, end: float) -> Row:
    origin = pd.Timestamp("2026-01-01", tz="UTC")
    return {
        "started_at": origin + pd.Timedelta(seconds=start),
        "ended_at": origin + pd.Timedelta(seconds=end),
    }


def _workflow(name: str, span: Row, **columns: Any) -> Row:
    return BASE | {"type": "workflow", "name": name, "workflow_id": name, "used": {}} | span | columns


def _task(span: Row, **columns: Any) -> Row:
    return BASE | {"type": "task"} | span | columns


def _epoch(number: int, workflow_id: str) -> list[Row]:
    """One epoch and its six forwards."""
    start = 11.0 + 10 * number
    train_loss, val_loss = LOSSES[number]
    epoch_id = f"epoch{number}"
    epoch = _task(
        _span(start, start + 9),
        task_id=epoch_id,
        activity_id="epoch_iteration",
        subtype="iteration",
        parent_task_id="dask",
        workflow_id="SearchWorkflow",
        used={"i": number, "epoch": number + 1},
        generated={"train_loss": train_loss, "val_loss": val_loss},
    )
    forwards = [
        _task(
            _span(start + 1 + position, start + 1.5 + position),
            task_id=f"{epoch_id}-forward{position}",
            activity_id="TransformerModel",
            subtype="parent_forward",
            parent_task_id=epoch_id,
            workflow_id=workflow_id,
            used={"src": TENSOR},
            generated={"output": TENSOR},
            custom_metadata={"is_training": position < 2, "epoch": number, "module_path": ""},
        )
        for position in range(6)
    ]
    return [epoch, *forwards]


def _children(forward: Row, modules: tuple[str, ...]) -> list[Row]:
    """The forwards of modules in a forward."""
    ids = {"": forward["task_id"]} | {path: f"{forward['task_id']}-{path}" for path in modules}
    return [
        forward
        | {
            "task_id": ids[path],
            "activity_id": "Module",
            "subtype": "child_forward",
            "parent_task_id": ids[path.rpartition(".")[0].removesuffix(".layers")],
            "custom_metadata": forward["custom_metadata"] | {"module_path": path},
        }
        for path in modules
    ]


def record_of(step: int) -> list[Row]:
    """Build the rows that a step of the ladder must leave."""
    running = _task(
        _span(10.5, 70) | {"ended_at": pd.NaT},
        task_id="dask",
        activity_id="model_train",
        subtype="dask_task",
        workflow_id="SearchWorkflow",
        status="RUNNING",
        used={"lr": 0.01},
    )
    rows = [
        _workflow("SearchWorkflow", _span(10, 80)),
        running,
        running | {"status": "FINISHED"} | _span(10.5, 70),
    ]
    if step >= 2:
        rows.insert(0, _workflow("DataPrepWorkflow", _span(0, 5)))
    if step >= 5:
        profile = {"model_profile": {"params": 1000}}
        parents = {"parent_workflow_id": "SearchWorkflow", "custom_metadata": profile}
        rows.append(_workflow("TransformerModel", _span(10.6, 69), **parents))
    for number in range(4 if step >= 3 else 0):
        epoch, *forwards = _epoch(number, "TransformerModel" if step >= 5 else "SearchWorkflow")
        rows.append(epoch)
        if step >= 6 or (step >= 4 and number == 0):
            rows += forwards
        for forward in forwards if step >= 7 else []:
            rows += _children(forward, MODULES if step >= 9 else PARTS)
    return [row | _telemetry(row) for row in rows] if step >= 8 else rows


def _telemetry(row: Row) -> Row:
    """What is joined to a row, with the kinds that are read."""
    reading = {"distance_s": 0.1, **{kind: {} for kind in KINDS}}
    end = None if row["status"] == "RUNNING" else reading
    return {"telemetry_at_start": reading, "telemetry_at_end": end}
