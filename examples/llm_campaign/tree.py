"""The tree of what was recorded, as plain text: campaign > workflows > tasks > epochs > forwards.

Flows in: the frame that `flowprov.read_buffer` returns. Flows out: indented lines, each with a status and a
duration.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd

Row = dict[str, Any]
Children = dict[str | None, list[Row]]


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Give the rows of a frame as dicts, with None for what is missing."""

    def present(value: Any) -> Any:
        return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

    return [{str(key): present(value) for key, value in row.items()} for row in frame.to_dict("records")]


def format_tree(frame: pd.DataFrame) -> str:
    """Write the recorded tree of a frame.

    A task hangs under its parent task, else under its workflow; a workflow under its parent workflow, else
    under its campaign. Two messages of one Dask task make one line.

    Parameters
    ----------
    frame
        One row per message, with the columns of flowprov's tasks and workflows.
    """
    rows = rows_of(frame)
    workflows = {row["workflow_id"]: row for row in rows if row["type"] == "workflow"}
    rows.sort(key=lambda row: str(row["status"]) != "RUNNING")  # so that the end of a task replaces its start
    tasks = {row["task_id"]: row for row in rows if row["type"] == "task"}
    children: Children = defaultdict(list)
    for row in workflows.values():
        parent = row["parent_workflow_id"]
        children[parent if parent in workflows else row["campaign_id"]].append(row)
    for row in tasks.values():
        parent = row["parent_task_id"]
        home = row["workflow_id"] if row["workflow_id"] in workflows else row["campaign_id"]
        children[parent if parent in tasks else home].append(row)
    lines = []
    for campaign_id in sorted({str(row["campaign_id"]) for row in rows}):
        lines.append(f"campaign {campaign_id}")
        lines += _branches(campaign_id, children, 1)
    return "\n".join(lines)


def _branches(parent: str, children: Children, depth: int) -> list[str]:
    """Write what hangs under a node, in the order in which it started."""
    lines = []
    for row in sorted(children.get(parent, []), key=_start):
        own_id = row["task_id"] if row["type"] == "task" else row["workflow_id"]
        lines.append(f"{'  ' * depth}{_label(row)}  {row['status']}  {_duration(row)}")
        lines += _branches(own_id, children, depth + 1)
    return lines


def _start(row: Row) -> float:
    return 0.0 if row["started_at"] is None else float(row["started_at"].timestamp())


def _label(row: Row) -> str:
    """Name a row, with the losses of an epoch and the mode of a forward."""
    if row["type"] == "workflow":
        return f"workflow {row['name']}"
    name = (
        f"{row['subtype']} {row['activity_id']}"
        if isinstance(row["subtype"], str)
        else str(row["activity_id"])
    )
    used, generated, metadata = (_dict(row[key]) for key in ("used", "generated", "custom_metadata"))
    notes = [f"i={used['i']}"] if "i" in used else []
    notes += [f"{key}={generated[key]}" for key in ("train_loss", "val_loss") if key in generated]
    if "is_training" in metadata:
        notes.append("training" if metadata["is_training"] else "evaluation")
    return " ".join([name, *notes])


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _duration(row: Row) -> str:
    if row["started_at"] is None or row["ended_at"] is None:
        return "-"
    return f"{(row['ended_at'] - row['started_at']).total_seconds() * 1000:.1f} ms"
