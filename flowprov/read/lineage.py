"""How rows hang together: what a task is part of, what it holds, and the whole as a printed tree.

Flows in: rows of any form (a DataFrame, dicts, records). Flows out: ids, and text for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from flowprov.records import Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = "pd.DataFrame | Iterable[Task | Workflow | dict[str, Any]]"

_WANTED = (
    "workflow_id",
    "parent_workflow_id",
    "task_id",
    "parent_task_id",
    "name",
    "activity_id",
    "status",
    "started_at",
    "ended_at",
    "duration",
)


class _Node(NamedTuple):
    key: str
    parents: tuple[str | None, ...]  # the nearest first; the first that is known counts
    label: str


def ancestors(rows: Rows, task_id: str) -> list[str]:
    """List what a task is part of, innermost first: tasks, then its workflow and the workflows around that.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` gave.
    task_id
        A task or a workflow.
    """
    nodes = _nodes(rows)
    found: list[str] = []
    key = _parent(nodes, task_id)
    while key is not None and key not in found and key != task_id:
        found.append(key)
        key = _parent(nodes, key)
    return found


def children(rows: Rows, task_id: str) -> list[str]:
    """List what is directly inside a task or a workflow, in the order of the rows."""
    nodes = _nodes(rows)
    return [key for key in nodes if key != task_id and _parent(nodes, key) == task_id]


def tree(rows: Rows, *, most: int = 6) -> str:
    """Draw rows as a tree of text: workflows, the tasks in them, the tasks in those.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` gave.
    most
        How many children of one name are shown under one parent; the others are counted.
    """
    nodes = _nodes(rows)
    below: dict[str | None, list[str]] = {}
    for key in nodes:
        below.setdefault(_parent(nodes, key), []).append(key)
    drawn: list[str] = []
    waiting = [(key, 0) for key in reversed(below.get(None, []))]
    while waiting:
        key, depth = waiting.pop()
        if key not in nodes:
            drawn.append("  " * depth + key)
            continue
        drawn.append("  " * depth + nodes[key].label)
        waiting += [(line, depth + 1) for line in reversed(_shortened(nodes, below.get(key, []), most))]
    return "\n".join(drawn)


def _shortened(nodes: dict[str, _Node], keys: list[str], most: int) -> list[str]:
    """Give the keys that are shown, and in the place of the others how many there are."""
    shown: list[str] = []
    counts: dict[str, int] = {}
    for key in keys:
        name = nodes[key].label.partition("  ")[0]
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= most:
            shown.append(key)
    return shown + [f"... {count - most} more {name}" for name, count in counts.items() if count > most]


def _nodes(rows: Rows) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    for row in _plain(rows):
        key = row["task_id"] or row["workflow_id"]
        if row["task_id"] is None:
            parents: tuple[str | None, ...] = (row["parent_workflow_id"],)
        else:
            parents = (row["parent_task_id"], row["workflow_id"])
        nodes[key] = _Node(key, parents, _label(row))  # of two messages the later one tells more
    return nodes


def _parent(nodes: dict[str, _Node], key: str) -> str | None:
    node = nodes.get(key)
    return next((p for p in node.parents if p in nodes), None) if node else None


def _plain(rows: Rows) -> Iterable[dict[str, Any]]:
    """Give the wanted fields of each row as a dict."""
    if hasattr(rows, "columns"):
        frame = cast("pd.DataFrame", rows)
        columns = [frame[name] for name in _WANTED]
        return (dict(zip(_WANTED, values, strict=True)) for values in zip(*columns, strict=True))
    return (
        {name: row.get(name) if isinstance(row, dict) else getattr(row, name, None) for name in _WANTED}
        for row in rows
    )


def _label(row: dict[str, Any]) -> str:
    name = row["activity_id"] if row["task_id"] is not None else row["name"]
    parts = [str(name or "(unnamed)"), str(row["status"] or "")]
    duration = row["duration"]
    if duration is None and isinstance(row["started_at"], int) and isinstance(row["ended_at"], int):
        duration = (row["ended_at"] - row["started_at"]) / 1e9
    if duration is not None and duration == duration:  # noqa: PLR0124 - NaN is how a DataFrame says unknown
        parts.append(f"{duration:.3g} s")
    return "  ".join(part for part in parts if part)
