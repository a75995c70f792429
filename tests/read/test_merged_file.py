"""A query reads one merged file in place of many small ones, wherever that holds the same tasks."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.read_sizes import Layout, make_buffer
from flowprov.cli import main
from flowprov.journal.format import find_journals
from flowprov.read.compaction import compact
from flowprov.read.merged_file import NAME, with_merged
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.read.sql_query import query_rows
from tests.support import only

pytest.importorskip("duckdb")
_JOURNALS = 10
_SQL = (
    "select activity_id, hostname, pid, count(*), min(task_id), max(started_at), "
    "sum(generated->>'$.loss') from tasks group by all order by all"
)


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer with one campaign of ten journals."""
    make_buffer(tmp_path, 400, Layout(journals=_JOURNALS, campaigns=1))
    return tmp_path


@pytest.fixture
def merged(buffer: Path) -> Path:
    """The merged file of the campaign."""
    compact_all(buffer)
    return buffer / "campaign-000" / NAME


def compact_all(buffer: Path) -> None:
    source = Source(buffer)
    journals = source.campaign("campaign-000")
    with contextlib.closing(ParquetWriter()) as writer:
        compact(journals, source.digests, writer)


def files_of(buffer: Path) -> list[Path]:
    return [parquet_path(path) for path in find_journals(buffer)]


def answer(buffer: Path) -> Any:
    return query_rows(_SQL, buffer)


def test_a_query_finds_in_the_merged_file_what_it_finds_in_its_members(merged: Path) -> None:
    buffer = merged.parent.parent
    assert with_merged(files_of(buffer)) == [merged]
    found = answer(buffer)
    merged.unlink()
    assert with_merged(files_of(buffer)) == files_of(buffer)
    assert answer(buffer) == found
    for path in files_of(buffer):
        path.unlink()
    assert answer(buffer) == found


def test_its_members_are_not_opened_by_a_query(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = merged.parent.parent
    found = answer(buffer)
    states = {path: path.stat() for path in files_of(buffer)}
    for path, state in states.items():  # of the same size and time, and nothing in it
        path.write_bytes(b"\0" * state.st_size)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert answer(buffer) == found


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [_touch, _remove, _cut])
def test_where_one_member_is_another_one_they_are_read_one_by_one(
    merged: Path, change: Callable[[Path], None]
) -> None:
    buffer = merged.parent.parent
    found = answer(buffer)
    change(files_of(buffer)[3])
    assert with_merged(files_of(buffer)) == files_of(buffer)
    assert answer(buffer) == found
    compact_all(buffer)
    assert with_merged(files_of(buffer)) == [merged]
    assert answer(buffer) == found


def test_files_that_are_no_members_are_read_beside_it(merged: Path) -> None:
    buffer = merged.parent.parent
    add_journals(buffer, 2)
    found = answer(buffer)
    compact_all(buffer)
    new = [path for path in files_of(buffer) if "other" in path.parent.name]
    assert with_merged(files_of(buffer)) == [merged, *new]
    assert answer(buffer) == found


def add_journals(buffer: Path, number: int) -> None:
    """Add journals of another host to the campaign."""
    other = buffer / "other"
    make_buffer(other, 40 * number, Layout(journals=number, campaigns=1))
    (other / "campaign-000" / "node").rename(buffer / "campaign-000" / "other-node")
    (other / "campaign-000").rmdir()
    other.rmdir()
    counter = itertools.count(_JOURNALS)
    for path in (buffer / "campaign-000" / "other-node").iterdir():
        old = path.stem.rpartition("-")[2]
        name = f"{next(counter):032x}"
        path.with_name(path.name.replace(old, name)).write_bytes(
            path.read_bytes().replace(old.encode(), name.encode())
        )
        path.unlink()


