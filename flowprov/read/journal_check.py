"""Judge one journal: how it ended, and what is wrong with it.

Flows in: the report on a journal, and what is known of its process. Flows out: a :class:`JournalCheck`.

A process that was ended from outside leaves no footer. That alone is no fault if it was a worker, or if what
it had open is named as interrupted: all that it captured is in the journal, as far as its counts show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from flowprov.read.journal_report import JournalReport
from flowprov.read.sink_check import SinkCounts

State: TypeAlias = Literal["closed", "running", "gone"]


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
        What is not as it should be with the journal, one sentence each; empty if nothing is.
    faults
        Those of the reasons by which something may be lost.
    notes
        What else is worth knowing, one sentence each.
    worker
        Whether its process worked for another one, which ends it when it is no longer needed.
    superseded
        Whether all that it holds belongs to attempts of workflows after which there was another one.
    deliveries
        What each sink holds of the journal, in the order of the sinks.
    """

    report: JournalReport
    state: State
    captured: int
    written: int
    exact: bool
    reasons: list[str]
    faults: list[str]
    notes: list[str] = []
    worker: bool = False
    superseded: bool = False
    deliveries: list[SinkCounts] = []

    @property
    def at_fault(self) -> bool:
        """Whether something may be lost that no later attempt of its workflows made up for."""
        return bool(self.faults) and not self.superseded


def check_journal(
    report: JournalReport, *, worker: bool = False, open_named: bool = False, missing_parents: int = 0
) -> JournalCheck:
    """Return what is wrong with a journal, by its report.

    Parameters
    ----------
    report
        The report.
    worker
        Whether its process worked for another one.
    open_named
        Whether something was open when its process ended, and is named as interrupted.
    missing_parents
        How many of its tasks have something inside them, and no record.
    """
    exact = report.footer is not None
    state: State = "closed" if exact else "running" if report.alive else "gone"
    dropped = sum(report.dropped.values())
    faults = list(_faults(report, state, dropped))
    notes: list[str] = []
    if missing_parents and state != "running":
        have = "1 task has" if missing_parents == 1 else f"{missing_parents} tasks have"
        (notes if state == "gone" and open_named else faults).append(f"{have} something inside and no record")
    reasons = faults
    if state == "gone":
        evidence = "its last heartbeat" if report.heartbeat is not None else "the records alone"
        unclosed = f"its process ended without a footer: what is known comes from {evidence}"
        if worker:
            notes.insert(0, unclosed)
        else:
            reasons = [unclosed, *faults]
            faults = faults if open_named else reasons
    return JournalCheck(
        report=report,
        state=state,
        captured=report.captured if exact else max(report.captured, report.found + dropped),
        written=report.written if exact else max(report.written, report.found),
        exact=exact,
        reasons=reasons,
        faults=faults,
        notes=notes,
        worker=worker,
    )


def _faults(report: JournalReport, state: State, dropped: int) -> Iterator[str]:
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
