"""The memory of a verification follows what is open, and not how much ran."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov import records
from flowprov.read.verify import verify
from flowprov.records import Correction, Error, Footer, OpenTask, Record, Status, Task, Workflow
from tests.journal.support import NS, header, step

FEW, MANY = 5_000, 15_000  # of either the file is larger than what the reader holds at a time
RUNNING, INTERRUPTED = Status.RUNNING.value, Status.INTERRUPTED.value
VALUES = {"text": "x" * 500, "numbers": list(range(20))}
TRACEBACK = Error(type="ValueError", message="m", traceback="x" * 2_000)


def _start(number: int | str) -> Task:
    return step(number, ended_at=None, status=RUNNING, workflow_id="w", used=VALUES)


def _dask_tasks(count: int) -> Iterator[Record]:
    """Yield tasks two of which run at a time."""
    yield _start(0)
    for number in range(1, count):
        yield _start(number)
        yield step(number - 1, workflow_id="w", generated=VALUES)
    yield step(count - 1, workflow_id="w")


def _additions(count: int) -> Iterator[Record]:
    """Yield tasks to which something was given while they were open."""
    for number in range(count):
        given = {"started_at": NS, "used": VALUES, "generated": VALUES}
        yield OpenTask(task_id=number, workflow_id="w", **given)  # type: ignore[arg-type]
        yield step(number, workflow_id="w")


def _corrections(count: int) -> Iterator[Record]:
    """Yield tasks that turned out to have failed."""
    for number in range(count):
        yield step(number, workflow_id="w")
        yield Correction(task_id=number, status=Status.ERROR.value, error=TRACEBACK)


def _additions_to_a_workflow(count: int) -> Iterator[Record]:
    for _ in range(count):
        yield Workflow(workflow_id="w", generated=VALUES)


def _workflows(count: int) -> Iterator[Record]:
    for number in range(count):
        opening = {"settings": VALUES, "machine_info": VALUES, "used": VALUES, "started_at": NS}
        yield Workflow(workflow_id=f"w{number}", status=RUNNING, **opening)  # type: ignore[arg-type]
        yield Workflow(workflow_id=f"w{number}", status=Status.FINISHED.value, ended_at=2 * NS)


def _never_ended(count: int) -> Iterator[Record]:
    for number in range(count):
        yield _start(number)


def _write(folder: Path, written: Iterator[Record]) -> None:
    first = header()
    path = folder / first.campaign_id / first.hostname / f"{first.pid}-{first.journal_id}.jsonl"
    path.parent.mkdir(parents=True)
    events = 0
    with path.open("wb") as file:
        file.write(records.encode(first))
        for record in written:
            events += type(record) in (Task, Workflow)
            file.write(records.encode(record))
        file.write(records.encode(Footer(at=9 * NS, captured=events, written=events)))


def _peak(folder: Path, written: Iterator[Record]) -> tuple[int, int]:
    """Return the largest memory of a verification, in bytes, and how many items it finds open."""
    _write(folder, written)
    tracemalloc.start()
    try:
        result = verify(folder)
        return tracemalloc.get_traced_memory()[1], len(result.open_items)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "bytes_each", "open_each"),
    [
        (_dask_tasks, 50, 0),
        pytest.param(_additions, 50, 0, marks=pytest.mark.soak),
        pytest.param(_corrections, 50, 0, marks=pytest.mark.soak),
        pytest.param(_additions_to_a_workflow, 50, 0, marks=pytest.mark.soak),
        # Of workflows: two records, a row, the attempts of each.
        pytest.param(_workflows, 3_500, 0, marks=pytest.mark.soak),
        (_never_ended, 2_500, 1),  # a record, a row, an item of the result
    ],
)
def test_memory_does_not_grow_with_what_has_ended(
    tmp_path: Path, kind: Callable[[int], Iterator[Record]], bytes_each: int, open_each: int
) -> None:
    _peak(tmp_path / "warm", kind(10))
    few, open_of_few = _peak(tmp_path / "few", kind(FEW))
    many, open_of_many = _peak(tmp_path / "many", kind(MANY))
    assert (open_of_few, open_of_many) == (open_each * FEW, open_each * MANY)
    assert many - few < bytes_each * (MANY - FEW)


def test_a_task_that_ends_in_another_journal_has_ended_and_its_values_are_not_kept(tmp_path: Path) -> None:
    for count, folder in ((FEW, "few"), (MANY, "many")):
        for name, of_task in (("j1", lambda number: _start(f"t{number}")), ("j2", lambda n: step(f"t{n}"))):
            path = tmp_path / folder / "c1" / "node-1" / f"99-{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            written: list[Record] = [header(name), *map(of_task, range(count))]
            written.append(Footer(at=9 * NS, captured=count, written=count))
            path.write_bytes(b"".join(map(records.encode, written)))
    peaks = []
    for folder in ("few", "many"):
        tracemalloc.start()
        result = verify(tmp_path / folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert result.open_items == []
    assert peaks[1] - peaks[0] < 1_500 * (MANY - FEW)


def test_an_open_task_keeps_its_name_and_the_correction_that_ended_it(tmp_path: Path) -> None:
    _write(
        tmp_path,
        iter(
            [
                step(0, ended_at=None, status=RUNNING, activity_id="runs", workflow_id="w"),
                OpenTask(task_id=1, activity_id="given to", workflow_id="w", started_at=NS, used=VALUES),
                OpenTask(task_id=1, started_at=NS, generated=VALUES),
                step(2, status=INTERRUPTED, activity_id="left", workflow_id="w"),
                step(3, ended_at=None, status=RUNNING, activity_id="corrected", workflow_id="w"),
                Correction(task_id=3, status=Status.ERROR.value, error=TRACEBACK),
            ]
        ),
    )
    found = {item.name: (item.status, item.workflow_id) for item in verify(tmp_path).open_items}
    assert found == dict.fromkeys(["runs", "given to", "left"], (INTERRUPTED, "w"))
