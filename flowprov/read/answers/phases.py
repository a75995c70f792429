"""The phases of a training: what its steps are made of, as counts and times.

Flows in: the tasks of two items. Flows out: the phases of which one has more than the other: the explicit
forward, backward and step of an optimizer of one, and the fused step of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowprov.read.answers.forwards import tasks_of
from flowprov.read.answers.items import Item
from flowprov.read.answers.run_search import TaskTree
from flowprov.read.labels import FORWARDS, ITERATION

_PARENT_FORWARD = "parent_forward"
_MAX_PHASES = 200  # a program whose tasks have names of their own has no phases
# What the records of torch are, whichever class made them.
_OF_TORCH = {_PARENT_FORWARD: "forward", "backward": "backward", "optimizer_step": "optimizer_step"}


class _Phase(msgspec.Struct):
    """How often a phase ran, and how many nanoseconds in all."""

    count: int = 0
    time: int = 0


def phases_that_differ(a: Item, b: Item) -> dict[str, Any]:
    """Return the phases of which two items have different numbers.

    Returns
    -------
    dict
        For each phase ``count`` and ``seconds`` in all, both as ``[a, b]``.
    """
    ours, theirs = _phases_of(a), _phases_of(b)
    names = [*ours, *(name for name in theirs if name not in ours)]
    return {
        name: {
            "count": [_count(one, name) for one in (ours, theirs)],
            "seconds": [one[name].time / 1e9 if name in one else None for one in (ours, theirs)],
        }
        for name in names[:_MAX_PHASES]
        if _count(ours, name) != _count(theirs, name)
    }


def _count(phases: Mapping[str, _Phase], name: str) -> int | None:
    return phases[name].count if name in phases else None


def _phases_of(item: Item) -> dict[str, _Phase]:
    phases: dict[str, _Phase] = {}
    for task in tasks_of(item, TaskTree(item.contents)):
        is_inner = task.subtype in FORWARDS and task.subtype != _PARENT_FORWARD
        if task is item.task or task.subtype == ITERATION or is_inner:
            continue
        phase = phases.setdefault(_OF_TORCH.get(task.subtype or "") or task.activity_id or "", _Phase())
        phase.count += 1
        if task.started_at and task.ended_at:
            phase.time += task.ended_at - task.started_at
    return phases
