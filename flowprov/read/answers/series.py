"""The metrics of a run: one value for each name and step.

Flows in: a run. Flows out: its values. They come from what iterations generated (numbers only) and from
``log_metrics``.

Of one name in several loops the outermost loop keeps the plain name; in the others the name of the loop is
put before it (``train_batch/loss``). Steps count on through the epochs, for each name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flowprov.read.answers.resumes import Began, ResumedCounts
from flowprov.read.answers.run_search import Run, TaskTree
from flowprov.read.value_paths import as_metric, is_number
from flowprov.records import Task

_SUFFIX = "_iteration"
_EPOCH = "epoch"


class Value(NamedTuple):
    """One value of a metric.

    ``at`` is in nanoseconds since the epoch: the end of the iteration, or the time of the call.
    """

    name: str
    step: int
    epoch: int | None
    value: float
    at: int | None
    task_id: str | None


class _Measured(NamedTuple):
    """A value before its name and step are settled.

    ``loop`` is empty for what was logged; ``item`` is that of a loop over epochs, if it is a number.
    """

    name: str
    loop: str
    depth: int
    value: float
    step: int | None
    epoch: int | None
    at: int | None
    began: int
    task_id: str | None
    item: int | None = None


def values_of(attempts: Sequence[Run], tree: TaskTree) -> list[Value]:
    """Return the values of a run, sorted by name and step.

    Parameters
    ----------
    attempts
        The attempts of the run. Of a step that two of them made, the later one counts.
    tree
        The tasks of its campaign.
    """
    found: dict[str, dict[int, Value]] = {}
    began: dict[str, dict[int, Began]] = {}
    for run in attempts:
        measured = sorted(_measured(run, tree), key=lambda one: one.began)
        names = _full_names(measured)
        resumed = None if run.resume is None else ResumedCounts(run.resume, _in_order(began))
        counts: dict[str, int] = {}
        for one in measured:
            name = names[one.name, one.loop]
            start = Began(one.began, one.loop, one.item)
            if name not in counts:
                counts[name] = 0 if resumed is None else resumed.first(name, start)
            step = counts[name] if one.step is None else one.step
            counts[name] += 1
            found.setdefault(name, {})[step] = Value(name, step, one.epoch, one.value, one.at, one.task_id)
            began.setdefault(name, {})[step] = start
    return [found[name][step] for name in sorted(found) for step in sorted(found[name])]


def _in_order(began: Mapping[str, Mapping[int, Began]]) -> dict[str, list[Began]]:
    return {name: [steps[step] for step in sorted(steps)] for name, steps in began.items()}


def _measured(run: Run, tree: TaskTree) -> Iterable[_Measured]:
    for task in run.iterations:
        if task.generated and any(map(is_number, task.generated.values())):
            around = tree.around(task)
            began = task.started_at or 0
            at = task.started_at if task.ended_at is None else task.ended_at
            item = (task.used or {}).get(_EPOCH)
            item = item if type(item) is int else None
            for name, value in task.generated.items():
                if is_number(value):
                    yield _Measured(
                        name,
                        loop_name(task),
                        len(around),
                        as_metric(value),
                        None,
                        epoch_of(around),
                        at,
                        began,
                        str(task.task_id),
                        item,
                    )
    for record, _, _ in run.logged:
        task_id = None if record.task_id is None else str(record.task_id)
        epoch = epoch_of(tree.around(tree.tasks.get(str(task_id))))
        for name, value in record.values.items():
            if is_number(value):
                number = as_metric(value)
                yield _Measured(name, "", 0, number, record.step, epoch, record.at, record.at, task_id)


def summary_of(numbers: Sequence[float]) -> dict[str, float]:
    """Return the last of some numbers, the smallest and the largest; these are NaN only if all are."""
    known = [number for number in numbers if not math.isnan(number)] or [math.nan]
    return {"last": numbers[-1], "min": min(known), "max": max(known)}


def loop_name(task: Task) -> str:
    """Return the name of the loop of an iteration."""
    return (task.activity_id or "").removesuffix(_SUFFIX)


def epoch_of(around: Iterable[Task]) -> int | None:
    """Return the number of the epoch, by the innermost loop over epochs around."""
    for task in around:
        if loop_name(task) == _EPOCH:
            number = (task.used or {}).get("i")
            return number if isinstance(number, int) else None
    return None


def _full_names(measured: Iterable[_Measured]) -> dict[tuple[str, str], str]:
    """Return the full name of each metric, by its name and its loop."""
    loops: dict[str, dict[str, int]] = {}
    for one in measured:
        of_name = loops.setdefault(one.name, {})
        of_name[one.loop] = min(one.depth, of_name.get(one.loop, one.depth))
    names = {}
    for name, depths in loops.items():
        outermost = [loop for loop, depth in depths.items() if depth == min(depths.values())]
        for loop in depths:
            plain = not loop or [loop] == outermost
            names[name, loop] = name if plain else f"{loop}/{name}"
    return names
