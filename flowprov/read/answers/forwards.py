"""The first module call that tells two runs apart.

Flows in: the recorded forwards of two items. Flows out: the first call whose inputs agree and whose outputs
differ.

Calls are joined by the path of their module and their ordinal: the k-th call of a module in one item belongs
to the k-th call of this module in the other. Two tensors agree if their shapes, types, statistics and bit
sums do. Where one of them has no statistics, nothing is known, and they count as equal. Devices do not
matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flowprov.errors import JournalError
from flowprov.read.answers.items import Item
from flowprov.read.answers.run_search import TaskTree
from flowprov.read.answers.series import epoch_of, loop_name
from flowprov.read.labels import FORWARDS, ITERATION
from flowprov.records import Task, Workflow

_OF_THE_PLACE = frozenset({"device", "nbytes"})  # what a description says of where a tensor lies
_COMPUTED = ("statistics", "bit_sum")

_Call = tuple[str | None, int | None, str, int]
"""The name of the model, the rank, the path of the module, and the ordinal of the call."""


class ForwardCall(NamedTuple):
    """A recorded call of a module; ``step`` and ``epoch`` are those of the loops around it."""

    task: Task
    module_path: str
    ordinal: int
    step: int | None
    epoch: int | None


def first_difference(a: Item, b: Item) -> dict[str, Any] | None:
    """Return the first module call whose inputs agree and whose outputs differ; None if there is none.

    Returns
    -------
    dict or None
        ``module_path``, ``ordinal``, ``step`` and ``epoch``, as they are in `a`.

    Raises
    ------
    JournalError
        If no forward of `a` or `b` is recorded with statistics.
    """
    ours, theirs = forwards_of(a), forwards_of(b)
    for call, forward in sorted(ours.items(), key=lambda one: _end_of(one[1])):
        other = theirs.get(call)
        if other is None or not _agree(forward.task.used, other.task.used):
            continue
        if not _agree(forward.task.generated, other.task.generated):
            return {name: getattr(forward, name) for name in ("module_path", "ordinal", "step", "epoch")}
    return None


def forwards_of(item: Item) -> dict[_Call, ForwardCall]:
    """Return the forwards of a run, a task, a workflow or a campaign.

    Raises
    ------
    JournalError
        If none is recorded with statistics.
    """
    tree = TaskTree(item.contents)
    models = {row.workflow_id: row.name for row in item.contents.rows if isinstance(row, Workflow)}
    found: dict[_Call, ForwardCall] = {}
    ordinals: Counter[tuple[str | None, int | None, str]] = Counter()
    tasks = sorted(tasks_of(item, tree), key=lambda task: task.started_at or 0)
    steps = _steps(tasks)
    for task in tasks:
        path = (task.custom_metadata or {}).get("module_path")
        if task.subtype in FORWARDS and isinstance(path, str):
            module = models.get(str(task.workflow_id)), task.rank, path
            around = tree.around(tree.tasks.get(str(task.parent_task_id)))
            step = steps.get(str(around[0].task_id)) if around else None
            call = (*module, ordinals[module])
            ordinals[module] += 1
            found[call] = ForwardCall(task, path, call[-1], step, epoch_of(around))
    if not any(_has_statistics(forward.task.generated) for forward in found.values()):
        raise JournalError(
            f"no forward of {item.kind} {item.id} is recorded with statistics. Capture the model with "
            "what='parent_and_children', and set instrumentation.torch.tensor_statistics: true"
        )
    return found


def tasks_of(item: Item, tree: TaskTree) -> Iterator[Task]:
    """Return the tasks in an item, those of its own attempt only."""
    if item.task is not None:
        yield from (task for task in tree.tasks.values() if tree.lies_in(task, str(item.task.task_id)))
        return
    workflows = {(one.workflow_id, one.attempt or 1) for one in item.workflows}
    nested = [
        row for row in item.contents.rows if isinstance(row, Workflow) and row.parent_workflow_id is not None
    ]
    grown = True
    while grown:
        inner = {
            (row.workflow_id, row.attempt or 1)
            for row in nested
            if (row.parent_workflow_id, row.attempt or 1) in workflows
        }
        grown = not inner <= workflows
        workflows |= inner
    yield from (task for task in tree.tasks.values() if (task.workflow_id, task.attempt or 1) in workflows)


def _steps(tasks: Iterable[Task]) -> dict[str, int]:
    """Return the step of each iteration: its number in its loop, counted on through the epochs."""
    counts: Counter[tuple[int | None, str]] = Counter()
    steps: dict[str, int] = {}
    for task in tasks:
        if task.subtype == ITERATION:
            loop = task.rank, loop_name(task)
            steps[str(task.task_id)] = counts[loop]
            counts[loop] += 1
    return steps


def _end_of(forward: ForwardCall) -> tuple[int, int]:
    """Return the place of a call in the order of ends: a child ends before its parent."""
    task = forward.task
    return (task.ended_at or task.started_at or 0), -(task.started_at or 0)


def _has_statistics(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(name in value for name in _COMPUTED) or any(map(_has_statistics, value.values()))
    return isinstance(value, list) and any(map(_has_statistics, value))


def _agree(a: Any, b: Any) -> bool:
    """Whether two recorded values are equal, as far as both are known."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        names = {*a, *b} - _OF_THE_PLACE
        unknown = {name for name in _COMPUTED if not (name in a and name in b)}
        return all(name in a and name in b and _agree(a[name], b[name]) for name in names - unknown)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b))
    return bool(a == b) or (a != a and b != b)  # noqa: PLR0124 - NaN differs from itself
