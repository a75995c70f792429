"""Check whether a campaign is complete: compare what its processes counted with what its journals hold.

Flows in: the journals of a campaign, and the sinks to which they are delivered. Flows out: a
:class:`Verification`. It says how each journal ended, what is wrong with it and what each sink holds of it,
lists the workflows and tasks without an end, and gives one verdict.

All records are read. Of tasks only the ids of those are kept that may be open. If any are open at the end of
a journal, the journals are read a second time: see ``open_records``. So memory does not grow with a long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from flowprov.journal.format import folder_names
from flowprov.journal.summary import JournalSummary
from flowprov.read.buffer import campaign_of
from flowprov.read.dask_workers import DaskWorkers
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.open_records import WITHOUT_END, OpenRecordFilter, records_of_open
from flowprov.read.rows import Row, fold
from flowprov.read.sink_check import SinkCounts, SinkProbe
from flowprov.read.source import Source
from flowprov.records import (
    Campaign,
    Record,
    Status,
    Task,
)

State: TypeAlias = Literal["closed", "running", "gone"]
Verdict: TypeAlias = Literal["COMPLETE", "RUNNING", "INCOMPLETE"]


class JournalCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of checking one journal.

    Attributes
    ----------
    report
        What the journal holds and what its writer counted.
    state
        ``closed``: it has a footer. ``running``: it has no footer and its writer is still there. ``gone``: it
        has no footer and its writer is gone.
    captured, written
        Numbers of events. Without a footer these are lower bounds: the counts of the last heartbeat, or the
        events found if there are more of them.
    exact
        Whether the counts come from a footer.
    reasons
        What is wrong with the journal, one sentence each; empty if nothing is.
    deliveries
        What each sink holds of the journal, in the order of the sinks.
    """

    report: JournalReport
    state: State
    captured: int
    written: int
    exact: bool
    reasons: list[str]
    deliveries: list[SinkCounts] = []


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
    workflow_id, hostname, pid, started_at
        The workflow and the process in which it ran, and when it started.
    """

    kind: Literal["workflow", "task"]
    id: str
    name: str | None
    status: str
    workflow_id: str | None
    hostname: str | None
    pid: int | None
    started_at: int | None


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
    """

    campaign: Campaign
    journals: list[JournalCheck]
    open_items: list[OpenItem]
    unreadable: dict[Path, str]
    copies: dict[Path, Path] = {}
    misplaced: list[Path] = []
    missing: list[str] = []

    @property
    def interrupted(self) -> list[OpenItem]:
        """The workflows and tasks that will never end."""
        return [item for item in self.open_items if item.status == Status.INTERRUPTED.value]

    @property
    def open(self) -> list[OpenItem]:
        """The workflows and tasks that are still running."""
        return [item for item in self.open_items if item.status != Status.INTERRUPTED.value]

    @property
    def running(self) -> bool:
        """Whether the writer of any journal is still there."""
        return any(check.state == "running" for check in self.journals)

    @property
    def undelivered(self) -> list[SinkCounts]:
        """Deliveries with a problem: unknown, lines missing, or lines that wait after the run has ended."""
        return [
            delivery
            for check in self.journals
            for delivery in check.deliveries
            if delivery.unknown is not None or delivery.missing or (delivery.waiting and not self.running)
        ]

    @property
    def verdict(self) -> Verdict:
        """COMPLETE if nothing is wrong; RUNNING if nothing is wrong so far; else INCOMPLETE."""
        faulty = any(check.reasons for check in self.journals)
        if self.unreadable or self.missing or self.interrupted or faulty or self.undelivered:
            return "INCOMPLETE"
        return "RUNNING" if self.running else "COMPLETE"


def verify(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    sinks: Sequence[SinkProbe] = (),
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

    Raises
    ------
    JournalError
        If the source does not exist or holds no such campaign.
    OSError
        If a journal can be opened but not read.
    """
    journal_source = Source(source)
    journals = journal_source.require_campaign(campaign_id, everywhere=True)
    campaign_id = journals[0].header.campaign_id
    unreadable = {
        path: reason
        for path, reason in journal_source.unreadable.items()
        if path.absolute().parent.parent.name in folder_names(campaign_id)
    }
    paths = {journal.path for journal in journals}
    open_records: list[tuple[JournalSummary, OpenRecordFilter]] = []
    checks = []
    workers = DaskWorkers()
    for journal in journals:
        open_filter = OpenRecordFilter()
        report = report_on(journal, partial(_on_record, [open_filter.add, workers.add]))
        workers.end_journal(alive=report.alive)
        deliveries = [sink.count(report) for sink in sinks]
        checks.append(msgspec.structs.replace(check_journal(report), deliveries=deliveries))
        open_records.append((journal._replace(alive=report.alive, footer=report.footer), open_filter))
    return Verification(
        campaign=campaign_of(journals),
        journals=checks,
        open_items=[
            _open_item(row)
            for row in fold(records_of_open(open_records), merge=True)
            if row.status in WITHOUT_END
        ],
        unreadable=unreadable,
        copies={copy: path for copy, path in journal_source.copies.items() if path in paths},
        misplaced=journal_source.misplaced(journals),
        missing=workers.missing(
            None if journal_source.is_part() else {journal.header.journal_id for journal in journals}
        ),
    )


def _on_record(readers: list[Callable[[Record], object]], record: Record) -> None:
    for reader in readers:
        reader(record)


def check_journal(report: JournalReport) -> JournalCheck:
    """Return what is wrong with a journal, by its report."""
    exact = report.footer is not None
    state: State = "closed" if exact else "running" if report.alive else "gone"
    dropped = sum(report.dropped.values())
    return JournalCheck(
        report=report,
        state=state,
        captured=report.captured if exact else max(report.captured, report.found + dropped),
        written=report.written if exact else max(report.written, report.found),
        exact=exact,
        reasons=list(_reasons(report, state, dropped)),
    )


def _reasons(report: JournalReport, state: State, dropped: int) -> Iterator[str]:
    if state == "gone":
        evidence = "its last heartbeat" if report.heartbeat is not None else "the records alone"
        yield f"its process ended without a footer: what is known comes from {evidence}"
    if report.captured != report.written + dropped:
        yield (
            f"its counts do not add up: captured {report.captured} is not written {report.written} "
            f"and dropped {dropped}"
        )
    if dropped:
        by_reason = ", ".join(f"{reason} {count}" for reason, count in sorted(report.dropped.items()))
        yield f"{_events(dropped)} dropped: {by_reason}"
    # A running writer may have counted an event that is not yet in the file.
    missing = report.written - report.found
    if missing > 0 and state != "running":
        yield f"{_events(missing)} missing: {report.written} written, {report.found} found"
    if missing < 0 and state == "closed":
        yield f"{_events(-missing)} too many: {report.written} written, {report.found} found"
    if report.damages:
        yield f"{len(report.damages)} damaged {'place' if len(report.damages) == 1 else 'places'}"


def _events(count: int) -> str:
    return f"{count} {'event' if count == 1 else 'events'}"


def _open_item(row: Row) -> OpenItem:
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
    )
