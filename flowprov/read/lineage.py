"""Follow the parent links of rows: ancestors, children, and the whole as a printed tree.

Flows in: rows in any form (a DataFrame, dicts, records). Flows out: ids, and text for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from flowprov.errors import UnknownIdError
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = "pd.DataFrame | Iterable[Task | Workflow | dict[str, Any]]"

_FIELDS = (
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
_MAX_VALUES = 4  # generated values that are shown on the line of a task
_MAX_VALUE_LENGTH = 40  # characters
_UNITS = ((1e6, "µs"), (1e3, "ms"), (1.0, "s"))


class _Node(NamedTuple):
    key: str
    parents: tuple[str | None, ...]  # the nearest first; the first of them that has a row is the parent
    kind: tuple[str, str]  # name and status; many siblings of one kind are shortened
    label: str


def ancestors(rows: Rows, task_id: str) -> list[str]:
    """Return the ids of what a task is part of, innermost first: tasks, its workflow, and outer workflows.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` returned.
    task_id
        The id of a task or a workflow.

    Raises
    ------
    UnknownIdError
        If no row has this id.
    """
    nodes = _nodes_with(rows, task_id)
    path: list[str] = []
    key = _parent(nodes, task_id)
    while key is not None and key not in path and key != task_id:
        path.append(key)
        key = _parent(nodes, key)
    return path


def children(rows: Rows, task_id: str) -> list[str]:
    """Return the ids of what is directly inside a task or a workflow, in the order of the rows.

    Raises
    ------
    UnknownIdError
        If no row has this id.
    """
    nodes = _nodes_with(rows, task_id)
    return [key for key in nodes if key != task_id and _parent(nodes, key) == task_id]


def tree(
    rows: Rows, *, most: int = 6, depth: int | None = None, label: Callable[[str], str] | None = None
) -> str:
    """Return rows drawn as a tree of text: workflows, the tasks in them, and the tasks in those.

    Each line has a name, a status, a duration and the first scalars that were generated.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` returned.
    most
        How many children of one name and status are shown under one parent; the others are counted.
    depth
        How many levels are shown; None: all. The last level shows how many children each item has.
    label
        Returns the line of a task or workflow, by its id. None: the line described above.
    """
    nodes = _nodes(rows)
    children_of: dict[str | None, list[str]] = {}
    for key in nodes:
        children_of.setdefault(_parent(nodes, key), []).append(key)
    lines: list[str] = []
    stack = [(line, 0) for line in reversed(_limit_siblings(nodes, children_of.get(None, []), most))]
    while stack:
        key, level = stack.pop()
        if key not in nodes:
            lines.append("  " * level + key)
            continue
        inside = children_of.get(key, [])
        hidden = f"  ({len(inside)} inside)" if inside and level + 1 == depth else ""
        lines.append("  " * level + (label(key) if label else nodes[key].label) + hidden)
        if not hidden:
            stack += [(line, level + 1) for line in reversed(_limit_siblings(nodes, inside, most))]
    return "\n".join(lines)


def _limit_siblings(nodes: dict[str, _Node], keys: list[str], most: int) -> list[str]:
    """Return the keys that are shown, and for each kind one line that counts those that are not."""
    counts = Counter(nodes[key].kind for key in keys)
    visited: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for key in keys:
        kind = name, status = nodes[key].kind
        visited[kind] += 1
        if visited[kind] <= most:
            lines.append(key)
        elif visited[kind] == most + 1:
            suffix = "" if status == "FINISHED" else f"  {status}"
            lines.append(f"... {counts[kind] - most} more {name}{suffix}")
    return lines


def _nodes_with(rows: Rows, task_id: str) -> dict[str, _Node]:
    nodes = _nodes(rows)
    if task_id not in nodes:
        names = {key: node.kind[0] for key, node in nodes.items()}
        raise UnknownIdError(describe_unknown("task or workflow", task_id, "the table of rows", names))
    return nodes


def _nodes(rows: Rows) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    for row in iter_fields(rows, _FIELDS):
        key = row["task_id"] or row["workflow_id"]
        if row["task_id"] is None:
            parents: tuple[str | None, ...] = (row["parent_workflow_id"],)
        else:
            parents = (row["parent_task_id"], row["workflow_id"])
        kind = (_name(row), str(row["status"] or ""))
        nodes[key] = _Node(key, parents, kind, _label(row, *kind))  # the later of two messages holds more
    return nodes


def _parent(nodes: dict[str, _Node], key: str) -> str | None:
    node = nodes.get(key)
    return next((p for p in node.parents if p in nodes), None) if node else None


def iter_fields(rows: Rows, names: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Return an iterator over the named fields of each row, as dicts."""
    if hasattr(rows, "columns"):
        frame = cast("pd.DataFrame", rows)
        columns = [frame[name] for name in names]
        return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return (
        {name: row.get(name) if isinstance(row, dict) else getattr(row, name, None) for name in names}
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
    if duration is not None and duration == duration:  # noqa: PLR0124 - NaN means unknown in a DataFrame
        parts.append(_format_duration(duration))
    parts.append(_format_scalars(row["generated"]))
    return "  ".join(part for part in parts if part)


def _format_duration(seconds: float) -> str:
    factor, unit = next(((f, u) for f, u in _UNITS if seconds * f < 1000), _UNITS[-1])
    return f"{seconds * factor:.3g} {unit}" if unit != "s" else f"{seconds:.1f} s"


def _format_scalars(generated: Any) -> str:
    """Return the first scalars of a mapping as text, each as ``name=value``."""
    if not isinstance(generated, dict):
        return ""
    scalars = [
        (name, value) for name, value in generated.items() if isinstance(value, (bool, int, float, str))
    ]
    parts = [f"{printable(str(name))}={_format_scalar(value)}" for name, value in scalars[:_MAX_VALUES]]
    return " ".join([*parts, *(["..."] if len(scalars) > _MAX_VALUES else [])])


def _format_scalar(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(str(value))
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 3] + "..."


def printable(text: str) -> str:
    """Return a recorded text with line breaks and control characters escaped: they could steer a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]
