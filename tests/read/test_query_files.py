"""SQL finds the same in Parquet files, in journals, and with either database."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowprov.errors import UsageError
from flowprov.journal.format import find_journals
from flowprov.journal.summary import JournalSummary
from flowprov.read import duck_tables, in_place, parquet_files, sql_query
from flowprov.read.campaign_sources import campaigns_of
from flowprov.read.compaction import compact
from flowprov.read.decoding import records_of
from flowprov.read.frames import COLUMNS
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.read.task_lines import TaskLines
from flowprov.records import Correction, Footer, Header, OpenTask, Record, Sample, encode
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals, campaigns, first_numbers, hostile_values, write_campaign

pytest.importorskip("duckdb")
_writer = ParquetWriter()
_NESTED = ("used", "generated", "custom_metadata", "error", "tags", "dependencies")
_EVERYTHING = f"select {', '.join(COLUMNS)} from tasks"  # noqa: S608 - reads
_USUAL = f"select {', '.join(name for name in COLUMNS if not name.startswith('telemetry'))} from tasks"  # noqa: S608 - reads


_END: list[Record] = [Footer(at=99 * NS, captured=1, written=1)]


def rows_of(folder: Path, statement: str, *, duckdb: bool = True) -> list[str]:
    """Return the rows that a statement finds, sorted; JSON texts are compared by what they say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql_query, "has_duckdb", lambda: duckdb)
        columns, rows = sql_query.query_rows(statement, folder)
    return sorted(str([_said(*cell) for cell in zip(columns, row, strict=True)]) for row in rows)


def _said(column: str, cell: Any) -> Any:
    return json.loads(cell) if column in _NESTED and cell is not None else cell


def compact_all(folder: Path) -> None:
    source = Source(folder)
    compact(source.campaign("c1"), source.digests, _writer)


def check(journals: Journals, firsts: list[int] | None = None) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals, firsts=firsts)
        expected = rows_of(folder, _EVERYTHING, duckdb=False)
        assert rows_of(folder, _EVERYTHING) == expected
        compact_all(folder)
        assert rows_of(folder, _EVERYTHING) == expected
    finally:
        shutil.rmtree(folder)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, first_numbers)
def test_tasks_are_the_same(journals: Journals, firsts: list[int] | None) -> None:
    check(journals, firsts)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, first_numbers)
def test_tasks_are_the_same_in_many_buffers(journals: Journals, firsts: list[int] | None) -> None:
    check(journals, firsts)


def test_readings_are_joined_where_a_statement_asks_for_them(tmp_path: Path) -> None:
    sample = Sample(at=2 * NS, values={"mem": {"used_bytes": 1}})
    write(tmp_path, header(), step(1), sample, step(2), *_footer(2))
    expected = rows_of(tmp_path, _EVERYTHING, duckdb=False)
    compact_all(tmp_path)
    assert parquet_path(find_journals(tmp_path)[0]).exists()
    assert rows_of(tmp_path, _EVERYTHING) == expected
    assert rows_of(tmp_path, "select count(telemetry_at_start) as n from tasks") == ["[2]"]
    assert rows_of(tmp_path, "select count(telemetry_at_start) as n from tasks, campaigns") == ["[2]"]
    assert rows_of(tmp_path, "select count(*) as n from (select distinct * from tasks)") == ["[2]"]
    assert rows_of(tmp_path, _USUAL) == rows_of(tmp_path, _USUAL, duckdb=False)


def test_files_alone_are_read_where_they_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, header(), *(step(number, generated={"loss": number}) for number in range(9)), *_footer(9))
    compact_all(tmp_path)
    monkeypatch.setattr("flowprov.read.task_rows.records_of", None)
    statement = "select sum(cast(generated->>'$.loss' as double)) as n from tasks where task_id > 'j1-3'"
    assert rows_of(tmp_path, statement) == ["[30.0]"]


def test_a_file_damaged_inside_is_left_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "_reported", {})
    path = write(
        tmp_path,
        header(),
        *(step(number, used={"x": str(number) * 99}) for number in range(99)),
        *_footer(99),
    )
    expected = rows_of(tmp_path, _USUAL)
    compact_all(tmp_path)
    file = parquet_path(path)
    data = bytearray(file.read_bytes())
    data[4:400] = bytes(396)
    file.write_bytes(data)
    assert rows_of(tmp_path, _USUAL) == expected
    assert caplog.text.count("flowprov does not use") == 1


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(hostile_values, min_size=1, max_size=5))
def test_any_values_are_the_same_in_place(values: list[bytes]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        path = write(folder, header(), step(1))
        with path.open("ab") as file:
            for number, value in enumerate(values, 2):
                file.write(b'{"type":"task","task_id":%d,"status":"FINISHED","used":%b}\n' % (number, value))
            file.writelines(map(encode, _END))
        assert rows_of(folder, _EVERYTHING) == rows_of(folder, _EVERYTHING, duckdb=False)
    finally:
        shutil.rmtree(folder)


def test_closed_journals_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = (step(number, generated={"loss": number}) for number in range(9))
    write(tmp_path, header(), *tasks, step(3, generated={"loss": {"$float": "nan"}}), *_footer(10))
    write(tmp_path, header("j2"), step(0, generated={"loss": 1}, parent_task_id="j1-0"), *_footer(1))
    expected = rows_of(tmp_path, _EVERYTHING, duckdb=False)
    monkeypatch.setattr("flowprov.read.task_rows.records_of", None)
    assert rows_of(tmp_path, _EVERYTHING) == expected
    statement = "select count(*) as n from tasks where task_id > 'j1-3' and hostname = 'node-1'"
    assert rows_of(tmp_path, statement) == ["[6]"]


@pytest.mark.parametrize(
    ("first", "written"),
    [
        (header(), [step(0), step(1)]),  # open
        (header(first_number=1, ancestors=[("j0", 0)]), [step(1), *_END]),
        (header(), [step(0), Correction(task_id="j2-1", status="ERROR"), *_END]),
        (header(), [step(0, subtype="dask_task"), *_END]),
        (header(), [Sample(at=NS, values={"mem": {"used_bytes": 1}}), step(0), *_END]),
    ],
    ids=["open", "forked", "of another journal", "dask", "samples"],
)
def test_other_journals_are_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Header, written: list[Record]
) -> None:
    write(tmp_path, first, *written)
    write(tmp_path, header("j2"), step(1), *_END)
    read: list[Path] = []

    def noted(journal: JournalSummary) -> Iterator[Record]:
        read.append(journal.path)
        return records_of(journal)

    monkeypatch.setattr("flowprov.read.task_rows.records_of", noted)
    assert rows_of(tmp_path, _EVERYTHING) == rows_of(tmp_path, _EVERYTHING, duckdb=False)
    assert any("j1" in path.name for path in read)


