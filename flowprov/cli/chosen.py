"""The campaigns that somebody names.

Flows in: ids, beginnings of ids, or names. Flows out: ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowprov.errors import UnknownIdError
from flowprov.journal.summary import JournalSummary
from flowprov.read.campaign_names import campaign_of
from flowprov.read.unknown_ids import describe_unknown

_MAX_LISTED = 20


def resolve_campaigns(
    groups: Mapping[str, Sequence[JournalSummary]], wanted: Sequence[str], where: str
) -> list[str]:
    """Return the ids of campaigns, each by its id, a beginning of it that fits only one, or a name.

    Raises
    ------
    UnknownIdError
        If one is not there, or may be several.
    """
    names = {name: campaign_of(journals).name for name, journals in groups.items()}
    found = []
    for one in wanted:
        matches = [one] if one in groups else [
            name for name in groups if name.startswith(one) or names[name] == one
        ]  # fmt: skip
        if not matches:
            raise UnknownIdError(describe_unknown("campaign", one, where, names))
        if len(matches) > 1:
            listed = ", ".join(matches[:_MAX_LISTED])
            raise UnknownIdError(f"{one!r} may mean {listed}. Give the id of one.")
        found += matches
    return list(dict.fromkeys(found))
