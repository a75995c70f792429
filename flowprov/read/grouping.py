"""Group journals by their campaigns, and know copies of one journal.

Flows in: summaries of journals. Flows out: the same summaries by campaign, each journal once.

The header of a journal says whose it is. Only a journal that lost its header is judged by the folder in which
it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from flowprov.journal.format import SUFFIX, folder_names
from flowprov.journal.summary import JournalSummary, last_position
from flowprov.read.successions import in_succession


def by_campaign(summaries: Iterable[JournalSummary]) -> dict[str, list[JournalSummary]]:
    """Return journals grouped by campaign id, in the order in which they are read; the latest campaign last.

    A journal without a header goes to the campaign to which its folder can belong. If several campaigns can
    have that folder, or none that is known, the name of the folder stands for a campaign of its own.
    """
    groups: dict[str, list[JournalSummary]] = {}
    lost = []
    for summary in summaries:
        if summary.header_lost:
            lost.append(summary)
        else:
            groups.setdefault(summary.header.campaign_id, []).append(summary)
    owners_of: dict[str, list[str]] = {}  # by the names that their folders can have
    for campaign_id in groups if lost else ():
        for name in {campaign_id, *folder_names(campaign_id)}:
            owners_of.setdefault(name, []).append(campaign_id)
    for summary in lost:
        owners = owners_of.get(summary.header.campaign_id, [])
        owner = owners[0] if len(owners) == 1 else summary.header.campaign_id
        header = msgspec.structs.replace(summary.header, campaign_id=owner)
        groups.setdefault(owner, []).append(summary._replace(header=header))
    groups = {campaign_id: in_succession(group) for campaign_id, group in groups.items()}
    return dict(sorted(groups.items(), key=lambda item: max(journal.last_at for journal in item[1])))


def choose_campaign(groups: Mapping[str, list[JournalSummary]], campaign_id: str) -> list[JournalSummary]:
    """Return the journals of a campaign; none if there is no such campaign.

    Parameters
    ----------
    groups
        Journals by campaign id.
    campaign_id
        The id of the campaign, or the name of its folder if no other campaign has journals in it.
    """
    if campaign_id in groups:
        return groups[campaign_id]
    in_folder = [group for group in groups.values() if any(_folder_of(j) == campaign_id for j in group)]
    return in_folder[0] if len(in_folder) == 1 else []


def belongs_to(summary: JournalSummary, campaign_id: str) -> bool:
    """Whether a journal is one of a campaign, by its header or, if that was lost, by its folder."""
    if summary.header_lost:
        return summary.header.campaign_id in (campaign_id, *folder_names(campaign_id))
    return summary.header.campaign_id == campaign_id


def without_copies(
    summaries: Iterable[JournalSummary],
) -> tuple[list[JournalSummary], dict[Path, Path]]:
    """Return each journal once, and the paths of the other copies with the path that is read instead.

    See :func:`best_copy` for which one that is.
    """
    by_id: dict[str, list[JournalSummary]] = {}
    for summary in summaries:
        # A file without a header and without a journal's name is known by nothing but its path.
        nameless = summary.header_lost and not summary.header.pid
        by_id.setdefault(str(summary.path) if nameless else summary.header.journal_id, []).append(summary)
    chosen = []
    copies = {}
    for group in by_id.values():
        best = best_copy(group)
        chosen.append(best)
        copies.update({other.path: best.path for other in group if other is not best})
    return chosen, copies


def best_copy(copies: list[JournalSummary]) -> JournalSummary:
    """Return the copy of a journal to read: the one that reaches furthest.

    Of copies that reach equally far it is the one with a header, the one that is still written, and the one
    at the path that its header gives, not far below it.
    """
    return copies[0] if len(copies) == 1 else max(copies, key=_copy_rank)


def _copy_rank(summary: JournalSummary) -> tuple[int, bool, bool, bool, int, str]:
    header, path = summary.header, summary.path
    try:
        reaches = last_position(path)
    except OSError:  # it went away since it was summarized
        reaches = None
    at_home = (
        path.name == f"{header.pid}-{header.journal_id}{SUFFIX}"
        and path.parent.name in folder_names(header.hostname)
        and _folder_of(summary) in folder_names(header.campaign_id)
    )
    return (
        -1 if reaches is None else reaches,
        not summary.header_lost,
        summary.alive,
        at_home,
        -len(path.parts),
        str(path),
    )


def _folder_of(summary: JournalSummary) -> str:
    return summary.path.parent.parent.name
