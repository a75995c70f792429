"""Follow the parent links of rows: ancestors, children, and the whole as a printed tree.

Flows in: rows in any form (a DataFrame, dicts, records). Flows out: ids, and text for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from flowprov.errors import UnknownIdError
from flowprov.read.attempts import attempt_key, id_of_key
from flowprov.read.labels import FORWARDS, LABEL_FIELDS, labels_of, shown_rank, title_of
from flowprov.read.siblings import Kind, Siblings, draw, walk, without_circles
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = "pd.DataFrame | Iterable[Task | Workflow | dict[str, Any]]"

_MERGED_FIELDS = ("used", "generated", "custom_metadata", "error")


class _Node(NamedTuple):
    parents: tuple[str | None, ...]  # the nearest first; the first of them that has a row is the parent
    row: dict[str, Any]


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
    path: dict[str, None] = {}
    key = _parent(nodes, task_id)
    while key is not None and id_of_key(key) not in path and id_of_key(key) != task_id:
        path[id_of_key(key)] = None
        key = _parent(nodes, key)
    return list(path)


def children(rows: Rows, task_id: str) -> list[str]:
    """Return the ids of what is directly inside a task or a workflow, in the order of the rows.

    What is inside a workflow is what is inside any of its attempts.

    Raises
    ------
    UnknownIdError
        If no row has this id.
    """
    nodes = _nodes_with(rows, task_id)
    parents = ((id_of_key(key), _parent(nodes, key)) for key in nodes)
    inside = (key for key, parent in parents if parent is not None and id_of_key(parent) == task_id)
    return [key for key in dict.fromkeys(inside) if key != task_id]


def tree(
    rows: Rows,
    *,
    most: int = 6,
    depth: int | None = None,
    label: Callable[[str], str] | None = None,
    fold_forwards: bool = False,
) -> str:
    """Return rows drawn as a tree of text: workflows, the tasks in them, and the tasks in those.

    Each line has a name, a status, a duration, the rank, the first scalars that were used and generated,
    above all those in which siblings differ, and the error.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` returned.
    most
        How many children of one name and status are shown under one parent: the last ones. The others are
        counted.
    depth
        How many levels are shown; None: all. The last level shows how many children each item has.
    label
        Returns the line of a task or workflow, by its id. None: the line described above.
    fold_forwards
        Whether the forwards of one name under one parent are one line with their count.
    """
    nodes = _nodes(rows)
    parents = {key: _parent(nodes, key) for key in nodes}
    parents |= without_circles({key: parents[key] for key in nodes if nodes[key].row["task_id"] is None})
    inside: dict[str | None, Siblings] = {}
    for number, (key, node) in enumerate(nodes.items()):
        folded = fold_forwards and node.row["subtype"] in FORWARDS
        kind = Kind(title_of(node.row), str(node.row["status"] or ""), folded)
        siblings = inside.setdefault(parents[key], Siblings(most))
        siblings.add(key, number, kind, _duration_ns(node.row) if folded else 0)

    def labels(parent: str | None, keys: list[str]) -> list[str]:
        if label is not None:
            return [label(id_of_key(key)) for key in keys]
        rank = None if parent is None else shown_rank(nodes[parent].row)
        return labels_of([nodes[key].row for key in keys], rank)

    return "\n".join(draw(walk(inside, labels, depth)))


def _duration_ns(row: dict[str, Any]) -> int:
    started, ended, duration = row["started_at"], row["ended_at"], row["duration"]
    if isinstance(started, int) and isinstance(ended, int):
        return ended - started
    return int(duration * 1e9) if isinstance(duration, float) and duration == duration else 0  # noqa: PLR0124 - NaN


def _nodes_with(rows: Rows, task_id: str) -> dict[str, _Node]:
    nodes = _nodes(rows)
    if task_id not in nodes:
        names = {key: title_of(node.row) for key, node in nodes.items()}
        raise UnknownIdError(describe_unknown("task or workflow", task_id, "the table of rows", names))
    return nodes


def _nodes(rows: Rows) -> dict[str, _Node]:
    nodes: dict[str, _Node] = {}
    starts: dict[str, list[Any]] = {}  # of the attempts of workflows
    for row in iter_fields(rows, LABEL_FIELDS):
        workflow = _attempt_key(row["workflow_id"], row["attempt"])
        key = row["task_id"] if row["task_id"] is not None else workflow
        if key is None:  # a row of something else
            continue
        if key in nodes:  # the later of two messages holds more, and may leave out what the first one has
            before = nodes[key].row
            row.update({name: before[name] for name in _MERGED_FIELDS if row[name] is None})
        nodes[key] = _Node((row["parent_task_id"], workflow, row["workflow_id"]), row)
        if row["task_id"] is None and _is_known(row["started_at"]):
            starts.setdefault(row["workflow_id"], []).append(row["started_at"])
    for key, (_, row) in nodes.items():
        if row["task_id"] is None:
            parent = row["parent_workflow_id"]
            nodes[key] = _Node((_attempt_key(parent, _begun(starts.get(parent), row)), parent), row)
    return nodes


def _begun(starts: list[Any] | None, row: dict[str, Any]) -> int | None:
    """Return how many attempts had begun when a workflow inside began; None if that is not known."""
    if starts is None or len(starts) == 1 or not _is_known(row["started_at"]):
        return None
    return sum(bool(start <= row["started_at"]) for start in starts)


def _attempt_key(workflow_id: str | None, attempt: int | None) -> str | None:
    return None if workflow_id is None else attempt_key(workflow_id, attempt)


def _is_known(value: Any) -> bool:
    return value is not None and value == value  # noqa: PLR0124 - NaN and NaT mean unknown in a DataFrame


def _parent(nodes: dict[str, _Node], key: str) -> str | None:
    node = nodes.get(key)
    return next((p for p in node.parents if p in nodes and p != key), None) if node else None


def _cells(column: pd.Series[Any]) -> Iterable[Any]:
    """Return the cells of a column; None for those that are missing among categories or integers."""
    if str(column.dtype) in ("category", "Int64"):
        known: pd.Series[Any] = column.astype(object).where(column.notna(), None)
        return known
    return column


def iter_fields(rows: Rows, names: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Return an iterator over the named fields of each row, as dicts."""
    if hasattr(rows, "columns"):
        frame = cast("pd.DataFrame", rows)
        columns = [_cells(frame[name]) if name in frame else [None] * len(frame) for name in names]
        return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return (
        {name: row.get(name) if isinstance(row, dict) else getattr(row, name, None) for name in names}
        for row in rows
    )
