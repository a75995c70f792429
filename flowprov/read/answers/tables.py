"""Tables of runs, of their metrics, and of campaigns.

Flows in: the contents of campaigns. Flows out: one dictionary for each line of a table.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from flowprov.read.answers.contents import Contents
from flowprov.read.answers.kept_versions import version_at_start
from flowprov.read.answers.resumes import Chains
from flowprov.read.answers.run_search import Run, TaskTree, find_runs
from flowprov.read.answers.series import Value, summary_of, values_of
from flowprov.read.dask_tasks import Submission, submission_of
from flowprov.read.labels import ITERATION
from flowprov.read.rows import Row
from flowprov.read.value_paths import is_scalar, value_paths
from flowprov.records import Error, Status, Task, Workflow

Line: TypeAlias = dict[str, Any]

RUN_COLUMNS = (
    "run_id",
    "name",
    "campaign_id",
    "campaign",
    "workflow_id",
    "status",
    "started_at",
    "ended_at",
    "duration",
    "hostname",
    "git_commit",
    "git_dirty",
    "user",
    "tags",
    "error",
    "attempts",
)
"""The columns that every table of runs has. Behind them come ``params.…`` and ``metrics.…``."""

METRIC_COLUMNS = ("run_id", "name", "step", "epoch", "value", "at", "task_id")
CAMPAIGN_COLUMNS = (
    "campaign_id",
    "name",
    "started_at",
    "duration",
    "runs",
    "tasks",
    "errors",
    "size",
    "status",
)

_NS = 1_000_000_000
_MAX_CELLS = 2_000_000  # of a table: 1,000 runs with 100 names of their own each would have 100 million

logger = logging.getLogger("flowprov")


class Failures(NamedTuple):
    """How many tasks, iterations not among them, and how many workflows ended with an error."""

    tasks: int
    workflows: int


def run_lines(contents: Contents, *, attempts: bool = False) -> list[Line]:
    """Return a line for each run of a campaign, in the order of their starts.

    Parameters
    ----------
    contents
        The campaign.
    attempts
        Whether each attempt of a run has a line of its own. Its column ``attempts`` is the attempt's number
        then, else how many there are.
    """
    tree = TaskTree(contents)
    groups = runs_with_attempts(contents, attempts=attempts)
    return [_run_line(contents, group, tree, attempts=attempts) for group in groups]


def columns_besides(columns: Sequence[str], lines: Sequence[Line]) -> set[str]:
    """Return what lines have besides some columns; in a table that is too large, what most of them have."""
    counts = Counter(name for line in lines for name in line)
    for name in columns:
        del counts[name]
    room = max(_MAX_CELLS // max(len(lines), 1) - len(columns), 0)
    if len(counts) <= room:
        return set(counts)
    logger.warning(
        "flowprov shows %d of %d columns of %d lines, without those that the fewest lines have. A table of "
        "one campaign has fewer.",
        room + len(columns),
        len(counts) + len(columns),
        len(lines),
    )
    return {name for name, _ in counts.most_common(room)}


def metric_lines(
    contents: Contents,
    *,
    run_id: str | None = None,
    names: Iterable[str] | None = None,
    attempts: bool = False,
) -> list[Line]:
    """Return a line for each value of the runs of a campaign."""
    tree, wanted = TaskTree(contents), None if names is None else set(names)
    return [
        {"run_id": group[0].run_id, **value._asdict()}
        for group in runs_with_attempts(contents, attempts=attempts)
        if run_id is None or group[0].run_id == run_id
        for value in values_of(group, tree)
        if wanted is None or value.name in wanted
    ]


def campaign_line(contents: Contents, size: int, status: str) -> Line:
    """Return the line of a campaign.

    Parameters
    ----------
    contents
        The campaign.
    size
        The bytes of its journals.
    status
        Whether its record is complete.
    """
    tasks = [row for row in contents.rows if isinstance(row, Task) and row.subtype != ITERATION]
    counts = contents.left_out
    starts = [row.started_at for row in (*contents.rows, counts) if row.started_at is not None]
    ends = [row.ended_at for row in (*contents.rows, counts) if row.ended_at is not None]
    ends += [end for row in contents.rows if (end := _known_end(contents, row)) is not None]
    started = min(starts, default=contents.campaign.started_at)
    return {
        "campaign_id": contents.campaign.campaign_id,
        "name": contents.campaign.name,
        "started_at": started,
        "duration": _seconds(started, max(ends, default=None)),
        "runs": len(runs_with_attempts(contents, attempts=False)),
        "tasks": len(tasks) + counts.tasks,
        "errors": max(failures_in(contents)),
        "size": size,
        "status": status,
    }


def _known_end(contents: Contents, row: Row) -> int | None:
    """Return when a workflow ended, or was last known of; of a task nothing, as its process may live on."""
    return contents.end_of(row) if isinstance(row, Workflow) else None


def failures_in(contents: Contents) -> Failures:
    """Return what failed in a campaign: of a workflow that failed with another one inside, the inner.

    What ends a task often ends its workflow, too, and is one error then.
    """
    failed = [row for row in contents.rows if _failed(row)]
    tasks = sum(isinstance(row, Task) and row.subtype != ITERATION for row in failed)
    workflows = [row for row in failed if isinstance(row, Workflow)]
    outer = {row.parent_workflow_id for row in workflows}
    return Failures(tasks + contents.left_out.errors, sum(row.workflow_id not in outer for row in workflows))


def _failed(row: Row) -> bool:
    return row.status == Status.ERROR.value


def runs_with_attempts(contents: Contents, *, attempts: bool) -> list[list[Run]]:
    """Return the runs of a campaign, each with its attempts in their order, or each attempt by itself."""
    groups = _group_attempts(contents)
    return [[run] for group in groups for run in group] if attempts else groups


def _group_attempts(contents: Contents) -> list[list[Run]]:
    runs = find_runs(contents)
    chains = Chains(run.workflow for run in runs if run.workflow is not None)
    restarted = {run.workflow.workflow_id for run in runs if run.workflow and run.attempt > 1}
    joined = chains.joined()
    restarted = {chains.first(one) for one in restarted} | joined
    distinct = {(run.workflow.workflow_id, _submitted(run) or run.run_id) for run in runs if run.workflow}
    in_workflow = Counter(workflow_id for workflow_id, _ in distinct)
    # Of a killed attempt the task that trained may have left no record: then its workflow is the run.
    several = {chains.first(one) for one, count in in_workflow.items() if count > 1}
    groups: dict[tuple[str, ...], list[Run]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    submitted: dict[Submission, tuple[str, ...]] = {}
    for run in runs:
        submission = _submitted(run)
        if submission is not None and submission in submitted:  # Dask tried again
            groups[submitted[submission]].append(run)
            continue
        own = None if run.workflow is None else run.workflow.workflow_id
        workflow_id = None if own is None else chains.first(own)
        key: tuple[str, ...] = (run.run_id,)
        if workflow_id is not None and (run.task is None or workflow_id in joined - several):
            key = (workflow_id,)
        elif workflow_id in restarted:  # the k-th of a name in each attempt
            in_attempt = (str(workflow_id), str(run.name), str(own), str(run.attempt))
            seen[in_attempt] += 1
            key = (*in_attempt[:2], str(seen[in_attempt]))
        if submission is not None:
            submitted[submission] = key
        groups.setdefault(key, []).append(run)
    for group in groups.values():
        for number, run in enumerate(group, 1):
            run.attempt = max(number, run.attempt)
    return list(groups.values())


def _submitted(run: Run) -> Submission | None:
    return None if run.task is None else submission_of(run.task)


def _run_line(contents: Contents, group: Sequence[Run], tree: TaskTree, *, attempts: bool) -> Line:
    first, last = group[0], group[-1]
    workflow, record = last.workflow, last.record
    campaign_id = (first.record and first.record.campaign_id) or contents.campaign.campaign_id
    starts = [run.record.started_at for run in group if run.record and run.record.started_at is not None]
    line: Line = {
        "run_id": first.run_id,
        "name": last.name,
        "campaign_id": campaign_id,
        "campaign": contents.campaign_names.get(campaign_id, contents.campaign.name),
        "workflow_id": None if workflow is None else workflow.workflow_id,
        "status": last.status,
        "started_at": min(starts, default=None),
        "ended_at": None if record is None else record.ended_at,
        "duration": seconds_of(contents, group),
        "hostname": None if record is None else record.hostname,
        **_git_of(contents, last),
        "user": None if workflow is None else workflow.user,
        "tags": _tags_of(last),
        "error": None if record is None else error_text(record.error),
        "attempts": last.attempt if attempts else len(group),
    }
    for run in group:
        for holder in (run.workflow, run.task):
            line.update(params_of({} if holder is None else holder.used or {}))
    line.update(_summaries(values_of(group, tree)))
    return line


def seconds_of(contents: Contents, group: Sequence[Run]) -> float | None:
    """Return how long the attempts of a run took; None if that is not known of the latest one."""
    records = [run.record for run in group if run.record is not None]
    seconds = [_seconds(record.started_at, contents.end_of(record)) for record in records]
    return sum(filter(None, seconds)) if seconds and seconds[-1] is not None else None


def _git_of(contents: Contents, run: Run) -> Line:
    """Return the commit on which a run began, and whether files were changed; None for what is not known."""
    workflow = run.workflow
    if workflow is None:
        return {"git_commit": None, "git_dirty": None}
    version = version_at_start(contents.versions, workflow.workflow_id, workflow.attempt)
    known = (None if version is None else version.record.code) or {}
    commit = known.get("commit") or (workflow.code_repository or {}).get("commit")
    return {"git_commit": commit, "git_dirty": _as_bool(known.get("dirty"))}


def _as_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None  # whatever a journal holds


def _tags_of(run: Run) -> list[str] | None:
    metadata = {} if run.workflow is None else run.workflow.custom_metadata or {}
    tags = metadata.get("tags") if run.task is None else run.task.tags
    return [str(tag) for tag in tags] if isinstance(tags, list) else None  # whatever a journal holds


def error_text(error: Error | None) -> str | None:
    """Return the type and the message of an error as one text."""
    if error is None:
        return None
    return f"{error.type}: {error.message}" if error.message else error.type


def _seconds(started: int | None, ended: int | None) -> float | None:
    return None if started is None or ended is None else (ended - started) / _NS


def params_of(used: Mapping[str, Any]) -> Line:
    """Return the scalars of what was used, by their path: ``params.model.layers``."""
    return {path: value for path, value in value_paths(used, "params.") if is_scalar(value)}


def _summaries(values: Iterable[Value]) -> Line:
    """Return the last value of each metric, its smallest and its largest."""
    series: dict[str, list[float]] = {}
    for value in values:
        series.setdefault(value.name, []).append(value.value)
    line: Line = {}
    for name, numbers in series.items():
        summary = summary_of(numbers)
        line |= {
            f"metrics.{name}": summary["last"],
            f"metrics.{name}.min": summary["min"],
            f"metrics.{name}.max": summary["max"],
        }
    return line
