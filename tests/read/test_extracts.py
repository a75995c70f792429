"""What follows from extracts and digests is what follows from all records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import flowprov
from benchmarks.read_sizes import Layout, make_buffer
from flowprov.journal.format import find_journals
from flowprov.read.answers.compared import CompactedCampaign, items_in_files
from flowprov.read.answers.contents import read_contents, read_runs
from flowprov.read.answers.difference import Difference
from flowprov.read.answers.extract_builder import extract_of
from flowprov.read.answers.items import find_item
from flowprov.read.answers.tables import campaign_line, metric_lines, run_lines
from flowprov.read.campaign_names import campaign_of
from flowprov.read.compaction import compact
from flowprov.read.decoding import reader_of
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.read.verify import verify_journals
from flowprov.records import Task
from tests.journal.support import step
from tests.read.buffers import Journals, campaigns, first_numbers, write_campaign

pytest.importorskip("duckdb")
assert_frame_equal = pytest.importorskip("pandas.testing").assert_frame_equal
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


def check_items(folder: Path) -> None:
    """Check that what an id means is the same in files as among all records."""
    source = Source(folder)
    journals = source.campaign("c1")
    contents = read_contents(campaign_of(journals), journals)
    compacted = CompactedCampaign(journals, source.digests)
    ids = ["c1", "w0", "train", "step", f"{1:032x}-3", *(line["run_id"] for line in run_lines(contents))]
    for wanted in ids:
        if (found := items_in_files([compacted], [wanted, wanted])) is not None:
            expected = find_item([contents], wanted, "")
            assert (found[0].kind, found[0].id, found[0].name) == (expected.kind, expected.id, expected.name)
            assert Difference(found[0], expected).to_dict() == {}


def texts(lines: list[dict[str, object]]) -> list[str]:
    return [repr({name: line[name] for name in sorted(line)}) for line in lines]


def check(journals: Journals, firsts: list[int] | None = None) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_campaign(folder, journals, firsts=firsts)
        whole = answers_of(folder, whole=True)
        assert answers_of(folder, whole=False) == whole
        compact_all(folder)
        assert answers_of(folder, whole=False) == whole
        check_items(folder)
    finally:
        shutil.rmtree(folder)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, first_numbers)
def test_answers_are_the_same_from_extracts_and_from_digests(
    journals: Journals, firsts: list[int] | None
) -> None:
    check(journals, firsts)


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(campaigns, first_numbers)
def test_answers_are_the_same_from_extracts_and_from_digests_in_many_buffers(
    journals: Journals, firsts: list[int] | None
) -> None:
    check(journals, firsts)


def test_a_task_that_is_recorded_as_interrupted_is_open_for_digests_too() -> None:
    check([([step(number, status="INTERRUPTED", activity_id="fit") for number in range(2)], True, None)])


def test_a_task_in_a_file_around_a_loop_that_is_read_from_its_journal_is_found() -> None:
    outer = Task(task_id=1, workflow_id="w", activity_id="train", status="FINISHED")
    epoch = Task(
        task_id=0,
        workflow_id="w",
        parent_task_id=f"{0:032x}-1",
        activity_id="epoch_iteration",
        subtype="iteration",
        generated={"loss": 0.5},
    )
    of_dask = step(1, subtype="dask_task", activity_id="load", workflow_id="w")
    check([([outer], True, None), ([epoch, of_dask], True, None)])


def test_an_extract_does_not_grow_with_the_epochs(tmp_path: Path) -> None:
    make_buffer(tmp_path, 4_000, Layout(1, 1))
    (journal,) = Source(tmp_path).summaries()
    extract = extract_of(journal)
    assert sum(1 for _ in reader_of(journal).read()) > 4_000
    assert len(extract.records) < 20
    (line,) = run_lines(read_runs(campaign_of([journal]), [journal]))
    (whole,) = run_lines(read_contents(campaign_of([journal]), [journal]))
    assert line == whole


def test_metrics_and_differences_are_read_from_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_buffer(tmp_path, 1_000, Layout(journals=4, campaigns=2))
    expected = flowprov.metrics(tmp_path)
    runs = list(flowprov.runs(tmp_path)["run_id"])
    task = str(flowprov.read_buffer(tmp_path, campaign_id="campaign-000")["task_id"].dropna().iloc[7])
    pairs = [(runs[0], runs[3]), (task, runs[1]), (task[-12:], runs[1][-12:])]
    differences = [flowprov.diff(a, b, tmp_path).to_dict() for a, b in pairs]
    writer = ParquetWriter()
    for campaign in ("campaign-000", "campaign-001"):
        compact(Source(tmp_path).campaign(campaign), {}, writer)
    monkeypatch.setattr("flowprov.read.answers.contents.extract_of", None)
    monkeypatch.setattr("flowprov.read.answers.contents.records_of", None)
    assert_frame_equal(flowprov.metrics(tmp_path), expected)
    assert [flowprov.diff(a, b, tmp_path).to_dict() for a, b in pairs] == differences


def test_metrics_are_read_from_journals_whose_files_are_damaged(tmp_path: Path) -> None:
    make_buffer(tmp_path, 500, Layout(journals=1, campaigns=1))
    expected = flowprov.metrics(tmp_path)
    compact(Source(tmp_path).campaign("campaign-000"), {}, ParquetWriter())
    file = parquet_path(find_journals(tmp_path)[0])
    data = bytearray(file.read_bytes())
    data[4:400] = bytes(396)
    file.write_bytes(data)
    assert_frame_equal(flowprov.metrics(tmp_path), expected)
