"""What a campaign holds: its rows, and the metrics that programs logged.

Flows in: the journals of a campaign. Flows out: both, read in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from flowprov.ids import full_id
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of
from flowprov.read.rows import Row, fold_campaign
from flowprov.records import Campaign, Header, Metrics, Record


class LoggedMetrics(NamedTuple):
    """A record of metrics, with the full id of its task, its attempt and its rank."""

    record: Metrics
    attempt: int
    rank: int | None


class Contents(NamedTuple):
    """The rows of a campaign, sorted by their start, one per task; and its logged metrics, sorted by time."""

    campaign: Campaign
    rows: Sequence[Row]
    logged: Sequence[LoggedMetrics]


def read_contents(campaign: Campaign, journals: Iterable[JournalSummary]) -> Contents:
    """Read a campaign."""
    found: list[tuple[Header, Metrics]] = []
    folded = fold_campaign(((journal, _without_metrics(journal, found)) for journal in journals), merge=True)
    logged = []
    for header, record in found:
        index = folded.attempts.get(record.workflow_id)
        attempt = 1 if index is None else index.find(header, record.at)
        logged.append(LoggedMetrics(_completed(record, header), attempt, header.rank))
    logged.sort(key=lambda one: one.record.at)
    return Contents(campaign, folded.rows, logged)


def _without_metrics(journal: JournalSummary, found: list[tuple[Header, Metrics]]) -> Iterator[Record]:
    for record in records_of(journal):
        if type(record) is Metrics:
            found.append((journal.header, record))
        else:
            yield record


def _completed(record: Metrics, header: Header) -> Metrics:
    if record.task_id is None:
        return record
    task_id = full_id(record.task_id, header.journal_id, header.ancestors, header.first_number)
    return msgspec.structs.replace(record, task_id=task_id)
