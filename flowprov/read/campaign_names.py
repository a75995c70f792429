"""The names of campaigns, each of which stands in one of the campaign's journals.

Flows in: the journals of a campaign. Flows out: its record; or the id of the campaign that a person means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flowprov.errors import UnknownIdError
from flowprov.ids import is_end_of
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of_kind
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Campaign

_MAX_LISTED = 20


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


def matching_campaigns(groups: Mapping[str, Sequence[JournalSummary]], wanted: str) -> list[str]:
    """Return the ids of the campaigns with an id, with an id that begins so, or with a name.

    Ends of ids are for :func:`find_campaign`: here a name of something else may end as the id of a campaign.
    """
    if wanted in groups:
        return [wanted]
    if not wanted:  # every id begins with it
        return []
    return [
        name
        for name, journals in groups.items()
        if name.startswith(wanted) or campaign_of(journals).name == wanted
    ]


def find_campaign(groups: Mapping[str, Sequence[JournalSummary]], wanted: str, where: str) -> str:
    """Return the id of the campaign that a person means.

    Parameters
    ----------
    groups
        The campaigns that there are, by id.
    wanted
        An id, a beginning or an end of an id that fits only one, or a name that only one has.
    where
        What was searched.

    Raises
    ------
    UnknownIdError
        If it fits none, or several.
    """
    matches = matching_campaigns(groups, wanted) or [name for name in groups if is_end_of(wanted, name)]
    if not matches:
        names = {name: campaign_of(journals).name for name, journals in groups.items()}
        raise UnknownIdError(describe_unknown("campaign", wanted, where, names))
    if len(matches) > 1:
        listed = ", ".join(matches[:_MAX_LISTED])
        more = f" and {len(matches) - _MAX_LISTED} more" if len(matches) > _MAX_LISTED else ""
        raise UnknownIdError(f"{wanted!r} may mean {listed}{more}. Give the id of one.")
    return matches[0]


def _search_campaign(journal: JournalSummary) -> Campaign | None:
    """Return the campaign record of a journal, which can stand anywhere in it; None if there is none."""
    try:
        return next(records_of_kind(journal, Campaign), None)
    except OSError:  # it may have become unreadable since it was summarized
        return None
