"""Create samples, tasks and workflows at chosen seconds, and fold them into rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowprov.journal.summary import JournalSummary
from flowprov.read.rows import Row, fold
from flowprov.records import Sample, Task, Workflow
from tests.journal.support import NS, header


def sample(at: float, **values: Any) -> Sample:
    """Create a whole sample; by default its only value is its time."""
    return Sample(at=ns(at), values=values or {"cpu": {"user_s": at}})


def change(at: float, **values: Any) -> Sample:
    """Create a sample that holds only changes."""
    return Sample(at=ns(at), changes=values)


def every_second(count: int) -> list[Sample]:
    """Create samples at second 10, 11, ..."""
    return [sample(10.0 + index) for index in range(count)]


def task(start: float | None, end: float | None, number: int | str = 0, **fields: Any) -> Task:
    """Create a task between two seconds; without an end it is still running."""
    status = "FINISHED" if end is not None else "RUNNING"
    times = {"started_at": ns(start), "ended_at": ns(end)}
    return Task(task_id=number, **{"status": status, **times, **fields})


def workflow(start: float | None, end: float | None, name: str = "w", **fields: Any) -> list[Workflow]:
    """Create the opening and the ending of a workflow, each only if it has a time."""
    messages = []
    if start is not None:
        messages.append(Workflow(workflow_id=name, started_at=ns(start), status="RUNNING", **fields))
    if end is not None:
        messages.append(Workflow(workflow_id=name, ended_at=ns(end), status="FINISHED"))
    return messages


def ns(seconds: float | None) -> Any:
    """Return seconds in nanoseconds."""
    return None if seconds is None else round(seconds * NS)


def rows_of(*journals: Iterable[Any], merge: bool = False, alive: bool = False) -> list[Row]:
    """Return the rows of journals, each of another process of one host."""
    summaries = [
        (JournalSummary(Path(f"j{pid}"), header(f"j{pid}", pid=pid), None, None, alive, 0), records)
        for pid, records in enumerate(journals)
    ]
    return fold(summaries, merge=merge)


def sampled_at(row: Row) -> tuple[float | None, float | None]:
    """Return the seconds at which the samples of a row's start and end were taken."""
    return _second(row.telemetry_at_start), _second(row.telemetry_at_end)


def gpu(**joules: float | None) -> dict[str, Any]:
    """Create readings of GPUs, with energy counters by uuid."""
    return {
        str(number): {"uuid": uuid, "utilization_percent": 50, **({} if j is None else {"energy_j": j})}
        for number, (uuid, j) in enumerate(joules.items())
    }


def counter_samples(points: Sequence[tuple[float, float]], uuid: str = "GPU-a") -> list[Sample]:
    """Create samples of the energy counter of one GPU, from pairs of second and joules."""
    return [sample(at, gpu=gpu(**{uuid: joules})) for at, joules in points]


def _second(reading: dict[str, Any] | None) -> float | None:
    return None if reading is None else reading["sampled_at"] / NS
