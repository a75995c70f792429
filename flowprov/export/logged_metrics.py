"""What programs logged by ``log_metrics``, for exports.

Flows in: the journals of a campaign. Flows out: each record of metrics, one after the other; and the last
value of each metric, by who logged it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from flowprov.export.plain_values import plain, plain_text
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import AttemptIndex
from flowprov.read.decoding import decode_restored
from flowprov.read.labels import FORWARDS, ITERATION
from flowprov.read.value_paths import is_number
from flowprov.records import Header, LocalId, Metrics, Task, prefix_of

_METRICS, _TASK = prefix_of(Metrics), prefix_of(Task)
_SMALL = FORWARDS | {ITERATION}


class LoggedMetrics(NamedTuple):
    """One call of ``log_metrics``.

    Attributes
    ----------
    at, workflow_id, task_id, step
        When it was, in nanoseconds, in which workflow and task, with full ids, and for which step.
    values
        Numbers by name; there is at least one.
    header, position
        The header of its journal, and where it stands there.
    """

    at: int
    workflow_id: str
    task_id: str | None
    step: int | None
    values: Mapping[str, int | float]
    header: Header
    position: int


class LastValue(NamedTuple):
    """The last value of a metric, its step if one was given, and its time in nanoseconds."""

    value: float
    step: int | None
    at: int


Values: TypeAlias = "dict[str, LastValue]"


class _TaskHead(msgspec.Struct):
    task_id: LocalId
    subtype: str | None = None


_head_of = msgspec.json.Decoder(_TaskHead).decode


def logged_metrics(journals: Iterable[JournalSummary]) -> Iterator[LoggedMetrics]:
    """Yield what was logged, journal by journal, in the order in which it was."""
    for journal in journals:
        reader = JournalReader(journal.path, 0, _decode_metrics, missing_ok=True)
        for position, record in reader.read():
            if record is not None and (logged := _logged(record, journal.header, position)) is not None:
                yield logged


class LastValues:
    """The last value of each metric.

    What was logged in an iteration or a forward counts for its workflow alone, so that memory does not grow
    with their number.

    Parameters
    ----------
    journals
        The journals of a campaign, those of one process one after the other.
    attempts
        What finds the attempts of each workflow.
    """

    def __init__(self, journals: Iterable[JournalSummary], attempts: Mapping[str, AttemptIndex]) -> None:
        self._of_workflows: dict[tuple[str, int], Values] = {}
        self._of_tasks: dict[str, Values] = {}
        for journal in journals:
            header = journal.header
            for position, record in JournalReader(journal.path, 0, _decode, missing_ok=True).read():
                if isinstance(record, _TaskHead):
                    if record.subtype in _SMALL:
                        self._of_tasks.pop(header.full_id(record.task_id), None)
                elif record is not None and (logged := _logged(record, header, position)) is not None:
                    index = attempts.get(logged.workflow_id)
                    attempt = 1 if index is None else index.find(header, logged.at)
                    self._add(logged, attempt)

    def of_workflow(self, workflow_id: str, attempt: int | None) -> Values:
        """Return what was logged in an attempt of a workflow and in all tasks of it, sorted by name."""
        return _sorted(self._of_workflows.get((workflow_id, attempt or 1), {}))

    def of_task(self, task_id: str) -> Values:
        """Return what was logged directly in a task, sorted by name."""
        return _sorted(self._of_tasks.get(task_id, {}))

    def _add(self, logged: LoggedMetrics, attempt: int) -> None:
        holders = [self._of_workflows.setdefault((logged.workflow_id, attempt), {})]
        if logged.task_id is not None:
            holders.append(self._of_tasks.setdefault(logged.task_id, {}))
        for name, value in logged.values.items():
            for last in holders:
                if name not in last or last[name].at <= logged.at:
                    last[name] = LastValue(value, logged.step, logged.at)


def plain_number(value: float) -> int | float | str:
    """Return a number as JSON holds it everywhere: of NaN, infinities and huge integers the text."""
    shown: int | float | str = plain(value)
    return shown


def _decode(line: bytes) -> Metrics | _TaskHead | None:
    return _head_of(line) if line.startswith(_TASK) else _decode_metrics(line)


def _decode_metrics(line: bytes) -> Metrics | None:
    return decode_restored(line) if line.startswith(_METRICS) else None  # type: ignore[return-value]


def _logged(record: Metrics, header: Header, position: int) -> LoggedMetrics | None:
    values = {plain_text(name): value for name, value in record.values.items() if is_number(value)}
    if not values:
        return None
    task_id = None if record.task_id is None else header.full_id(record.task_id)
    return LoggedMetrics(record.at, record.workflow_id, task_id, record.step, values, header, position)


def _sorted(values: Values) -> Values:
    return dict(sorted(values.items()))


__all__ = ["LastValue", "LastValues", "LoggedMetrics", "logged_metrics", "plain_number"]
