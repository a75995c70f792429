"""SQL finds the same in Parquet files, in journals, and with either database."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from flowprov.journal.format import find_journals
from flowprov.read import parquet_files, sql_query
from flowprov.read.compaction import compact
from flowprov.read.frames import COLUMNS
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.records import Footer, Record, Sample
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals, campaigns, write_campaign

pytest.importorskip("duckdb")
_writer = ParquetWriter()
_NESTED = ("used", "generated", "custom_metadata", "error", "tags", "dependencies")
_EVERYTHING = f"select {', '.join(COLUMNS)} from tasks"  # noqa: S608 - reads
_USUAL = f"select {', '.join(name for name in COLUMNS if not name.startswith('telemetry'))} from tasks"  # noqa: S608 - reads


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


def check(journals: Journals) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals)
        expected = rows_of(folder, _EVERYTHING, duckdb=False)
        assert rows_of(folder, _EVERYTHING) == expected
        compact_all(folder)
        assert rows_of(folder, _EVERYTHING) == expected
    finally:
        shutil.rmtree(folder)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns)
def test_tasks_are_the_same(journals: Journals) -> None:
    check(journals)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns)
def test_tasks_are_the_same_in_many_buffers(journals: Journals) -> None:
    check(journals)


def test_readings_are_joined_where_a_statement_asks_for_them(tmp_path: Path) -> None:
    sample = Sample(at=2 * NS, values={"mem": {"used_bytes": 1}})
    write(tmp_path, header(), step(1), sample, step(2), *_footer(2))
    expected = rows_of(tmp_path, _EVERYTHING, duckdb=False)
    compact_all(tmp_path)
    assert parquet_path(find_journals(tmp_path)[0]).exists()
    assert rows_of(tmp_path, _EVERYTHING) == expected
    assert rows_of(tmp_path, "select count(telemetry_at_start) as n from tasks") == ["[2]"]
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


def _footer(count: int) -> list[Record]:
    return [Footer(at=99 * NS, captured=count, written=count)]
