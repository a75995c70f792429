"""What somebody looks for first: the slowest and the failed tasks, and the last metrics.

Flows in: the end of each task, and what was logged in those that are shown. Flows out: the few tasks that are
named, and the last value of each metric. Memory does not grow with the number of tasks.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from flowprov.read.attempts import AttemptIndex, attempt_key
from flowprov.read.labels import CHILD_FORWARD, ITERATION
from flowprov.read.task_files import TaskFiles
from flowprov.records import Header, JsonObject, Metrics, Status

_MOST = 3
_MOST_FAILED = 5


class Highlights:
    """The slowest tasks, and the last ones that failed.

    Iterations count only where there is no other task, and the forwards of modules inside a model do not: the
    task around them is named.

    Attributes
    ----------
    failures
        How many tasks and workflows failed.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._slowest: dict[bool, list[tuple[int, str]]] = {False: [], True: []}  # by whether they iterate
        self._failed: list[tuple[int, str]] = []

    def add(
        self, key: str, subtype: str | None, status: str | None, started_at: int | None, ended_at: int | None
    ) -> None:
        """Take note of a task that ended; times are in nanoseconds."""
        iterates = subtype == ITERATION
        if status == Status.ERROR.value and not iterates:
            self.add_failure(key, ended_at)
        if started_at is not None and ended_at is not None and subtype != CHILD_FORWARD:
            _keep(self._slowest[iterates], (ended_at - started_at, key), _MOST)

    def add_failure(self, key: str, ended_at: int | None) -> None:
        """Take note of a task or workflow that failed."""
        self.failures += 1
        _keep(self._failed, (ended_at or 0, key), _MOST_FAILED)

    def add_files(self, files: TaskFiles) -> None:
        """Take note of the tasks in Parquet files."""
        for iterates in (False, True):
            for key, duration in files.slowest(_MOST, iterations=iterates):
                _keep(self._slowest[iterates], (duration, key), _MOST)
        number, failed = files.failed(_MOST_FAILED)
        for key, ended_at in failed:
            self.add_failure(key, ended_at)
        self.failures += number - len(failed)

    def slowest(self) -> list[str]:
        """Return the ids of the slowest tasks, the slowest first."""
        return [key for _, key in sorted(self._slowest[False] or self._slowest[True], reverse=True)]

    def failed(self) -> list[str]:
        """Return the ids of those that failed last, in the order of their ends."""
        return [key for _, key in sorted(self._failed)]


def _keep(heap: list[tuple[int, str]], item: tuple[int, str], most: int) -> None:
    """Add an item to the largest of all, of which a heap keeps so many."""
    heapq.heappush(heap, item)
    if len(heap) > most:
        heapq.heappop(heap)


class LastMetrics:
    """The last value of each metric that was logged directly in a task, or in an attempt of a workflow.

    Parameters
    ----------
    attempts
        The attempts of each workflow.
    """

    def __init__(self, attempts: Mapping[str, AttemptIndex]) -> None:
        self._attempts = attempts
        self._last: dict[str, dict[str, tuple[int, object]]] = {}

    def add(self, record: Metrics, task_id: str | None, header: Header) -> None:
        """Add a record; ``task_id`` is the full id."""
        key = task_id
        if key is None:
            index = self._attempts.get(record.workflow_id)
            key = attempt_key(record.workflow_id, 1 if index is None else index.find(header, record.at))
        last = self._last.setdefault(key, {})
        for name, value in record.values.items():
            if name not in last or last[name][0] <= record.at:
                last[name] = (record.at, value)

    def values_of(self, key: str) -> JsonObject | None:
        """Return the values of a task or an attempt, by name; None if there are none."""
        last = self._last.get(key)
        return None if last is None else {name: value for name, (_, value) in last.items()}
