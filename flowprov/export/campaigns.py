"""The campaigns that an export is asked for, and what all formats need of them.

Flows in: sources, and the campaigns that are wanted. Flows out: for each its rows one by one, its processes,
and its artifacts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from flowprov.errors import JournalError
from flowprov.export.row_stream import RowStream
from flowprov.journal.summary import JournalSummary
from flowprov.read.artifacts.catalog import Catalog
from flowprov.read.campaign_names import campaign_of, find_campaign
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of, describe_sources
from flowprov.read.rows import Row
from flowprov.records import Campaign, Header
from flowprov.versioning.pending import finish_pending

ProcessKey: TypeAlias = "tuple[str | None, int | None]"


class RecordedProcess(NamedTuple):
    """A process that recorded: the header of its first journal, and the time of its last record."""

    header: Header
    last_at: int


class ExportedCampaign:
    """One campaign.

    Attributes
    ----------
    campaign
        Its record.
    journals
        Its journals.
    """

    def __init__(self, found: CampaignSource) -> None:
        self._sources = found.sources  # the files of a server's journals are there as long as its source
        self.journals: list[JournalSummary] = found.journals
        self.campaign: Campaign = campaign_of(found.journals)

    @property
    def name(self) -> str:
        """Its name, else its id."""
        return self.campaign.name or self.campaign.campaign_id

    @functools.cached_property
    def stream(self) -> RowStream:
        """Its rows."""
        return RowStream(self.journals)

    @functools.cached_property
    def catalog(self) -> Catalog:
        """Its artifacts."""
        paths = (journal.path for journal in self.journals)
        return Catalog(paths, campaign_id=self.campaign.campaign_id)

    @functools.cached_property
    def processes(self) -> dict[ProcessKey, RecordedProcess]:
        """Its processes by host and number, the first one first."""
        found: dict[ProcessKey, RecordedProcess] = {}
        for journal in sorted(self.journals, key=lambda one: one.header.started_at):
            key = journal.header.hostname, journal.header.pid
            known = found.get(key)
            if known is None:
                found[key] = RecordedProcess(journal.header, journal.last_at)
            else:
                found[key] = known._replace(last_at=max(known.last_at, journal.last_at))
        return found

    def end_of(self, row: Row) -> int | None:
        """Return when a row ended; of one without an end, when its process wrote last."""
        if row.ended_at is not None:
            return row.ended_at
        process = self.processes.get((row.hostname, row.pid))
        last_at = None if process is None else process.last_at
        if row.started_at is None:
            return last_at
        return row.started_at if last_at is None else max(row.started_at, last_at)


def exported_campaigns(source: Sources, wanted: Sequence[str]) -> list[ExportedCampaign]:
    """Return the campaigns that are meant, the latest last; by default the one with the latest record.

    Parameters
    ----------
    source
        As for :func:`flowprov.runs`.
    wanted
        Ids, beginnings or ends of ids that fit only one, or names that only one has.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        If a source cannot be read or holds nothing, or there is no such campaign.
    """
    finish_pending()
    found = campaigns_of(source, None, every_record=True)
    if not found:
        raise JournalError(
            "There is nothing to export. Give --source the buffer folder of a run (its journal.path), or run "
            "this where flowprov_buffer lies."
        )
    chosen = set(_ids(found, wanted)) if wanted else {found[-1].campaign_id}
    return [ExportedCampaign(one) for one in found if one.campaign_id in chosen]


def _ids(found: Sequence[CampaignSource], wanted: Sequence[str]) -> Iterator[str]:
    groups = {one.campaign_id: one.journals for one in found}
    places = describe_sources(None, found)
    for word in wanted:
        yield find_campaign(groups, word, places)
