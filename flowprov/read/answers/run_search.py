"""Find the runs of a campaign.

Flows in: its contents. Flows out: its runs, each with the iterations and the metrics that belong to it.

A run is what contains a training loop: the outermost task in which a loop ran or metrics were logged, else
the workflow in which that was. A workflow of the program without any of these is a run, too. A workflow whose
tasks are runs is one only if it has metrics of its own. Iterations do not count as tasks here.

A task that failed before its loop began is a run beside another one of its name: the outermost task of a
workflow, on the rank on which the other one ran.

The ranks of a job are one run: the k-th run of a name on each rank. Its values are those of the lowest rank.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import msgspec

from flowprov.read.answers.contents import Contents, LoggedMetrics
from flowprov.read.answers.failed_tasks import has_failed
from flowprov.read.answers.resumes import Resume, resume_of
from flowprov.read.labels import ITERATION
from flowprov.read.value_paths import is_number
from flowprov.read.workflows import WORST_FIRST
from flowprov.records import Task, Workflow

_MODEL = "torch_model"  # a workflow that describes a captured model, and is none of the program's

_Key: TypeAlias = tuple[str | None, int, str | None]
"""The workflow of a run, its attempt, and its task; None for the workflow itself."""


class Run(msgspec.Struct):
    """A run, or an attempt of one.

    Attributes
    ----------
    run_id
        Id of its task, else of its workflow.
    workflow
        Its workflow; None if no record of it is left.
    task
        Its task; None if the workflow itself is the run.
    attempt
        The attempt of the workflow.
    iterations, logged
        What belongs to it, in the order of time.
    status
        That of its record; of several ranks the worst.
    """

    run_id: str
    workflow: Workflow | None
    task: Task | None
    attempt: int
    iterations: list[Task]
    logged: list[LoggedMetrics]
    status: str | None = None

    @property
    def record(self) -> Task | Workflow | None:
        """The record of the run itself."""
        return self.workflow if self.task is None else self.task

    @property
    def resume(self) -> Resume | None:
        """From where it went on; None if it began anew."""
        return None if self.workflow is None else resume_of(self.workflow)

    @property
    def name(self) -> str | None:
        """The name of the workflow, or what the task did."""
        if self.task is not None:
            return self.task.activity_id
        return None if self.workflow is None else self.workflow.name

    def has_metrics(self) -> bool:
        """Whether any number was measured directly in it."""
        return bool(self.logged) or any(
            is_number(value) for one in self.iterations for value in (one.generated or {}).values()
        )


def find_runs(contents: Contents) -> list[Run]:
    """Return the runs of a campaign in the order of their starts, each attempt of a run by itself."""
    search = _Search(contents)
    return sorted(_join_ranks(search.runs()), key=_started)


class TaskTree:
    """The tasks of a campaign, to look up which lie around a task."""

    def __init__(self, contents: Contents) -> None:
        self.tasks = {str(row.task_id): row for row in contents.rows if isinstance(row, Task)}
        self._outermost: dict[str, str | None] = {}

    def outermost(self, task_id: str | None) -> str | None:
        """Return the outermost task around a task, or itself, that is no iteration; None if there is none."""
        path: list[str] = []
        while task_id is not None and task_id in self.tasks and task_id not in self._outermost:
            path.append(task_id)
            self._outermost[task_id] = None  # whatever damaged journals hold: a cycle ends here
            parent = self.tasks[task_id].parent_task_id
            task_id = None if parent is None else str(parent)
        found = None if task_id is None else self._outermost.get(task_id)
        for below in reversed(path):
            if found is None and self.tasks[below].subtype != ITERATION:
                found = below
            self._outermost[below] = found
        return found

    def around(self, task: Task | None) -> list[Task]:
        """Return the iterations around a task and itself, if it is one: the innermost first."""
        found: list[Task] = []
        seen = set()
        while task is not None and task.task_id not in seen:
            seen.add(task.task_id)
            if task.subtype == ITERATION:
                found.append(task)
            task = self.tasks.get(str(task.parent_task_id))
        return found

    def lies_in(self, task: Task, task_id: str) -> bool:
        """Whether a task is the one with this id, or lies in it."""
        seen = set()
        inner: Task | None = task
        while inner is not None and inner.task_id not in seen:
            if str(inner.task_id) == task_id:
                return True
            seen.add(inner.task_id)
            inner = self.tasks.get(str(inner.parent_task_id))
        return False


class _Search:
    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._tree = TaskTree(contents)
        self._runs: dict[_Key, Run] = {}
        self._workflows = {
            (row.workflow_id, row.attempt or 1): row for row in contents.rows if isinstance(row, Workflow)
        }

    def runs(self) -> list[Run]:
        """Return all runs."""
        for row in self._contents.rows:
            if isinstance(row, Task) and row.subtype == ITERATION:
                parent = None if row.parent_task_id is None else str(row.parent_task_id)
                key = (row.workflow_id, row.attempt or 1, self._tree.outermost(parent))
                self._run(key).iterations.append(row)
        for logged in self._contents.logged:
            task_id = logged.record.task_id
            outermost = None if task_id is None else self._tree.outermost(str(task_id))
            self._run((logged.record.workflow_id, logged.attempt, outermost)).logged.append(logged)
        self._add_failed()
        with_tasks = {key[:2] for key in self._runs if key[2] is not None}
        for key in [key for key in self._runs if key[2] is None and key[:2] in with_tasks]:
            if not self._runs[key].has_metrics():
                del self._runs[key]
        for (workflow_id, attempt), workflow in self._workflows.items():
            if (workflow_id, attempt) not in with_tasks and workflow.subtype != _MODEL:
                self._run((workflow_id, attempt, None))
        return list(self._runs.values())

    def _add_failed(self) -> None:
        """Add the tasks that failed before a loop began in them, and are runs as others of their name are."""
        runs = [(key[0], run.task) for key, run in self._runs.items() if run.task is not None]
        names = {
            (workflow_id, task.activity_id, task.rank)
            for workflow_id, task in runs
            if workflow_id == task.workflow_id and task.activity_id is not None
        }
        known = {task.task_id for _, task in runs}
        for row in self._contents.rows if names else ():
            if (
                isinstance(row, Task)
                and has_failed(row)
                and (row.workflow_id, row.activity_id, row.rank) in names
                and row.task_id not in known
                and self._tree.outermost(str(row.task_id)) == row.task_id
            ):
                self._run((row.workflow_id, row.attempt or 1, str(row.task_id)))

    def _run(self, key: _Key) -> Run:
        if key not in self._runs:
            workflow_id, attempt, task_id = key
            task = None if task_id is None else self._tree.tasks[task_id]
            workflow = self._workflows.get((str(workflow_id), attempt))
            run = Run(str(task_id or workflow_id), workflow, task, attempt, [], [])
            run.status = None if run.record is None else run.record.status
            self._runs[key] = run
        return self._runs[key]


def _join_ranks(runs: list[Run]) -> list[Run]:
    """Return one run for the k-th run of each name on all ranks, with the values of the lowest rank."""
    joined: dict[tuple[str | None, int, str | None, int], list[Run]] = {}
    alone: list[Run] = []
    seen: Counter[tuple[str | None, int, str | None, int]] = Counter()
    for run in sorted(runs, key=_started):
        if run.task is None or run.task.rank is None:
            alone.append(_of_lowest_rank(run))
            continue
        on_rank = (run.task.workflow_id, run.attempt, run.name, run.task.rank)
        seen[on_rank] += 1
        joined.setdefault((*on_rank[:3], seen[on_rank]), []).append(run)
    for ranks in joined.values():
        lowest = min(ranks, key=lambda run: run.task.rank or 0 if run.task else 0)
        lowest.status = worst([run.status for run in ranks])
        alone.append(lowest)
    return alone


def _of_lowest_rank(run: Run) -> Run:
    """Return the run of a workflow without what its higher ranks measured, too."""
    ranks = {one.rank for one in run.iterations} | {one.rank for one in run.logged}
    if len(ranks) > 1:
        lowest = min(ranks, key=lambda rank: -1 if rank is None else rank)
        run.iterations = [one for one in run.iterations if one.rank == lowest]
        run.logged = [one for one in run.logged if one.rank == lowest]
    return run


def worst(statuses: list[str | None]) -> str | None:
    """Return the worst of some statuses; None if none is known."""
    return min(filter(None, statuses), key=lambda one: _BADNESS.get(one, len(_BADNESS)), default=None)


_BADNESS = {status: number for number, status in enumerate(WORST_FIRST)}


def _started(run: Run) -> tuple[int, str]:
    record = run.record
    return (0 if record is None else record.started_at or 0), run.run_id
