"""What follows from extracts and digests is what follows from all records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from flowprov.read.answers.contents import read_contents, read_runs
from flowprov.read.answers.tables import campaign_line, metric_lines, run_lines
from flowprov.read.campaign_names import campaign_of
from flowprov.read.compaction import compact
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


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns)
def test_answers_are_the_same_from_extracts_and_from_digests(
    journals: Journals,
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals)
        whole = answers_of(folder, whole=True)
        assert answers_of(folder, whole=False) == whole
        compact_all(folder)
        assert answers_of(folder, whole=False) == whole
    finally:
        shutil.rmtree(folder)
