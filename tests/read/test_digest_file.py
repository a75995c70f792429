"""One file holds the digests of a campaign; it is used only as far as it agrees with the journals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.read_sizes import Layout, make_buffer
from flowprov.cli import main
from flowprov.journal.format import find_journals
from flowprov.read import parquet_files
from flowprov.read.artifacts import scan
from flowprov.read.compaction import compact
from flowprov.read.digest_file import NAME
from flowprov.read.parquet_files import digests_of, parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.questions import campaign_table
from flowprov.read.source import Source
from tests.support import only

pytest.importorskip("duckdb")
_JOURNALS = 10


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """A buffer with one campaign of ten journals, with their Parquet files."""
    make_buffer(tmp_path, 400, Layout(journals=_JOURNALS, campaigns=1))
    compact(Source(tmp_path).campaign("campaign-000"), {}, ParquetWriter())
    return tmp_path


def file_of(buffer: Path) -> Path:
    return buffer / "campaign-000" / NAME


def test_digests_are_read_without_opening_the_files(compacted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = campaign_table(compacted)
    file_of(compacted).unlink()
    assert campaign_table(compacted) == expected
    assert file_of(compacted).exists()  # the first read wrote it anew
    monkeypatch.setattr(parquet_files, "_digests_in", None)
    assert campaign_table(compacted) == expected


def test_campaigns_are_listed_without_searching_their_journals(
    compacted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "open_regular", None)
    assert only(campaign_table(compacted))["status"] == "COMPLETE"


def test_it_is_read_by_whoever_may_read_the_journals(compacted: Path) -> None:
    file_of(compacted).unlink()
    first, *others = find_journals(compacted)
    first.chmod(0o600)
    for other in others:
        other.chmod(0o640)
    digests_of(find_journals(compacted))
    assert file_of(compacted).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file_of(compacted).parent.glob("digests*")] == [NAME]


def test_an_entry_that_does_not_agree_is_not_used(compacted: Path) -> None:
    grown, again, gone, touched, *_ = journals = find_journals(compacted)
    with grown.open("ab") as file:
        file.write(b'{"type":"task","task_id":99,"status":"FINISHED"}\n')
    parquet_path(again).write_bytes(b"PAR1 no file PAR1")
    parquet_path(gone).unlink()
    os.utime(touched, ns=(1, 1))
    digests = digests_of(journals)
    assert set(digests) == set(journals) - {grown, again, gone}
    assert all(digest.fits(path) for path, digest in digests.items())


def test_a_few_digests_are_not_written_again(tmp_path: Path) -> None:
    make_buffer(tmp_path, 80, Layout(journals=2, campaigns=1))
    compact(Source(tmp_path).campaign("campaign-000"), {}, ParquetWriter())
    assert len(digests_of(find_journals(tmp_path))) == 2
    assert not file_of(tmp_path).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_read_as_before(compacted: Path) -> None:
    file_of(compacted).unlink()
    file_of(compacted).parent.chmod(0o500)
    try:
        assert len(digests_of(find_journals(compacted))) == _JOURNALS
    finally:
        file_of(compacted).parent.chmod(0o700)


def test_a_file_that_cannot_be_written_is_left_out(compacted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of(compacted).unlink()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert len(digests_of(find_journals(compacted))) == _JOURNALS
    assert list(file_of(compacted).parent.glob("digests*")) == []


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=40), st.integers(0, 4_000))
def test_damage_is_never_believed(compacted: Path, damage: bytes, offset: int) -> None:
    journals = find_journals(compacted)
    if not file_of(compacted).exists():
        digests_of(journals)
    data = file_of(compacted).read_bytes()
    file_of(compacted).write_bytes(data[:offset] + damage + data[offset + len(damage) :])
    digests = digests_of(journals)
    assert set(digests) == set(journals)
    assert all(digest.fits(path) for path, digest in digests.items())
    file_of(compacted).write_bytes(data)


def test_a_folder_in_its_place_is_left(compacted: Path) -> None:
    file_of(compacted).unlink()
    file_of(compacted).mkdir()
    assert len(digests_of(find_journals(compacted))) == _JOURNALS


def test_rm_removes_it(compacted: Path) -> None:
    result = CliRunner().invoke(main, ["rm", "campaign-000", "--yes", "--source", str(compacted)])
    assert result.exit_code == 0, result.output
    assert not file_of(compacted).parent.exists()
