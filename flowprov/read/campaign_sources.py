"""The campaigns of one source or of several, each with the journals that tell of it.

Flows in: what a person names: folders, journals, servers. Flows out: campaigns, the latest last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from flowprov.errors import FlowprovError
from flowprov.journal.summary import JournalSummary
from flowprov.read.campaign_names import find_campaign, matching_campaigns
from flowprov.read.digest import Digest
from flowprov.read.grouping import by_campaign, choose_campaign
from flowprov.read.parquet_files import has_duckdb
from flowprov.read.source import Source
from flowprov.read.verify import verify_journals
from flowprov.values import as_id

logger = logging.getLogger("flowprov")

_MANY_BYTES = 40_000_000  # of journals: those of 100,000 records

_OneSource: TypeAlias = str | os.PathLike[str] | None
Sources: TypeAlias = _OneSource | Iterable[str | os.PathLike[str]]


class CampaignSource(NamedTuple):
    """A campaign, with the sources that hold its journals.

    The files of journals that were fetched from a server are removed with their source: keep this as long as
    they are read.
    """

    campaign_id: str
    journals: list[JournalSummary]
    sources: list[tuple[Source, list[JournalSummary]]]

    def digests(self) -> dict[Path, Digest]:
        """Return the digests of its journals that need not be read again."""
        return {
            journal.path: source.digests[journal.path]
            for source, journals in self.sources
            for journal in journals
            if journal.path in source.digests
        }

    def verdict(self, digests: Mapping[Path, Digest]) -> str:
        """Return whether its record is complete in all sources."""
        verdicts = {_verdict_of(source, journals, digests) for source, journals in self.sources}
        return next(one for one in ("INCOMPLETE", "RUNNING", "COMPLETE") if one in verdicts)


def _verdict_of(source: Source, journals: Sequence[JournalSummary], digests: Mapping[Path, Digest]) -> str:
    try:
        return verify_journals(source, journals, digests=digests, with_oddities=False).verdict
    except (FlowprovError, OSError):  # a file that is no journal, or one that went away meanwhile
        return "INCOMPLETE"


def campaigns_of(
    source: Sources, campaign_id: str | None, *, every_record: bool = False
) -> list[CampaignSource]:
    """Return the campaigns of some sources, or one of them, the latest last.

    With ``every_record``, all of them is going to be read: then nothing is said of what makes answers faster.
    """
    campaign_id = as_id(campaign_id)
    opened = [Source(one) for one in each_source(source)]
    found: dict[str, CampaignSource] = {}
    for place in opened:
        if campaign_id is not None:
            chosen = [journals] if (journals := place.campaign(campaign_id)) else []
        else:
            chosen = list(by_campaign(place.summaries()).values())
            if place.is_server:  # of whose journals only the ends were fetched
                chosen = [place.campaign(journals[0].header.campaign_id) for journals in chosen]
        for journals in filter(None, chosen):
            name = journals[0].header.campaign_id
            campaign = found.setdefault(name, CampaignSource(name, [], []))
            campaign.journals.extend(journals)
            campaign.sources.append((place, journals))
    if not found and campaign_id is not None:
        opened[0].require_campaign(campaign_id)  # says which there are
    if not found:
        logger.warning("flowprov found no records in %s.", ", ".join(map(str, opened)))
    if not every_record:
        _say_if_slow(found.values())
    return sorted(found.values(), key=lambda one: max(journal.last_at for journal in one.journals))


def find_campaign_id(source: Sources, wanted: str | None) -> str | None:
    """Return the id of the campaign that a person means; None if no campaign was chosen.

    Parameters
    ----------
    source
        As for :func:`flowprov.runs`.
    wanted
        An id, the beginning of an id that fits only one, or a name that only one has.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        If a source cannot be read, or there is no such campaign, or there are several.
    """
    if wanted is None:
        return None
    opened = [Source(one) for one in each_source(source)]
    for place in opened:
        if journals := place.in_own_folder(wanted):
            return journals[0].header.campaign_id
    groups = by_campaign(journal for place in opened for journal in place.summaries())
    if journals := choose_campaign(groups, wanted):
        return journals[0].header.campaign_id
    unreadable = [place for place in opened if place.unreadable]
    if unreadable and not matching_campaigns(groups, wanted):
        unreadable[0].require_campaign(wanted)  # says what cannot be read
    return find_campaign(groups, wanted, ", ".join(map(str, opened)))


def _say_if_slow(found: Iterable[CampaignSource]) -> None:
    """Say what makes answers faster, if large journals are read that need not be."""
    size = sum(
        size_of(journal)
        for one in found
        for source, journals in one.sources
        for journal in journals
        if journal.footer is not None and journal.path not in source.digests
    )
    if size > _MANY_BYTES and not any(source.is_server for one in found for source, _ in one.sources):
        install = "" if has_duckdb() else 'pip install "flowprov[query]" and '
        logger.warning(
            "flowprov reads %d MB of journals, which takes a while: %sflowprov compact makes the next "
            "answers faster.",
            size // 1_000_000,
            install,
        )


def describe_sources(source: Sources, found: Iterable[CampaignSource]) -> str:
    """Return the names of the sources that hold some campaigns; if there are none, of all that were given."""
    names = {str(place) for one in found for place, _ in one.sources}
    return ", ".join(sorted(names or {str(Source(one)) for one in each_source(source)}))


def each_source(source: Sources) -> list[_OneSource]:
    """Return one source or several as a list."""
    if source is None or isinstance(source, (str, os.PathLike)):
        return [source]
    return list(source) or [None]


def size_of(journal: JournalSummary) -> int:
    """Return the bytes of a journal; none if it went away."""
    try:
        return journal.path.stat().st_size
    except OSError:  # it went away meanwhile
        return 0