def _written(path: Path) -> tuple[int, ...]:
    """Return what differs once a file is written, and not, as its time of access, once it is read."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def test_it_is_written_anew_only_when_enough_has_come(merged: Path) -> None:
    buffer = merged.parent.parent
    first = _written(merged)
    compact_all(buffer)
    add_journals(buffer, 2)
    compact_all(buffer)
    assert _written(merged) == first
    for path in (buffer / "campaign-000" / "other-node").iterdir():
        path.unlink()
    (buffer / "campaign-000" / "other-node").rmdir()
    add_journals(buffer, 9)
    compact_all(buffer)
    assert with_merged(files_of(buffer)) == [merged]


def test_it_is_written_anew_when_a_member_is_gone_with_its_journal(merged: Path) -> None:
    buffer = merged.parent.parent
    gone = find_journals(buffer)[0]
    parquet_path(gone).unlink()
    gone.unlink()
    assert with_merged(files_of(buffer)) == files_of(buffer)
    compact_all(buffer)
    assert with_merged(files_of(buffer)) == [merged]


def test_a_file_that_is_not_wanted_is_not_read_from_it(merged: Path) -> None:
    first, *others = files_of(merged.parent.parent)
    assert with_merged(others) == others
    assert with_merged([first, *others], without=[merged]) == [first, *others]


def test_few_or_large_files_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_buffer(tmp_path, 280, Layout(journals=7, campaigns=1))
    compact_all(tmp_path)
    assert not (tmp_path / "campaign-000" / NAME).exists()
    monkeypatch.setattr("flowprov.read.merged_file._FEW", 7)
    monkeypatch.setattr("flowprov.read.merged_file._SMALL", files_of(tmp_path)[0].stat().st_size - 1)
    compact_all(tmp_path)
    assert not (tmp_path / "campaign-000" / NAME).exists()


def test_it_is_read_by_whoever_may_read_all_journals(buffer: Path) -> None:
    first, *others = find_journals(buffer)
    first.chmod(0o640)
    for other in others:
        other.chmod(0o644)
    compact_all(buffer)
    folder = buffer / "campaign-000"
    assert (folder / NAME).stat().st_mode & 0o777 == 0o640
    assert only(list(folder.glob("merged*"))) == folder / NAME


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_one_whose_end_is_lost_is_not_used(merged: Path, share: float, zeros: bool) -> None:  # noqa: FBT001
    buffer = merged.parent.parent
    whole = merged.read_bytes()
    kept = whole[: int(share * len(whole))]
    merged.write_bytes(kept.ljust(len(whole), b"\0") if zeros else kept)
    try:
        _, rows = query_rows("select count(*), count(distinct task_id) from tasks", buffer)
    finally:
        merged.write_bytes(whole)
    assert rows == [(expected_tasks(buffer),) * 2]


def test_one_that_is_damaged_inside_is_left_out_and_said(
    merged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = merged.parent.parent
    found = answer(buffer)
    whole = merged.read_bytes()
    merged.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert answer(buffer) == found
    assert caplog.text.count("flowprov does not use") == 1
    assert "is damaged" in caplog.text


def expected_tasks(buffer: Path) -> int:
    return sum(path.read_bytes().count(b'{"type":"task"') for path in find_journals(buffer))


def test_rm_removes_it_with_what_a_killed_compact_left(merged: Path) -> None:
    merged.with_name(f"{NAME}.0123.new").touch()
    buffer = merged.parent.parent
    result = CliRunner().invoke(main, ["rm", "campaign-000", "--yes", "--source", str(buffer)])
    assert result.exit_code == 0, result.output
    assert not merged.parent.exists()


def test_a_compact_that_goes_on_while_rm_removes_leaves_no_record(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def remove_and_replace(new: Path, path: Path) -> None:
        path.with_suffix(".jsonl").unlink()
        replace(new, path)

    monkeypatch.setattr("flowprov.read.parquet_writer.os.replace", remove_and_replace)
    compact_all(buffer)
    assert [path for path in buffer.rglob("*") if path.is_file()] == []
