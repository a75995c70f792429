"""Check whether a campaign is complete: compare what its processes counted with what its journals hold.

Flows in: the journals of a campaign, and the sinks to which they are delivered. Flows out: a
:class:`Verification`. It says how each journal ended, what is wrong with it and what each sink holds of it,
lists the workflows and tasks without an end, and gives one verdict.

All records are read. Of tasks only the ids of those are kept that may be open. If any are open at the end of
a journal, the journals are read a second time: see ``open_records``. So memory does not grow with a long run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from flowprov.journal.format import folder_names
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import process_key
from flowprov.read.campaign_names import campaign_of
from flowprov.read.decoding import records_of
from flowprov.read.digest import Digest
from flowprov.read.evidence import Evidence
from flowprov.read.journal_check import JournalCheck, check_journal
from flowprov.read.open_records import WITHOUT_END, OpenRecordFilter, records_of_open
from flowprov.read.repeated_orders import repeated_orders
from flowprov.read.rows import FoldedCampaign, Row, fold_campaign
from flowprov.read.sink_check import RunCounts, RunProbe, SinkCounts, SinkProbe
from flowprov.read.source import Source
from flowprov.read.successions import in_succession, last_follower_of
from flowprov.read.superseded import Superseded
from flowprov.records import Campaign, Record, Status, Task, Workflow

__all__ = ["JournalCheck", "OpenItem", "Verification", "check_journal", "verify"]

Verdict: TypeAlias = Literal["COMPLETE", "RUNNING", "INCOMPLETE"]


class OpenItem(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow or task without an end.

    Attributes
    ----------
    kind
        ``workflow`` or ``task``.
    id, name
        Its id, and the name of a workflow or the activity of a task.
    status
        RUNNING, SUBMITTED or INTERRUPTED.
    workflow_id, attempt
        The workflow to which it belongs, and which attempt of it.
    hostname, pid, started_at
        The process in which it ran, and when it started.
    superseded
        Whether another attempt came after this one.
    """

    kind: Literal["workflow", "task"]
    id: str
    name: str | None
    status: str
    workflow_id: str | None
    hostname: str | None
    pid: int | None
    started_at: int | None
    attempt: int | None = None
    superseded: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One of several attempts of a workflow, with what became of it."""

    workflow_id: str
    name: str | None
    attempt: int
    status: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The result of checking a campaign.

    Attributes
    ----------
    campaign
        The campaign.
    journals
        The checks of its journals.
    open_items
        Workflows and tasks without an end, still running or interrupted.
    unreadable
        Journals that could not be opened, with the reasons.
    copies
        Copies of journals that lie in the source, each with the journal that is read in its place.
    misplaced
        Journals that lie outside the folder of their campaign, though it has one: they are checked here, but
        whoever reads the campaign by its id looks only into that folder.
    missing
        What is known to have run and has no journal here, one sentence each.
    attempts
        The attempts of the workflows that have more than one.
    odd
        What is odd about the run itself and no fault of its record: loaders whose order repeats.
    partial
        Whether the source is only a part of the campaign, so that nothing is said of other journals.
    run_deliveries
        What servers that hold runs have of the campaign.
    """

    campaign: Campaign
    journals: list[JournalCheck]
    open_items: list[OpenItem]
    unreadable: dict[Path, str]
    copies: dict[Path, Path] = {}
    misplaced: list[Path] = []
    missing: list[str] = []
    attempts: list[Attempt] = []
    odd: list[str] = []
    partial: bool = False
    run_deliveries: list[RunCounts] = []

    @property
    def interrupted(self) -> list[OpenItem]:
        """The workflows and tasks that will never end."""
        return [item for item in self.open_items if item.status == Status.INTERRUPTED.value]

    @property
    def lost(self) -> list[OpenItem]:
        """The workflows and tasks that will never end, and that no later attempt did again."""
        return [item for item in self.interrupted if not item.superseded]

    @property
    def open(self) -> list[OpenItem]:
        """The workflows and tasks that are still running."""
        return [item for item in self.open_items if item.status != Status.INTERRUPTED.value]

    @property
    def running(self) -> bool:
        """Whether the writer of any journal is still there, maybe in a file that came meanwhile."""
        return bool(self.open) or any(check.state == "running" for check in self.journals)

    @property
    def undelivered(self) -> list[SinkCounts | RunCounts]:
        """Deliveries with a problem: unknown, lines missing, or what waits after the run has ended."""
        lines = [delivery for check in self.journals for delivery in check.deliveries]
        return [one for one in lines if one.missing or self._waits(one)] + [
            one for one in self.run_deliveries if self._waits(one)
        ]

    def _waits(self, delivery: SinkCounts | RunCounts) -> bool:
        return delivery.unknown is not None or (bool(delivery.waiting) and not self.running)

    @property
    def verdict(self) -> Verdict:
        """COMPLETE if nothing is wrong; RUNNING if nothing is wrong so far; else INCOMPLETE.

        What is wrong with an attempt of a workflow does not count if another attempt came after it.
        """
        faulty = any(check.at_fault for check in self.journals)
        if self.unreadable or self.missing or self.lost or faulty or self.undelivered:
            return "INCOMPLETE"
        return "RUNNING" if self.running else "COMPLETE"


