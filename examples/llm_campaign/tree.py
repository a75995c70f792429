"""The tree of what was recorded, as plain text: campaign > workflows > tasks > epochs > forwards.

Flows in: the frame that `flowprov.read_buffer` returns. Flows out: indented lines, each with a status and a
duration.
"""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd

from flowprov.read import tree

Row = dict[str, Any]


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame as dicts, with None for missing values."""

    def present(value: Any) -> Any:
        return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

    return [{str(key): present(value) for key, value in row.items()} for row in frame.to_dict("records")]


def format_tree(frame: pd.DataFrame) -> str:
    """Return the recorded tree of a frame.

    A task is under its parent task, else under its workflow. A workflow is under its parent workflow, else
    under its campaign. The two messages of a Dask task are one line.

    Parameters
    ----------
    frame
        What `flowprov.read_buffer` returned.
    """
    rows = rows_of(frame)
    rows.sort(key=lambda row: str(row["status"]) != "RUNNING")  # the end of a task replaces its start
    known = sorted({_id(row): row for row in rows}.values(), key=_start)
    lines = []
    for campaign_id in sorted({str(row["campaign_id"]) for row in rows}):
        own = {_id(row): row for row in known if str(row["campaign_id"]) == campaign_id}

        def line(key: str, own: dict[str, Row] = own) -> str:
            return f"{_label(own[key])}  {own[key]['status']}  {_duration(own[key])}"

        lines.append(f"campaign {campaign_id}")
        lines.append(textwrap.indent(tree(own.values(), most=len(own), label=line), "  "))
    return "\n".join(lines)


def _id(row: Row) -> str:
    return str(row["task_id"] if row["type"] == "task" else row["workflow_id"])


def _start(row: Row) -> float:
    return 0.0 if row["started_at"] is None else float(row["started_at"].timestamp())


def _label(row: Row) -> str:
    """Return the name of a row, with the losses of an epoch or the mode of a forward."""
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
