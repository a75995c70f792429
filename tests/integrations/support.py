"""What the tests of adapters share: one small problem, and what was recorded of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flowprov
from flowprov import guard
from flowprov.records import Task
from tests.support import only, tasks

Curves = dict[tuple[str, int], float]


class DiedError(Exception):
    """Stands for what kills a training."""


def run_of(buffer: Path) -> dict[str, Any]:
    """Return the only run of a buffer."""
    row: dict[str, Any] = only(flowprov.runs(buffer).to_dict("records"))
    return row


def curves(buffer: Path, run_id: str) -> Curves:
    """Return the metrics of a run; of each name and step there is one value."""
    rows = flowprov.metrics(buffer, run_id=run_id).to_dict("records")
    found = {(row["name"], row["step"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


def logged(entries: Iterable[Mapping[str, Any]], step: str = "step") -> Curves:
    """Return what a framework's own log holds, in the same form."""
    return {
        (name, int(entry[step])): float(value)
        for entry in entries
        for name, value in entry.items()
        if name != step and value not in ("", None)
    }


def parents(buffer: Path) -> dict[str, list[str]]:
    """Return for each activity the path of activities around each of its tasks, outermost first."""
    found = {task.task_id: task for task in tasks(buffer)}

    def around(task: Task) -> list[str]:
        above = None if task.parent_task_id is None else found[task.parent_task_id]
        return [] if above is None else [*around(above), str(above.activity_id)]

    paths: dict[str, list[str]] = {}
    for task in found.values():
        paths.setdefault(str(task.activity_id), []).append("/".join(around(task)))
    return paths


def assert_no_fault() -> None:
    """Check that flowprov met no fault of its own."""
    assert guard.internal_errors() == {}
