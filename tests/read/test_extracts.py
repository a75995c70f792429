"""What follows from extracts and digests is what follows from all records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.read_sizes import Layout, make_buffer
from flowprov.read.answers.contents import read_contents, read_runs
from flowprov.read.answers.extract import extract_of
from flowprov.read.answers.tables import campaign_line, metric_lines, run_lines
from flowprov.read.campaign_names import campaign_of
from flowprov.read.compaction import compact
from flowprov.read.decoding import reader_of
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.read.verify import verify_journals
from tests.read.buffers import Journals, campaigns, write_campaign

pytest.importorskip("duckdb")
_writer = ParquetWriter()


def answers_of(folder: Path, *, whole: bool) -> list[str]:
    """Return what runs, metrics, the campaign and its verdict are: by all records, or by extracts."""
    source = Source(folder)
    journals = source.campaign("c1")
    campaign, digests = campaign_of(journals), source.digests
    if whole:
        thin = steps = read_contents(campaign, journals)
    else:
        thin = read_runs(campaign, journals, digests)
        steps = read_runs(campaign, journals, digests, every_iteration=True)
    verification = verify_journals(source, journals, digests={} if whole else digests)
    return [
        *texts(run_lines(thin)),
        *texts(run_lines(thin, attempts=True)),
        *texts(metric_lines(steps)),
        *texts([campaign_line(thin, 0, verification.verdict)]),
        *map(str, verification.open_items),
        *map(str, verification.missing),
        *(str([check.reasons, check.notes]) for check in verification.journals),
    ]


def compact_all(folder: Path) -> None:
    source = Source(folder)
    compact(source.campaign("c1"), {}, _writer)


def texts(lines: list[dict[str, object]]) -> list[str]:
    return [repr({name: line[name] for name in sorted(line)}) for line in lines]


def check(journals: Journals) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals)
        whole = answers_of(folder, whole=True)
        assert answers_of(folder, whole=False) == whole
        compact_all(folder)
        assert answers_of(folder, whole=False) == whole
    finally:
        shutil.rmtree(folder)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns)
def test_answers_are_the_same_from_extracts_and_from_digests(journals: Journals) -> None:
    check(journals)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns)
def test_answers_are_the_same_from_extracts_and_from_digests_in_many_buffers(journals: Journals) -> None:
    check(journals)


def test_an_extract_does_not_grow_with_the_epochs(tmp_path: Path) -> None:
    make_buffer(tmp_path, 4_000, Layout(1, 1))
    (journal,) = Source(tmp_path).summaries()
    extract = extract_of(journal)
    assert sum(1 for _ in reader_of(journal).read()) > 4_000
    assert len(extract.records) < 20
    (line,) = run_lines(read_runs(campaign_of([journal]), [journal]))
    (whole,) = run_lines(read_contents(campaign_of([journal]), [journal]))
    assert line == whole
