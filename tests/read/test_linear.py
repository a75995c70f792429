"""Reading costs time in proportion to what is read, whatever the records have to do with each other.

Each case is read with n records and with four times as many. What takes the square would take sixteen times
as long.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov import read
from flowprov.read.outline import Outline
from flowprov.read.source import Source
from flowprov.read.verify import verify
from flowprov.records import Correction, LeftOut, OpenTask, Record, Sample, Workflow
from tests.journal.support import NS, header, step, write

_MAX_RATIO = 9.0


def _corrections(count: int) -> Iterator[Record]:
    yield step(0)
    for n in range(count):
        yield Correction(task_id=0, generated={f"k{n}": n}, custom_metadata={f"m{n}": n}, tags=[f"t{n}"])


def _additions_to_a_task(count: int) -> Iterator[Record]:
    for n in range(count):
        yield OpenTask(task_id=0, started_at=NS, used={f"k{n}": n}, tags=[f"t{n}"])


def _additions_to_a_workflow(count: int) -> Iterator[Record]:
    yield Workflow(workflow_id="w", status="RUNNING", started_at=NS)
    for n in range(count):
        yield Workflow(workflow_id="w", generated={f"k{n}": n}, custom_metadata={"tags": [f"t{n}"]})


def _messages(count: int) -> Iterator[Record]:
    for n in range(count):
        yield step("t", status="RUNNING" if n % 2 else "FINISHED", used={f"k{n}": n})


def _left_out(count: int) -> Iterator[Record]:
    for n in range(count):
        dependencies = [f"dask:k{n - 1}"] if n else []
        yield LeftOut(workflow_id="w", dask_key=f"k{n}", at=n + 1, dependencies=dependencies)
    yield step("d", count, workflow_id="w", dependencies=[f"dask:k{count - 1}"])


def _left_out_beside_tasks(count: int) -> Iterator[Record]:
    for n in range(count):
        dependencies = [f"dask:k{n - 1}", f"dask:k{n - 2}", f"task-{n % 9}"]
        yield LeftOut(workflow_id="w", dask_key=f"k{n}", at=n + 1, dependencies=dependencies)
        yield step(f"d{n}", n, workflow_id="w", dependencies=[f"dask:k{n}"])


def _openings(count: int) -> Iterator[Record]:
    for n in range(count):
        yield Workflow(workflow_id="w", status="RUNNING", started_at=n + 1)


def _nested_workflows(count: int) -> Iterator[Record]:
    for n in range(count):
        parent = f"w{n - 1}" if n else None
        yield Workflow(workflow_id=f"w{n}", parent_workflow_id=parent, status="RUNNING", started_at=n + 1)


def _circle(count: int) -> Iterator[Record]:
    for n in range(count):
        yield Workflow(
            workflow_id=f"w{n}", parent_workflow_id=f"w{(n + 1) % count}", status="RUNNING", started_at=1
        )
        yield step(n, parent_task_id=(n + 1) % count)


def _growing_samples(count: int) -> Iterator[Record]:
    yield step(0, 1)
    for n in range(count):
        yield Sample(at=n * NS, changes={"cpu": {f"k{n}": n}, f"kind{n}": {"a": 1}})


def _chain(count: int) -> Iterator[Record]:
    for n in range(count):
        yield step(n, parent_task_id=n - 1 if n else None, activity_id="recurse")


def _names(count: int) -> Iterator[Record]:
    for n in range(count):
        yield step(n, activity_id=f"name {n}")


def _broken_forwards(count: int) -> Iterator[Record]:
    lost = {"y": {"type": "tensor", "statistics": {"nan_count": 1}}}
    for n in range(count):
        yield step(n, parent_task_id=(n + 1) % count, subtype="child_forward", generated=lost)


def _rows(folder: Path) -> None:
    list(flowprov.Buffer(folder).records(merge=True))


def _telemetry(folder: Path) -> None:
    list(flowprov.Buffer(folder).records())
    flowprov.Buffer(folder).telemetry()


def _show(folder: Path) -> None:
    for line in Outline(Source(folder).require_campaign()).lines():
        assert len(line) < 300


def _verify(folder: Path) -> None:
    verify(folder)


def _first_nonfinite(folder: Path) -> None:
    read.first_nonfinite(flowprov.Buffer(folder).records())


def _lineage(folder: Path) -> None:
    rows = list(flowprov.Buffer(folder).records())
    read.tree(rows)
    read.ancestors(rows, str(getattr(rows[-1], "task_id", rows[-1].workflow_id)))


CASES: list[tuple[Callable[[int], Iterator[Record]], Callable[[Path], None], int]] = [
    (_corrections, _rows, 1_500),
    (_corrections, _show, 1_500),
    (_additions_to_a_task, _rows, 1_500),
    (_additions_to_a_workflow, _rows, 1_500),
    (_messages, _rows, 1_500),
    (_left_out, _rows, 2_000),
    (_left_out_beside_tasks, _rows, 1_000),
    (_openings, _rows, 1_500),
    (_openings, _verify, 1_000),
    (_nested_workflows, _verify, 1_000),
    (_nested_workflows, _show, 1_000),
    (_circle, _rows, 1_000),
    (_circle, _show, 1_000),
    (_circle, _lineage, 1_000),
    (_growing_samples, _telemetry, 1_000),
    (_chain, _show, 1_000),
    (_chain, _lineage, 1_000),
    (_names, _show, 1_000),
    (_broken_forwards, _first_nonfinite, 1_500),
]


def _is_linear(action: Callable[[Path], None], few: Path, many: Path) -> bool:
    """Whether the time for many is about four times that for few; measured again if the machine was busy."""
    return any(_seconds(action, many) / _seconds(action, few) < _MAX_RATIO for _ in range(3))


def _seconds(action: Callable[[Path], None], folder: Path) -> float:
    gc.collect()
    gc.disable()  # a collection costs what all tests before have left, whoever needs it
    try:
        began = time.process_time()
        action(folder)
        return time.process_time() - began
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("build", "action", "count"), CASES, ids=[f"{b.__name__[1:]}-{a.__name__[1:]}" for b, a, _ in CASES]
)
def test_four_times_the_records_take_about_four_times_as_long(
    build: Callable[[int], Iterator[Record]], action: Callable[[Path], None], count: int, tmp_path: Path
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    write(few, header(), *build(count))
    write(many, header(), *build(4 * count))
    assert _is_linear(action, few, many)


def test_journals_that_lost_their_headers_are_told_apart_in_linear_time(tmp_path: Path) -> None:
    def build(folder: Path, count: int) -> Path:
        for n in range(count):
            write(folder, header(f"j{n}", f"campaign {n}"), step(0))
            lost = write(folder, header(f"k{n}", f"campaign-{n}"), step(0))
            lost.write_bytes(lost.read_bytes().partition(b"\n")[2])
        return folder

    def campaigns(folder: Path) -> None:
        flowprov.Buffer(folder).campaigns()

    few, many = build(tmp_path / "few", 100), build(tmp_path / "many", 400)
    assert _is_linear(campaigns, few, many)


def test_the_search_for_workflows_in_other_campaigns_is_linear(tmp_path: Path) -> None:
    def build(folder: Path, count: int) -> Path:
        write(folder, header(), *(step(n, workflow_id=f"lost {n}") for n in range(count)))
        write(folder, header("j2", "c2"), *(Workflow(workflow_id=f"other {n}") for n in range(4 * count)))
        return folder

    few, many = build(tmp_path / "few", 1_000), build(tmp_path / "many", 4_000)

    def check(folder: Path) -> None:
        verify(folder, campaign_id="c1")

    assert _is_linear(check, few, many)


def test_left_out_tasks_that_stand_for_all_before_them_are_resolved_as_far_as_memory_allows(
    tmp_path: Path,
) -> None:
    count = 10_000
    left_out = [
        LeftOut(workflow_id="w", dask_key=f"k{n}", at=n + 1, dependencies=[f"dask:k{n - 1}", f"task-{n}"])
        for n in range(count)
    ]
    early = step("early", 0, started_at=1_000, workflow_id="w", dependencies=["dask:k900"])
    late = step("late", 1, workflow_id="w", dependencies=[f"dask:k{count - 1}"])
    write(tmp_path, header(), *left_out, early, late)
    early_row, late_row = flowprov.read_buffer(tmp_path, return_df=False)
    assert early_row["dependencies"] == ["dask:k-1", *(f"task-{n}" for n in range(901))]
    assert late_row["dependencies"][-1] == f"task-{count - 1}"
    assert any(name.startswith("dask:k") for name in late_row["dependencies"]), "what was not resolved stays"


def test_a_reading_that_every_sample_would_copy_is_left_out(tmp_path: Path) -> None:
    large = {f"k{n}": n for n in range(100_000)}
    samples = [Sample(at=n * NS, changes={"cpu": {"x": n}}) for n in range(1, 1_000)]
    write(tmp_path, header(), Sample(at=0, values={"cpu": large}), *samples, step(0, 500))
    frame = flowprov.Buffer(tmp_path).telemetry()
    assert frame.shape[0] == 1_000
    assert frame.shape[1] <= 1_004
