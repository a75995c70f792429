"""Of the iterations of loops, those with the last, the smallest and the largest value of each metric.

Flows in: iterations and logged metrics, in the order of a journal. Flows out: few of them.

The epochs of a training each have a loop over batches. All these loops count as one: what matters of a metric
is its last value in all of them, not in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from flowprov.read.value_paths import is_number
from flowprov.records import Metrics, Record, Task

_NO_TIME = 2**63 - 1

Key: TypeAlias = int | str
"""A task: its number in the journal, or its full id if it has no number of this journal."""
Placed: TypeAlias = tuple[int, Record]
"""A record with its position in the journal."""


class LoopKey(NamedTuple):
    """A loop: its iterations are in one workflow, inside one task or iteration, of one name, on one rank."""

    workflow_id: str | None
    parent: Key | None
    name: str | None
    rank: int | None


class Loops:
    """The loops of a journal.

    Attributes
    ----------
    around
        The iterations that have something inside them, by their task.
    """

    def __init__(self) -> None:
        self.around: dict[Key, tuple[int, Task]] = {}
        self._loop_of: dict[Key, LoopKey] = {}
        self._loops: dict[LoopKey, _Extremes] = {}

    def add(self, loop: LoopKey, position: int, record: Task | Metrics) -> bool:
        """Add an iteration, or what was logged in one; return whether it is the first of its loop."""
        extremes = self._loops.get(loop)
        is_new = extremes is None
        if extremes is None:
            extremes = self._loops[loop] = _Extremes(position, record)
        extremes.add(position, record)
        return is_new

    def parents(self) -> Iterator[Key]:
        """Yield the tasks and iterations in which the loops ran."""
        yield from (loop.parent for loop in self._loops if loop.parent is not None)

    def add_around(self, key: Key, loop: LoopKey, position: int, task: Task) -> None:
        """Add an iteration that has something inside it."""
        self.around[key] = position, task
        self._loop_of[key] = loop

    def chosen(self) -> Iterator[Placed]:
        """Yield the records that matter; some come several times."""
        numbers: dict[LoopKey, int] = {}
        known: dict[tuple[object, ...], int] = {}
        joined: dict[int, list[Placed]] = {}
        for loop, extremes in self._loops.items():
            joined.setdefault(self._number(loop, numbers, known), []).extend(extremes.chosen())
        for records in joined.values():
            records.sort(key=_position)
            extremes = _Extremes(*records[0])
            for position, record in records:
                extremes.add(position, record)
            yield from extremes.chosen()

    def _number(
        self, loop: LoopKey, numbers: dict[LoopKey, int], known: dict[tuple[object, ...], int]
    ) -> int:
        """Return a number that loops have in common which lie in the iterations of one loop."""
        path: list[LoopKey] = []
        inside: dict[LoopKey, None] = {}
        while loop not in numbers and loop not in inside:
            path.append(loop)
            inside[loop] = None
            if loop.parent not in self._loop_of:
                break
            loop = self._loop_of[loop.parent]
        for one in reversed(path):
            around = numbers.get(self._loop_of[one.parent]) if one.parent in self._loop_of else None
            place = (one.parent,) if around is None else (around, "loop")
            numbers[one] = known.setdefault((one.workflow_id, place, one.name, one.rank), len(known))
        return numbers[path[0] if path else loop]


class _Extremes:
    """Of records in the order of a journal: the first, and those with the last and extreme values."""

    __slots__ = ("_first", "_names")

    def __init__(self, position: int, record: Record) -> None:
        self._first = (position, record)
        self._names: dict[str, _Extreme] = {}

    def add(self, position: int, record: Record) -> None:
        if isinstance(record, Metrics):
            values, time = record.values, (record.at, record.at)
        elif isinstance(record, Task) and record.generated:
            values, time = record.generated, _time_of(record)
        else:
            return
        for name, value in values.items():
            if is_number(value):
                extreme = self._names.get(name)
                if extreme is None:
                    extreme = self._names[name] = _Extreme()
                extreme.add(value, time, (position, record))

    def chosen(self) -> Iterator[Placed]:
        yield self._first
        for extreme in self._names.values():
            yield from filter(None, (extreme.last, extreme.smallest, extreme.largest))


class _Extreme:
    """The records with the last value of one metric, with the smallest and with the largest."""

    __slots__ = ("_last_time", "_max", "_min", "largest", "last", "smallest")

    def __init__(self) -> None:
        self.last: Placed | None = None
        self.smallest: Placed | None = None
        self.largest: Placed | None = None
        self._last_time = (-_NO_TIME, -_NO_TIME)
        self._min = self._max = 0.0

    def add(self, value: float, time: tuple[int, int], placed: Placed) -> None:
        if self.last is None or time >= self._last_time:
            self.last, self._last_time = placed, time
        if value != value:  # noqa: PLR0124 - NaN: the smallest and the largest only if all are
            return
        if self.smallest is None or value < self._min:
            self.smallest, self._min = placed, value
        if self.largest is None or value > self._max:
            self.largest, self._max = placed, value


def _time_of(task: Task) -> tuple[int, int]:
    """Return by what the values of iterations are sorted: the start, and else the time of their rows."""
    if task.started_at is not None:
        return task.started_at, task.started_at
    times = (task.submitted_at, task.ended_at, _NO_TIME)
    return 0, next(time for time in times if time is not None)


def _position(placed: Placed) -> int:
    return placed[0]