def test_tasks_with_corrections_and_without_an_end_are_read_with_the_others(tmp_path: Path) -> None:
    special: list[Record] = [
        step(2, status="RUNNING", ended_at=None),
        OpenTask(task_id=3),
        Correction(task_id=1, tags=["a"]),
    ]
    tasks: list[Record] = [step(0), step(1)]
    write(tmp_path, header(), *tasks, *special, step(4), step(4), *_END)
    expected = rows_of(tmp_path, _EVERYTHING, duckdb=False)
    assert len(expected) == 5
    assert rows_of(tmp_path, _EVERYTHING) == expected


def test_a_journal_in_which_duckdb_counts_other_tasks_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, header(), *map(step, range(9)), *_END)
    monkeypatch.setattr(in_place, "_counted_by_duckdb", lambda _: {})
    monkeypatch.setattr("flowprov.read.sql_query.DuckTables.add_files", lambda *_: None)
    assert rows_of(tmp_path, "select count(*) as n from tasks") == ["[9]"]


def test_what_duckdb_cannot_read_in_place_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header(), step(0))
    with path.open("ab") as file:
        file.write(b'{"type":"task","task_id":1,"status":"FINISHED","used":{"a":1}}\n')
        file.write(b'{"type":"task","task_id":2,"status":"FINISHED","used":null,"parent_task_id":null}\n')
        file.write(b'{"task_id":3,"type":"task","status":"FINISHED","unknown":[1]}\n')
        file.writelines(map(encode, _END))
    expected = rows_of(tmp_path, _EVERYTHING, duckdb=False)
    assert rows_of(tmp_path, _EVERYTHING) == expected
    monkeypatch.setattr(in_place, "_counted_by_duckdb", lambda found: {str(path): one.usual for one in found})
    path.write_bytes(path.read_bytes().replace(b'"used":{"a":1}', b'"pid":{"a":12}'))
    monkeypatch.setattr(TaskLines, "damaged", property(lambda _: False, lambda *_: None), raising=False)
    assert rows_of(tmp_path, _EVERYTHING) == rows_of(tmp_path, _EVERYTHING, duckdb=False)
    with pytest.raises(UsageError, match="nothing_like_it"):
        rows_of(tmp_path, "select nothing_like_it from tasks")


def test_what_needs_more_memory_than_it_may_take_goes_to_a_folder_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "buffer", header(), step(0), *_END)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(duck_tables, "SPILL_ABOVE", "60MB")
    found = campaigns_of(tmp_path / "buffer", None)
    ordered = "select n, row_number() over (order by hash(n), n) as place from range(3000000) as t(n)"
    statement = f"select count(*), sum(place) from ({ordered}), tasks"  # noqa: S608 - reads
    assert sql_query.rows_of_tasks([statement, statement], found) == [[(3_000_000, 4_500_001_500_000)]] * 2
    assert list((tmp_path / "temporary").iterdir()) == []
    without = duck_tables.DuckTables()
    without._connection.execute("set memory_limit = '60MB'")
    without.add("tasks", ["n"], [{"n": 1}])
    with pytest.raises(UsageError, match="Out of Memory"):
        without.select(statement)


def _footer(count: int) -> list[Record]:
    return [Footer(at=99 * NS, captured=count, written=count)]


def test_a_query_without_enough_memory_says_so_and_reads_nothing_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_little_memory(connect: Callable[[], Any] = duck_tables._connection) -> Any:
        connection = connect()
        connection.execute("set memory_limit = '16MB'")
        return connection

    write(tmp_path, header(), step(0), *_footer(1))
    monkeypatch.setattr(duck_tables, "_connection", with_little_memory)
    monkeypatch.setattr("flowprov.read.task_rows.records_of", None)
    statement = "select list(range::varchar || task_id) as x from tasks, range(3000000)"
    with pytest.raises(UsageError, match=r"the memory does not suffice: .*one campaign"):
        sql_query.query_rows(statement, tmp_path)
