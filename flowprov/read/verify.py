"""Whether a campaign is complete: what its processes say that they recorded, against what is there.

Flows in: the journals of a campaign, and the sinks to which they are delivered. Flows out: a
:class:`Verification`: for each journal how it ended, what is wrong with it and what each sink holds of it;
what was never ended; and one verdict.

All records are read, few are kept: what may have been left open. Only where something may, the journals are
read a second time for its end, so that memory does not grow with a long run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from flowprov.journal.format import folder_name
from flowprov.journal.reader import header_from_path
from flowprov.journal.summary import JournalSummary
from flowprov.read.buffer import campaign_of
from flowprov.read.decoding import records_of
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.rows import Row, fold
from flowprov.read.sink_check import SinkCounts, SinkProbe
from flowprov.read.source import Source, campaign_key
from flowprov.read.workflows import OPEN
from flowprov.records import Campaign, Correction, Header, OpenTask, Record, Status, Task, Workflow, full_id

State: TypeAlias = Literal["closed", "running", "gone"]
Verdict: TypeAlias = Literal["COMPLETE", "RUNNING", "INCOMPLETE"]

# Without an end, or with one that says that there was none.
_UNENDED = (*OPEN, Status.INTERRUPTED.value)


class JournalCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of one journal.

    Attributes
    ----------
    report
        What it holds and what its writer says.
    state
        ``closed`` with a footer; ``running``: its writer is there; ``gone``: its writer is not, and left no
        footer.
    captured, written
        Events. Without a footer they are at least so many: the last heartbeat's or those found, if these are
        more.
    exact
        Whether a footer tells the counts.
    reasons
        What is wrong with it, one sentence each; empty if nothing is.
    deliveries
        What each sink holds of it, in the order of the sinks.
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
        Its id; a workflow's name or a task's activity.
    status
        RUNNING, SUBMITTED or INTERRUPTED.
    workflow_id, hostname, pid, started_at
        Where and when it ran.
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
    """What is to be said of a campaign.

    Attributes
    ----------
    campaign
        The campaign.
    journals
        Its journals.
    unended
        What has no end, still running or interrupted.
    unreadable
        Journals that could not be opened, and why.
    """

    campaign: Campaign
    journals: list[JournalCheck]
    unended: list[OpenItem]
    unreadable: dict[Path, str]

    @property
    def interrupted(self) -> list[OpenItem]:
        """What will never end."""
        return [each for each in self.unended if each.status == Status.INTERRUPTED.value]

    @property
    def open(self) -> list[OpenItem]:
        """What is still running."""
        return [each for each in self.unended if each.status != Status.INTERRUPTED.value]

    @property
    def running(self) -> bool:
        """Whether a writer is still there."""
        return any(check.state == "running" for check in self.journals)

    @property
    def undelivered(self) -> list[SinkCounts]:
        """Deliveries at fault: unknown, with lines missing or, once no writer is there, waiting."""
        return [
            each
            for check in self.journals
            for each in check.deliveries
            if each.unknown is not None or each.missing or (each.waiting and not self.running)
        ]

    @property
    def verdict(self) -> Verdict:
        """COMPLETE if all is there; RUNNING if it is so far; else INCOMPLETE."""
        faulty = any(check.reasons for check in self.journals)
        if self.unreadable or self.interrupted or faulty or self.undelivered:
            return "INCOMPLETE"
        return "RUNNING" if self.running else "COMPLETE"


def verify(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    sinks: Sequence[SinkProbe] = (),
) -> Verification:
    """Check whether all that a campaign captured is there.

    Parameters
    ----------
    source
        A buffer folder, a campaign folder, a host folder or one journal. None: the buffer folder with which
        this process was configured, else that of the settings.
    campaign_id
        The campaign; by default the one with the latest record.
    sinks
        Where it should have been delivered. The source has to be a folder or journal then: positions in what
        is read back from a server are not those of the journal.

    Raises
    ------
    JournalError
        If the source does not exist or holds no such campaign.
    OSError
        If a journal can be opened and then not be read.
    """
    place = Source(source)
    journals = place.require_campaign(campaign_id)
    wanted = campaign_key(journals[0])
    unreadable = {path: why for path, why in place.unreadable.items() if _campaign_of_file(path) == wanted}
    kept: list[tuple[JournalSummary, list[Record]]] = []
    checks = []
    for journal in journals:
        gathered = _OpenRecordFilter()
        report = report_on(journal, gathered.take)
        deliveries = [sink.count(report) for sink in sinks]
        checks.append(msgspec.structs.replace(check(report), deliveries=deliveries))
        kept.append((journal._replace(alive=report.alive, footer=report.footer), gathered.records))
    return Verification(
        campaign=campaign_of(journals),
        journals=checks,
        unended=[_unended(row) for row in _folded(kept) if row.status in _UNENDED],
        unreadable=unreadable,
    )


def check(report: JournalReport) -> JournalCheck:
    """Judge one journal by its report."""
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
        known = "its last heartbeat" if report.heartbeat is not None else "the records alone"
        yield f"its process ended without a footer: what is known comes from {known}"
    if report.captured != report.written + dropped:
        yield (
            f"its counts do not add up: captured {report.captured} is not written {report.written} "
            f"and dropped {dropped}"
        )
    if dropped:
        by_reason = ", ".join(f"{reason} {count}" for reason, count in sorted(report.dropped.items()))
        yield f"{_events(dropped)} dropped: {by_reason}"
    # A writer that is there may have counted an event that is still on its way into the file.
    missing = report.written - report.found
    if missing > 0 and state != "running":
        yield f"{_events(missing)} missing: {report.written} written, {report.found} found"
    if missing < 0 and state == "closed":
        yield f"{_events(-missing)} too many: {report.written} written, {report.found} found"
    if report.damages:
        yield f"{len(report.damages)} damaged {'place' if len(report.damages) == 1 else 'places'}"


def _events(count: int) -> str:
    return f"{count} {'event' if count == 1 else 'events'}"


class _OpenRecordFilter:
    """Keeps of a journal's records those without which it cannot be told what has no end."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def take(self, record: Record) -> None:
        if type(record) is Task:
            if record.status in _UNENDED:
                self.records.append(record)
        elif isinstance(record, Correction):
            if record.status is not None:  # others add statistics to a task, and may be many
                self.records.append(record)
        elif isinstance(record, (Workflow, OpenTask)):
            self.records.append(record)


def _folded(kept: list[tuple[JournalSummary, list[Record]]]) -> list[Row]:
    """Fold what was kept, together with the ends of the tasks in it."""
    begun = {
        _id_of(record, journal.header)
        for journal, records in kept
        for record in records
        if isinstance(record, Task)
    }
    if begun:
        for journal, records in kept:
            records.extend(_ends(records_of(journal), journal.header, begun))
    return fold(kept, merge=True)


def _ends(records: Iterable[Record], header: Header, of: set[str]) -> Iterator[Record]:
    for record in records:
        if type(record) is Task and record.status not in _UNENDED and _id_of(record, header) in of:
            yield record


def _id_of(task: Task, header: Header) -> str:
    return full_id(task.task_id, header.journal_id, header.ancestors, header.first_number)


def _unended(row: Row) -> OpenItem:
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


def _campaign_of_file(path: Path) -> str:
    return folder_name(header_from_path(path).campaign_id)
