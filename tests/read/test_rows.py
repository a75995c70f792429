"""Messages become rows: folded, corrected, and with a status that depends on whether the process is alive."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flowprov import records
from flowprov.journal.summary import JournalSummary
from flowprov.read import Buffer
from flowprov.read.rows import Row, fold
from flowprov.records import Correction, Error, Footer, Heartbeat, OpenTask, Record, Sample, Task, Workflow
from tests.journal.support import NS, header, open_journal, step, write
from tests.support import only

FOOTER = Footer(at=9 * NS, captured=0, written=0)
BROKEN = Error(type="ValueError", message="no", traceback="...")


def opening(workflow_id: str = "w", at: int = 1, **fields: object) -> Workflow:
    return Workflow(workflow_id=workflow_id, started_at=at * NS, status="RUNNING", **fields)  # type: ignore[arg-type]


def ending(workflow_id: str = "w", at: int = 5, status: str = "FINISHED", **fields: object) -> Workflow:
    return Workflow(workflow_id=workflow_id, ended_at=at * NS, status=status, **fields)  # type: ignore[arg-type]


def rows_of(folder: Path, *written: Record, merge: bool = False) -> list[Row]:
    return list(Buffer(write(folder, header(), *written)).records(merge=merge))


def statuses(rows: list[Row]) -> list[str | None]:
    return [row.status for row in rows]


def test_the_opening_and_the_ending_of_a_workflow_are_one_row(tmp_path: Path) -> None:
    row = only(
        rows_of(
            tmp_path,
            opening(name="Main", used={"a": 1}, custom_metadata={"x": 1}),
            ending(generated={"b": 2}, custom_metadata={"y": 2}),
        )
    )
    assert (row.name, row.status, row.started_at, row.ended_at) == ("Main", "FINISHED", NS, 5 * NS)
    assert (row.used, row.generated, row.custom_metadata) == ({"a": 1}, {"b": 2}, {"x": 1, "y": 2})
    assert (row.campaign_id, row.hostname, row.pid) == ("c1", "node-1", 99)


def test_a_workflow_of_many_ranks_is_one_row_with_the_first_start_the_last_end_and_the_worst_status(
    tmp_path: Path,
) -> None:
    write(tmp_path, header("j1", rank=1, pid=1), opening(at=1, name="N"), ending(at=9), FOOTER)
    bad = ending(at=7, status="ERROR", error=BROKEN, generated={"loss": 1})
    write(tmp_path, header("j0", rank=0, pid=2), opening(at=2, name="N"), bad, FOOTER)
    row = only(list(Buffer(tmp_path).records()))
    assert (row.rank, row.pid, row.status, row.error) == (0, 2, "ERROR", BROKEN)
    assert (row.started_at, row.ended_at, row.generated) == (NS, 9 * NS, {"loss": 1})


def test_a_workflow_has_no_end_while_one_of_its_ranks_has_none(tmp_path: Path) -> None:
    write(tmp_path, header("j0", rank=0, pid=1), opening(), ending(), FOOTER)
    write(tmp_path, header("j1", rank=1, pid=2), opening())
    row = only(list(Buffer(tmp_path).records()))
    assert (row.status, row.ended_at) == ("INTERRUPTED", None)


def test_an_ending_whose_opening_was_lost_is_a_row(tmp_path: Path) -> None:
    row = only(rows_of(tmp_path, ending()))
    assert (row.status, row.started_at) == ("FINISHED", None)


def test_open_workflows_and_tasks_are_interrupted_if_their_writer_is_gone(tmp_path: Path) -> None:
    open_task = OpenTask(task_id=1, activity_id="long", started_at=2 * NS, status="RUNNING")
    written = (opening(), step(0, 2, ended_at=None, status="RUNNING"), open_task)
    for number, footer in enumerate(((), (FOOTER,))):
        rows = rows_of(tmp_path / str(number), *written, *footer)
        assert statuses(rows) == ["INTERRUPTED"] * 3
        assert type(rows[2]) is Task
        assert rows[2].task_id == "j1-1"


def test_open_workflows_and_tasks_are_running_while_their_writer_is_alive(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for record in (opening(), step(0, 2, ended_at=None, status="RUNNING"), OpenTask(task_id=1)):
        journal.append(records.encode(record))
    assert statuses(list(Buffer(tmp_path).records())) == ["RUNNING"] * 3
    journal.close()
    assert statuses(list(Buffer(tmp_path).records())) == ["INTERRUPTED"] * 3


def test_an_open_record_makes_no_row_if_a_task_record_exists(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, OpenTask(task_id=0), step(0), step(1, status="RUNNING"), OpenTask(task_id=1))
    assert statuses(rows) == ["FINISHED", "INTERRUPTED"]


def test_a_task_with_two_messages_has_two_rows_and_one_when_merged(tmp_path: Path) -> None:
    start = step(0, 1, status="RUNNING", ended_at=None, used={"x": 1}, custom_metadata={"dask_key": "k"})
    end = step(0, 1, generated={"y": 2}, custom_metadata={"worker": "w"}, tags=["t"])
    rows = rows_of(tmp_path, start, end)
    assert statuses(rows) == ["RUNNING", "FINISHED"]
    merged = only(rows_of(tmp_path, start, end, merge=True))
    assert (merged.used, merged.generated, merged.tags) == ({"x": 1}, {"y": 2}, ["t"])
    assert merged.custom_metadata == {"dask_key": "k", "worker": "w"}
    assert (merged.status, merged.started_at, merged.ended_at) == ("FINISHED", NS, 2 * NS)


def test_an_end_in_another_journal_ends_the_task(tmp_path: Path) -> None:
    write(tmp_path, header("a", pid=1), step("dask-1", 1, status="CANCELLED"))
    write(tmp_path, header("b", pid=2), step("dask-1", 1, status="RUNNING", ended_at=None))
    assert sorted(map(str, statuses(list(Buffer(tmp_path).records())))) == ["CANCELLED", "RUNNING"]
    merged = only(list(Buffer(tmp_path).records(merge=True)))
    assert (merged.status, merged.ended_at) == ("CANCELLED", 2 * NS)


def test_a_correction_changes_the_row_of_its_task_and_keeps_the_rest(tmp_path: Path) -> None:
    left = step(3, custom_metadata={"left_early": True})
    rows = rows_of(
        tmp_path,
        left,
        Correction(task_id=3, status="ERROR", error=BROKEN),
        Correction(task_id=77, status="ERROR"),
    )
    row = only(rows)
    assert (row.status, row.error, row.custom_metadata) == ("ERROR", BROKEN, {"left_early": True})


def test_a_correction_adds_fields_to_used_and_generated(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        Correction(task_id=3, used={"x": {"shape": [1], "mean": 0.5}}),
        step(3, 1, used={"x": {"shape": [1]}}, generated={"y": 1}),
        Correction(task_id=3, generated={"z": 2}),
    )
    row = only(rows)
    assert isinstance(row, Task)
    assert row.used == {"x": {"shape": [1], "mean": 0.5}}
    assert row.generated == {"y": 1, "z": 2}
    assert (row.task_id, row.status, row.error) == ("j1-3", "FINISHED", None)


def test_control_records_are_no_rows(tmp_path: Path) -> None:
    assert rows_of(tmp_path, Heartbeat(at=1), Sample(at=1, values={}), FOOTER) == []


def test_rows_are_ordered_by_their_start_and_ties_as_they_were_written(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, step(0, 5), step(1, 2), step(2, 2), Task(task_id=3), opening(at=2))
    assert [getattr(row, "task_id", "w") for row in rows] == ["j1-1", "j1-2", "w", "j1-0", "j1-3"]


def test_task_numbers_that_a_forked_child_inherited_are_those_of_its_parent(tmp_path: Path) -> None:
    child = header("child", pid=2, first_number=5, ancestors=[("parent", 0)])
    path = write(
        tmp_path, child, step(6, parent_task_id=3, group_id=5), Correction(task_id=6, status="ERROR")
    )
    row = only(list(Buffer(path).records()))
    assert isinstance(row, Task)
    assert (row.task_id, row.parent_task_id, row.group_id) == ("child-6", "parent-3", "child-5")
    assert row.status == "ERROR"


messages = st.lists(
    st.one_of(
        st.builds(
            step, st.integers(0, 3), st.integers(0, 5), status=st.sampled_from(["RUNNING", "FINISHED"])
        ),
        st.builds(opening, st.sampled_from("ab"), st.integers(0, 5)),
        st.builds(ending, st.sampled_from("ab"), st.integers(0, 5)),
        st.builds(lambda n: OpenTask(task_id=n), st.integers(0, 3)),
        st.builds(lambda n: Correction(task_id=n, status="ERROR", error=BROKEN), st.integers(0, 3)),
    ),
    max_size=12,
)


@given(first=messages, second=messages, alive=st.booleans())
def test_any_messages_give_one_row_per_attempt_of_a_workflow_and_one_per_merged_task(
    *, first: list[Record], second: list[Record], alive: bool
) -> None:
    journals = [
        (JournalSummary(Path(name), header(name, pid=pid), None, None, alive, 0), messages)
        for pid, (name, messages) in enumerate((("a", first), ("b", second)))
    ]
    rows = fold(journals)
    attempts: dict[str, list[int | None]] = {}
    for row in rows:
        if isinstance(row, Workflow):
            attempts.setdefault(row.workflow_id, []).append(row.attempt)
    written = [record.workflow_id for record in (*first, *second) if isinstance(record, Workflow)]
    assert attempts.keys() == set(written)
    for workflow_id, numbers in attempts.items():
        assert sorted(map(int, filter(None, numbers))) == list(range(1, len(numbers) + 1))
        assert len(numbers) <= written.count(workflow_id)
    starts = [row.started_at for row in rows if row.started_at is not None]
    assert starts == sorted(starts) or any(row.started_at is None for row in rows)
    merged = [row.task_id for row in fold(journals, merge=True) if isinstance(row, Task)]
    assert sorted(map(str, merged)) == sorted({str(row.task_id) for row in rows if isinstance(row, Task)})
    assert not any(type(row) is OpenTask for row in rows)
    if not alive:
        assert all(row.status != "RUNNING" for row in fold(journals, merge=True))
