"""How rows hang together: what a task is part of, what it holds, and the whole as a printed tree.

Flows in: rows of any form (a DataFrame, dicts, records). Flows out: ids, and text for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
    "generated",
)
_MOST_VALUES = 4  # of what a step generated, on its line
_LONGEST_VALUE = 40
_UNITS = ((1e6, "µs"), (1e3, "ms"), (1.0, "s"))


class _Node(NamedTuple):
    key: str
    parents: tuple[str | None, ...]  # the nearest first; the first that is known counts
    kind: tuple[str, str]  # name and status: siblings of one kind are folded
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


def tree(
    rows: Rows, *, most: int = 6, depth: int | None = None, label: Callable[[str], str] | None = None
) -> str:
    """Draw rows as a tree of text: workflows, the tasks in them, the tasks in those.

    Each line has a name, a status, a duration and the first scalars that were generated.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` gave.
    most
        How many children of one name and status are shown under one parent; the others are counted.
    depth
        How many levels are shown; None: all. Of what lies below, the number is told.
    label
        Gives the line of a task or workflow, by its id; None: as described.
    """
    nodes = _nodes(rows)
    below: dict[str | None, list[str]] = {}
    for key in nodes:
        below.setdefault(_parent(nodes, key), []).append(key)
    drawn: list[str] = []
    waiting = [(line, 0) for line in reversed(_shortened(nodes, below.get(None, []), most))]
    while waiting:
        key, level = waiting.pop()
        if key not in nodes:
            drawn.append("  " * level + key)
            continue
        inside = below.get(key, [])
        hidden = f"  ({len(inside)} inside)" if inside and level + 1 == depth else ""
        drawn.append("  " * level + (label(key) if label else nodes[key].label) + hidden)
        if not hidden:
            waiting += [(line, level + 1) for line in reversed(_shortened(nodes, inside, most))]
    return "\n".join(drawn)


def _shortened(nodes: dict[str, _Node], keys: list[str], most: int) -> list[str]:
    """Give the keys that are shown, and in the place of the others how many there are."""
    counts = Counter(nodes[key].kind for key in keys)
    met: Counter[tuple[str, str]] = Counter()
    shown: list[str] = []
    for key in keys:
        kind = name, status = nodes[key].kind
        met[kind] += 1
        if met[kind] <= most:
            shown.append(key)
        elif met[kind] == most + 1:
            told = "" if status == "FINISHED" else f"  {status}"
            shown.append(f"... {counts[kind] - most} more {name}{told}")
    return shown


def _nodes(rows: Rows) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    for row in iter_fields(rows, _WANTED):
        key = row["task_id"] or row["workflow_id"]
        if row["task_id"] is None:
            parents: tuple[str | None, ...] = (row["parent_workflow_id"],)
        else:
            parents = (row["parent_task_id"], row["workflow_id"])
        kind = (_name(row), str(row["status"] or ""))
        nodes[key] = _Node(key, parents, kind, _label(row, *kind))  # of two messages the later one tells more
    return nodes


def _parent(nodes: dict[str, _Node], key: str) -> str | None:
    node = nodes.get(key)
    return next((p for p in node.parents if p in nodes), None) if node else None


def iter_fields(rows: Rows, wanted: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Give the wanted fields of each row as a dict."""
    if hasattr(rows, "columns"):
        frame = cast("pd.DataFrame", rows)
        columns = [frame[name] for name in wanted]
        return (dict(zip(wanted, values, strict=True)) for values in zip(*columns, strict=True))
    return (
        {name: row.get(name) if isinstance(row, dict) else getattr(row, name, None) for name in wanted}
        for row in rows
    )


def _name(row: dict[str, Any]) -> str:
    name = row["activity_id"] if row["task_id"] is not None else row["name"]
    return printable(str(name or "(unnamed)"))


def _label(row: dict[str, Any], name: str, status: str) -> str:
    parts = [name, status]
    duration = row["duration"]
    if duration is None and isinstance(row["started_at"], int) and isinstance(row["ended_at"], int):
        duration = (row["ended_at"] - row["started_at"]) / 1e9
    if duration is not None and duration == duration:  # noqa: PLR0124 - NaN is how a DataFrame says unknown
        parts.append(_lasted(duration))
    parts.append(_scalars(row["generated"]))
    return "  ".join(part for part in parts if part)


def _lasted(seconds: float) -> str:
    factor, unit = next(((f, u) for f, u in _UNITS if seconds * f < 1000), _UNITS[-1])
    return f"{seconds * factor:.3g} {unit}" if unit != "s" else f"{seconds:.1f} s"


def _scalars(generated: Any) -> str:
    """Write the first scalars of a mapping, as ``name=value``."""
    if not isinstance(generated, dict):
        return ""
    found = [(name, value) for name, value in generated.items() if isinstance(value, (bool, int, float, str))]
    written = [f"{printable(str(name))}={_scalar(value)}" for name, value in found[:_MOST_VALUES]]
    return " ".join([*written, *(["..."] if len(found) > _MOST_VALUES else [])])


def _scalar(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(str(value))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def printable(text: str) -> str:
    """Give a recorded text so that it stays on its line and steers no terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
