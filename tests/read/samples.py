"""Samples, and tasks and workflows that ran among them, at scripted seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowprov.journal.summary import JournalSummary
from flowprov.read.rows import Row, fold
from flowprov.records import Sample, Task, Workflow
from tests.journal.support import NS, header


def sample(at: float, **values: Any) -> Sample:
    """Make a whole sample; by default it says only when it was taken."""
    return Sample(at=ns(at), values=values or {"cpu": {"user_s": at}})


def change(at: float, **values: Any) -> Sample:
    """Make a sample of what changed."""
    return Sample(at=ns(at), changes=values)


def every_second(count: int) -> list[Sample]:
    """Make samples at second 10, 11, ..."""
    return [sample(10.0 + place) for place in range(count)]


def task(start: float | None, end: float | None, number: int | str = 0, **fields: Any) -> Task:
    """Make a task between two seconds; without an end it is still running."""
    status = "FINISHED" if end is not None else "RUNNING"
    times = {"started_at": ns(start), "ended_at": ns(end)}
    return Task(task_id=number, **{"status": status, **times, **fields})


def workflow(start: float | None, end: float | None, name: str = "w", **fields: Any) -> list[Workflow]:
    """Make the opening and, where there is one, the ending of a workflow."""
    made = []
    if start is not None:
        made.append(Workflow(workflow_id=name, started_at=ns(start), status="RUNNING", **fields))
    if end is not None:
        made.append(Workflow(workflow_id=name, ended_at=ns(end), status="FINISHED"))
    return made


def ns(seconds: float | None) -> Any:
    """Give seconds in nanoseconds."""
    return None if seconds is None else round(seconds * NS)


def rows_of(*journals: Iterable[Any], merge: bool = False, alive: bool = False) -> list[Row]:
    """Fold journals, of processes of one host."""
    named = [
        (JournalSummary(Path(f"j{pid}"), header(f"j{pid}", pid=pid), None, None, alive, 0), records)
        for pid, records in enumerate(journals)
    ]
    return fold(named, merge=merge)


def sampled_at(row: Row) -> tuple[float | None, float | None]:
    """Say, in seconds, when the samples were taken that a row shows."""
    return _second(row.telemetry_at_start), _second(row.telemetry_at_end)


def gpu(**joules: float | None) -> dict[str, Any]:
    """Make readings of GPUs: energy counters by uuid."""
    return {
        str(place): {"uuid": uuid, "utilization_percent": 50, **({} if j is None else {"energy_j": j})}
        for place, (uuid, j) in enumerate(joules.items())
    }


def counted(points: Sequence[tuple[float, float]], uuid: str = "GPU-a") -> list[Sample]:
    """Make samples of one GPU: (second, joules) each."""
    return [sample(at, gpu=gpu(**{uuid: joules})) for at, joules in points]


def _second(reading: dict[str, Any] | None) -> float | None:
    return None if reading is None else reading["sampled_at"] / NS
