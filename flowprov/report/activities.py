"""Where the time went, and what failed.

Flows in: sums for each activity, and tasks that failed. Flows out: rows of a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flowprov.read.labels import FORWARDS, ITERATION
from flowprov.records import Status, Workflow
from flowprov.report.parts import Activity, FailureGroup
from flowprov.report.task_answers import ActivityRow, FailedTask
from flowprov.report.text import UNKNOWN, format_duration, format_time, shown

MAX_GROUPS = 20
_MAX_TRACEBACK, _MAX_LINES = 3_000, 60
_KINDS: dict[str | None, str] = {
    None: "function",
    ITERATION: "loop",
    **dict.fromkeys(FORWARDS, "module"),
    "dask_task": "Dask task",
    "backward": "backward",
    "optimizer_step": "optimizer",
}


def activities_of(rows: Sequence[ActivityRow]) -> list[Activity]:
    """Return what the calls of each activity took together, the longest first."""
    most = max((row.total or 0.0 for row in rows), default=0.0)
    return [
        Activity(
            _name(row),
            _KINDS.get(row.subtype) or shown(row.subtype, 20),
            row.calls,
            format_duration(row.total),
            format_duration(None if row.total is None else row.total / row.calls),
            format_duration(row.longest),
            round(100 * (row.total or 0.0) / most, 1) if most else 0.0,
            row.errors,
        )
        for row in rows
    ]


def _name(row: ActivityRow) -> str:
    name = shown(row.activity.removesuffix("_iteration") if row.subtype == ITERATION else row.activity, 60)
    return f"{name} · {shown(row.module, 60)}" if row.module else name


def failures_of(failed: Iterable[FailedTask], workflows: Iterable[Workflow]) -> list[FailureGroup]:
    """Return failures by what they say; an error that ended several scopes is named where it began.

    Parameters
    ----------
    failed
        Tasks, the last one first.
    workflows
        Of which those are failures, too, whose error no task has.
    """
    groups: dict[tuple[str, str], list[FailedTask]] = {}
    for task in (*failed, *map(_as_task, filter(_has_failed, workflows))):
        groups.setdefault(_kind(task.error), []).append(task)
    return [_group(tasks) for tasks in list(groups.values())[:MAX_GROUPS]]


def _has_failed(workflow: Workflow) -> bool:
    return workflow.status == Status.ERROR.value and workflow.error is not None


def _as_task(workflow: Workflow) -> FailedTask:
    error = workflow.error
    fields = (
        {} if error is None else {name: getattr(error, name) for name in ("type", "message", "traceback")}
    )
    started, ended = (None if at is None else at / 1e9 for at in (workflow.started_at, workflow.ended_at))
    return FailedTask(
        workflow.name or "(unnamed)",
        "workflow",
        started,
        ended,
        workflow.hostname,
        workflow.pid,
        None,
        workflow.workflow_id,
        workflow.workflow_id,
        fields,
    )


def _kind(error: dict[str, Any]) -> tuple[str, str]:
    """Return what failures have in common: the type, and the message with its numbers left out."""
    message = str(error.get("message") or "")
    return str(error.get("type")), "".join("0" if char.isdigit() else char for char in message[:300])


def _group(tasks: Sequence[FailedTask]) -> FailureGroup:
    """Return one group; of the tasks that one error ended, the one counts that started last."""
    origins: dict[tuple[Any, ...], FailedTask] = {}
    for task in tasks:
        key = (task.workflow_id, task.pid, str(task.error.get("message")))
        known = origins.get(key)
        if known is None or _depth(task) > _depth(known):
            origins[key] = task
    last = max(origins.values(), key=lambda task: task.ended or task.started or 0.0)
    where = [shown(last.hostname or UNKNOWN, 40), "" if last.pid is None else f"pid {last.pid}"]
    where.append("" if last.rank is None else f"rank {last.rank}")
    at = last.ended or last.started
    return FailureGroup(
        error=shown(str(last.error.get("type") or "Error"), 80),
        message=shown(str(last.error.get("message") or ""), 400),
        activity=shown(last.activity, 80),
        when=format_time(None if at is None else int(at * 1e9)),
        place=", ".join(filter(None, where)),
        times=len(origins),
        ended=len(tasks),
        traceback=_end_of(str(last.error.get("traceback") or "")),
        id=last.task_id,
    )


def _depth(task: FailedTask) -> tuple[bool, float]:
    """Return what is larger for the task that is further inside; an iteration says less than a function."""
    return task.subtype != ITERATION, task.started or 0.0


def _end_of(traceback: str) -> str:
    """Return the end of a traceback, which says where it happened; each of its lines as one line."""
    lines = traceback[-_MAX_TRACEBACK:].splitlines()[-_MAX_LINES:]
    cut = len(traceback) > _MAX_TRACEBACK or len(traceback.splitlines()) > _MAX_LINES
    return "\n".join([*(["…"] if cut else []), *(shown(line, 300) for line in lines)])
