"""What a report asks of the tasks of a campaign, without a record of each: the longest, the failed, and sums.

Flows in: a campaign. Flows out: rows. duckdb reads Parquet files and closed journals where they
are, so a campaign of millions of tasks needs no more memory than a small one; without it all are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

import msgspec

from flowprov.read.campaign_sources import CampaignSource
from flowprov.read.sql_query import rows_of_tasks

MAX_BARS = 300
MAX_ACTIVITIES = 40
MAX_FAILED = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FORWARDS = "('parent_forward', 'child_forward')"
# Iterations come last: they are drawn where there is little else.
_LONGEST = f"""
    select activity_id, subtype, status, started_at, ended_at, hostname, pid, rank, task_id
    from tasks
    where started_at is not null and coalesce(subtype, '') <> 'child_forward'
    order by case when subtype = 'iteration' or subtype in {_FORWARDS} then 1 else 0 end,
        coalesce(duration, 1e300) desc, task_id
    limit {MAX_BARS}
"""  # noqa: S608 - constants
_ACTIVITIES = f"""
    select activity_id, subtype,
        case when subtype in {_FORWARDS} then custom_metadata->>'$.module_path' end as module,
        count(*), sum(duration), max(duration), sum(case when status = 'ERROR' then 1 else 0 end)
    from tasks
    group by 1, 2, 3
    order by coalesce(sum(duration), 0) desc, 1, 2, 3
    limit {MAX_ACTIVITIES}
"""  # noqa: S608 - constants
_FAILED = f"""
    select activity_id, subtype, started_at, ended_at, hostname, pid, rank, workflow_id, task_id, error,
        count(*) over () as total
    from tasks
    where status = 'ERROR'
    order by coalesce(ended_at, started_at) desc, started_at desc, task_id
    limit {MAX_FAILED}
"""  # noqa: S608 - constants


class LongTask(NamedTuple):
    """A task for a timeline; times are in seconds since the epoch, ``ended`` is None if it has no end."""

    activity: str
    subtype: str | None
    status: str | None
    started: float
    ended: float | None
    hostname: str | None
    pid: int | None
    rank: int | None


class ActivityRow(NamedTuple):
    """Calls of one activity, with the sum and the largest of their durations in seconds."""

    activity: str
    subtype: str | None
    module: str | None
    calls: int
    total: float | None
    longest: float | None
    errors: int


class FailedTask(NamedTuple):
    """A task that failed; ``error`` has ``type``, ``message`` and ``traceback``."""

    activity: str
    subtype: str | None
    started: float | None
    ended: float | None
    hostname: str | None
    pid: int | None
    rank: int | None
    workflow_id: str | None
    task_id: str
    error: dict[str, Any]


@dataclass(frozen=True)
class TaskAnswers:
    """The longest tasks, sums for each activity, the last failures with their number, and further rows."""

    longest: list[LongTask]
    activities: list[ActivityRow]
    failed: list[FailedTask]
    failed_total: int
    more: list[list[tuple[Any, ...]]] = field(default_factory=list)


def ask_tasks(campaign: CampaignSource, more: Sequence[str] = ()) -> TaskAnswers:
    """Return what a report says of the tasks of a campaign, and the rows that further statements find."""
    statements = [_LONGEST, _ACTIVITIES, _FAILED, *more]
    longest, activities, failed, *others = rows_of_tasks(statements, [campaign])
    return TaskAnswers(
        [_long_task(row) for row in longest],
        list(map(_activity, activities)),
        [_failed_task(row) for row in failed],
        failed[0][-1] if failed else 0,
        others,
    )


def _long_task(row: Sequence[Any]) -> LongTask:
    name, subtype, status, started, ended, *where = row[:-1]
    return LongTask(
        str(name or "(unnamed)"), subtype, status, _seconds(started) or 0.0, _seconds(ended), *where
    )


def _activity(row: Sequence[Any]) -> ActivityRow:
    name, subtype, module, calls, total, longest, errors = row
    return ActivityRow(
        str(name or "(unnamed)"), subtype, module, calls, _number(total), _number(longest), errors
    )


def _failed_task(row: Sequence[Any]) -> FailedTask:
    name, subtype, started, ended, hostname, pid, rank, workflow_id, task_id, error, _ = row
    where = hostname, pid, rank, workflow_id
    called = str(name or "(unnamed)")
    return FailedTask(
        called, subtype, _seconds(started), _seconds(ended), *where, str(task_id), _decoded(error)
    )


def _seconds(text: str | None) -> float | None:
    """Return a time of a table in seconds since the epoch."""
    if text is None:
        return None
    try:
        return (datetime.fromisoformat(text).replace(tzinfo=timezone.utc) - _EPOCH).total_seconds()
    except ValueError:
        return None


def _decoded(text: str | None) -> dict[str, Any]:
    try:
        error = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        error = {}
    return error if isinstance(error, dict) else {}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