def verify(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    sinks: Sequence[SinkProbe] = (),
    run_sinks: Sequence[RunProbe] = (),
) -> Verification:
    """Check whether everything that a campaign captured is there.

    Parameters
    ----------
    source
        A buffer folder, a campaign folder, a host folder or one journal. None: the buffer folder with which
        this process was configured, else that of the settings.
    campaign_id
        The campaign; by default the one with the latest record.
    sinks
        The sinks to which the campaign should have been delivered. With sinks, the source must be a folder or
        a journal: journals that are read back from a server can have other positions.
    run_sinks
        The servers that should hold the runs of the campaign. They are not asked about a part of one.

    Raises
    ------
    JournalError
        If the source does not exist or holds no such campaign.
    OSError
        If a journal can be opened but not read.
    """
    journal_source = Source(source)
    journals = journal_source.require_campaign(campaign_id, everywhere=True)
    result = verify_journals(journal_source, journals, sinks=sinks)
    if result.partial:
        return result
    found = result.campaign.campaign_id
    deliveries = [sink.count(str(journal_source), found) for sink in run_sinks]
    return msgspec.structs.replace(result, run_deliveries=deliveries)


def verify_journals(
    journal_source: Source,
    journals: Sequence[JournalSummary],
    *,
    sinks: Sequence[SinkProbe] = (),
    digests: Mapping[Path, Digest] = MappingProxyType({}),
    with_oddities: bool = True,
) -> Verification:
    """Check a campaign whose journals were found already.

    Parameters
    ----------
    journal_source, journals
        The source, after its last look at the journals, and the journals of the campaign.
    sinks
        As for :func:`verify`.
    digests
        Of closed journals that need not be read again.
    with_oddities
        Whether to look for what is odd about the run, too: that reads all journals, and changes no verdict.
    """
    paths = {journal.path for journal in journals}
    evidence = Evidence()
    open_records: list[tuple[JournalSummary, OpenRecordFilter]] = []
    deliveries: list[list[SinkCounts]] = []
    for journal in journals:
        digest = digests.get(journal.path)
        if digest is not None:
            open_filter, report = digest.open_filter(), evidence.take(journal, digest)
        else:
            open_filter = OpenRecordFilter(journal.header.first_number)
            report = evidence.read(journal, open_filter.add)
        deliveries.append([sink.count(report) for sink in sinks])
        open_records.append((journal._replace(alive=report.alive, footer=report.footer), open_filter))

    def read_again(journal: JournalSummary) -> Iterator[Record]:
        digest = digests.get(journal.path)
        return records_of(journal) if digest is None else digest.records()

    open_records = _with_present_ends(journals, open_records)
    folded = fold_campaign(records_of_open(open_records, read_again), merge=True)
    superseded = Superseded(folded.rows, folded.attempts)
    open_rows = [row for row in folded.rows if row.status in WITHOUT_END]
    going_on = {process_key(journal.header) for journal, _ in open_records if journal.alive}
    checks = evidence.judge(open_rows, superseded, going_on)
    partial, on_server = journal_source.is_part(), journal_source.is_server
    return Verification(
        campaign=campaign_of(journals),
        journals=[
            msgspec.structs.replace(check, deliveries=counts)
            for check, counts in zip(checks, deliveries, strict=True)
        ],
        open_items=[_open_item(row, superseded=superseded.has_row(row)) for row in open_rows],
        unreadable=_unreadable(journal_source, journals[0].header.campaign_id),
        copies={copy: path for copy, path in journal_source.copies.items() if path in paths},
        misplaced=journal_source.misplaced(journals),
        missing=list(evidence.missing(superseded, partial=partial, on_server=on_server)),
        attempts=list(_attempts(folded)),
        odd=repeated_orders(journals) if with_oddities else [],
        partial=partial,
    )


def _with_present_ends(
    journals: Sequence[JournalSummary], read: Sequence[tuple[JournalSummary, OpenRecordFilter]]
) -> list[tuple[JournalSummary, OpenRecordFilter]]:
    """Return journals as they were read: a last file may have been left for a next one meanwhile."""
    left = {journal.path for journal in journals if journal.alive}
    present = [
        journal._replace(alive=last_follower_of(journal).alive)
        if journal.path in left and journal.footer is not None
        else journal
        for journal, _ in read
    ]
    ends = {one.path: one for one in in_succession(present)}
    return [(ends[journal.path], kept) for journal, kept in read]


def _unreadable(source: Source, campaign_id: str) -> dict[Path, str]:
    """Return which journals of a campaign cannot be opened, and which folders cannot be listed, and why."""
    names = folder_names(campaign_id)
    return {
        path: reason
        for path, reason in source.unreadable.items()
        if not set(path.absolute().parts[-3:]).isdisjoint(names)  # campaign/host/journal
    }


def _attempts(folded: FoldedCampaign) -> Iterator[Attempt]:
    for row in folded.rows:
        if isinstance(row, Workflow) and row.attempt and folded.attempts[row.workflow_id].last > 1:
            yield Attempt(
                workflow_id=row.workflow_id, name=row.name, attempt=row.attempt, status=str(row.status)
            )


def _open_item(row: Row, *, superseded: bool) -> OpenItem:
    task = isinstance(row, Task)
    return OpenItem(
        kind="task" if task else "workflow",
        id=str(row.task_id) if isinstance(row, Task) else row.workflow_id,
        name=row.activity_id if isinstance(row, Task) else row.name,
        status=str(row.status),
        workflow_id=row.workflow_id,
        hostname=row.hostname,
        pid=row.pid,
        started_at=row.started_at,
        attempt=row.attempt,
        superseded=superseded,
    )
