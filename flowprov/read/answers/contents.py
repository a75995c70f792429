"""What a campaign holds: its rows, and the metrics that programs logged.

Flows in: the journals of a campaign. Flows out: both, read in one pass; either all rows, or only those on
which answers about runs depend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import Counts, Extract, unanswered
from flowprov.read.answers.extract_builder import extract_of
from flowprov.read.answers.file_extracts import file_extracts
from flowprov.read.answers.kept_versions import KeptVersion, Versions, by_workflow
from flowprov.read.answers.resumes import resume_of
from flowprov.read.attempts import attempt_key
from flowprov.read.dask_tasks import Submission, submission_of
from flowprov.read.decoding import records_of
from flowprov.read.digest import Digest
from flowprov.read.labels import ITERATION
from flowprov.read.rows import Row, fold_campaign
from flowprov.read.value_paths import is_number
from flowprov.records import Campaign, Header, Metrics, Record, Task, Version, Workflow

_Journals: TypeAlias = Iterable[tuple[JournalSummary, Iterable[Record]]]


class LoggedMetrics(NamedTuple):
    """A record of metrics, with the full id of its task, its attempt and its rank."""

    record: Metrics
    attempt: int
    rank: int | None


class Contents(NamedTuple):
    """The rows of a campaign and its logged metrics.

    Attributes
    ----------
    campaign
        The campaign.
    rows
        Its rows, sorted by their start, one per task.
    logged
        Its logged metrics, sorted by time.
    restarted
        Whether a workflow has several attempts, or is one of an earlier run.
    left_out
        What is known of the tasks that have no row here.
    campaign_names
        The names of all campaigns whose rows these are, by their ids, if there are several.
    versions
        The versions on which its workflows ran.
    known_until
        When the processes of what was interrupted recorded last: by the key of the attempt of a workflow, and
        by the id of a task.
    """

    campaign: Campaign
    rows: Sequence[Row]
    logged: Sequence[LoggedMetrics]
    restarted: bool
    left_out: Counts
    campaign_names: Mapping[str | None, str | None] = MappingProxyType({})
    versions: Versions = MappingProxyType({})
    known_until: Mapping[str, int] = MappingProxyType({})

    def end_of(self, row: Row) -> int | None:
        """Return when a row ended, or when what was interrupted was last known of; None while it runs."""
        if row.ended_at is not None:
            return row.ended_at
        key = str(row.task_id) if isinstance(row, Task) else attempt_key(row.workflow_id, row.attempt)
        return self.known_until.get(key)


def read_contents(campaign: Campaign, journals: Iterable[JournalSummary]) -> Contents:
    """Read a campaign."""
    return _fold(campaign, ((journal, records_of(journal)) for journal in journals), Counts())


def read_runs(
    campaign: Campaign,
    journals: Sequence[JournalSummary],
    digests: Mapping[Path, Digest] = MappingProxyType({}),
    *,
    every_iteration: bool = False,
    wanted: Collection[str] = (),
) -> Contents:
    """Read of a campaign what its runs are, without the rows that say nothing of them.

    Parameters
    ----------
    campaign, journals
        The campaign.
    digests
        Of closed journals that need not be read again.
    every_iteration
        Whether to read all iterations. Else those are left out that hold neither the last value of a metric,
        nor the smallest or largest; the steps of the others have other numbers then.
    wanted
        Full ids of tasks that are needed besides; only for campaigns of which all iterations are read from
        Parquet files.
    """
    if every_iteration:
        known = file_extracts(journals, digests, wanted)
        return _fold_extracts(campaign, journals, known, every_iteration=True)
    known = {
        journal.header.journal_id: digests[journal.path].extract()
        for journal in journals
        if journal.path in digests
    }
    contents = _fold_extracts(campaign, journals, known, every_iteration=False)
    if not _depends_on_steps(contents):
        return contents
    return _fold_extracts(campaign, journals, {}, every_iteration=True)


def _fold_extracts(
    campaign: Campaign,
    journals: Sequence[JournalSummary],
    known: Mapping[str, Extract],
    *,
    every_iteration: bool,
) -> Contents:
    extracts = _extracts_of(journals, known, every_iteration=every_iteration)
    counts = Counts()
    for extract in extracts:
        counts.add(extract.counts)
    records = (map(itemgetter(1), extract.records) for extract in extracts)
    return _fold(campaign, zip(journals, records, strict=True), counts)


def _extracts_of(
    journals: Sequence[JournalSummary], known: Mapping[str, Extract], *, every_iteration: bool
) -> list[Extract]:
    """Return the extracts of some journals, each with the tasks that the others name; some are known."""
    extracts = {
        name: known[name] if name in known else extract_of(journal, every_iteration=every_iteration)
        for journal in journals
        for name in (journal.header.journal_id,)
    }
    by_id = {journal.header.journal_id: journal for journal in journals}
    while asked := unanswered(extracts):
        for home, wanted in asked.items():
            extracts[home] = extract_of(by_id[home], wanted, every_iteration=every_iteration)
    return list(extracts.values())


def _depends_on_steps(contents: Contents) -> bool:
    """Whether one value of a metric may replace another one of the same step."""
    numbered = {name for one in contents.logged if one.record.step is not None for name in one.record.values}
    if contents.restarted or _is_measured_again(contents):
        return True
    if not numbered:
        return False
    counted = [one.record.values for one in contents.logged if one.record.step is None]
    counted += [
        row.generated
        for row in contents.rows
        if isinstance(row, Task) and row.subtype == ITERATION and row.generated
    ]
    names = {name for values in counted for name, value in values.items() if is_number(value)}
    return any(name.rpartition("/")[2] in names or name in names for name in numbered)


def _is_measured_again(contents: Contents) -> bool:
    """Whether several attempts of a Dask task measured something."""
    tasks = {str(row.task_id): row for row in contents.rows if isinstance(row, Task)}
    inside = [task.parent_task_id for task in tasks.values() if task.subtype == ITERATION]
    inside += [one.record.task_id for one in contents.logged]
    visited: set[str] = set()
    measured: set[Submission] = set()
    for task_id in inside:
        around = tasks.get(str(task_id))
        while around is not None and str(around.task_id) not in visited:
            visited.add(str(around.task_id))
            submission = submission_of(around)
            if submission in measured:
                return True
            if submission is not None:
                measured.add(submission)
            around = tasks.get(str(around.parent_task_id))
    return False


def _fold(campaign: Campaign, journals: _Journals, left_out: Counts) -> Contents:
    found: list[tuple[Header, Metrics]] = []
    versions: list[KeptVersion] = []
    folded = fold_campaign(
        ((journal, _rows_only(journal, records, found, versions)) for journal, records in journals),
        merge=True,
    )
    logged = []
    for header, record in found:
        index = folded.attempts.get(record.workflow_id)
        attempt = 1 if index is None else index.find(header, record.at)
        logged.append(LoggedMetrics(_completed(record, header), attempt, header.rank))
    logged.sort(key=lambda one: one.record.at)
    restarted = any(index.last > 1 for index in folded.attempts.values()) or any(
        isinstance(row, Workflow) and resume_of(row) is not None for row in folded.rows
    )
    return Contents(
        campaign,
        folded.rows,
        logged,
        restarted,
        left_out,
        versions=by_workflow(versions),
        known_until=folded.known_until,
    )


def _rows_only(
    journal: JournalSummary,
    records: Iterable[Record],
    found: list[tuple[Header, Metrics]],
    versions: list[KeptVersion],
) -> Iterator[Record]:
    """Yield the records of rows; metrics and versions are added to the two lists."""
    for record in records:
        if type(record) is Metrics:
            found.append((journal.header, record))
        elif type(record) is Version:
            versions.append(KeptVersion(record, journal.header, journal.path.parent.parent))
        else:
            yield record


def _completed(record: Metrics, header: Header) -> Metrics:
    if record.task_id is None:
        return record
    task_id = header.full_id(record.task_id)
    return msgspec.structs.replace(record, task_id=task_id)
