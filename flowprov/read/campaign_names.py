"""The name of a campaign, which stands in one of its journals.

Flows in: the journals of a campaign. Flows out: its record.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of_kind
from flowprov.records import Campaign


def campaign_of(journals: Iterable[JournalSummary]) -> Campaign:
    """Return the campaign of some journals, with its name if one of them has it."""
    journals = list(journals)
    started_at = min(
        (journal.header.started_at for journal in journals if journal.header.started_at), default=None
    )
    campaign = next((journal.campaign for journal in journals if journal.campaign is not None), None)
    campaign = campaign or next(filter(None, map(_search_campaign, journals)), None)
    if campaign is None:
        return Campaign(campaign_id=journals[0].header.campaign_id, started_at=started_at)
    return msgspec.structs.replace(campaign, started_at=campaign.started_at or started_at)


def _search_campaign(journal: JournalSummary) -> Campaign | None:
    """Return the campaign record of a journal, which can stand anywhere in it; None if there is none."""
    try:
        return next(records_of_kind(journal, Campaign), None)
    except OSError:  # it may have become unreadable since it was summarized
        return None
