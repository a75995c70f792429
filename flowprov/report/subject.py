"""What a report is about: the campaigns and runs that somebody names.

Flows in: ids, beginnings of ids and names, and sources. Flows out: campaigns, and which of their runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flowprov.errors import UnknownIdError
from flowprov.read.answers.items import Item, describe_several, find_items
from flowprov.read.answers.tables import run_lines
from flowprov.read.campaign_names import campaign_of, matching_campaigns
from flowprov.read.campaign_sources import (
    CampaignSource,
    Sources,
    campaigns_of,
    describe_sources,
    each_source,
)
from flowprov.read.questions import runs_of
from flowprov.read.source import Source
from flowprov.read.unknown_ids import describe_unknown


@dataclass(frozen=True)
class Subject:
    """Campaigns, and the ids of their runs that are meant; None: all."""

    campaigns: list[CampaignSource]
    run_ids: frozenset[str] | None = None


@dataclass
class _Chosen:
    campaigns: dict[str, None] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    workflows: set[str] = field(default_factory=set)


def find_subject(wanted: Sequence[str], source: Sources = None) -> Subject:
    """Return what is meant by ids and names of campaigns, runs and workflows; by none the latest campaign.

    Raises
    ------
    UnknownIdError
        If one of them is not there, or may be several.
    JournalError
        If there are no records.
    """
    found = {one.campaign_id: one for one in campaigns_of(source, None)}
    if not found:
        Source(each_source(source)[0]).require_campaign()  # says what is wrong with it
    if not wanted:
        return Subject(list(found.values())[-1:])
    chosen = _Chosen()
    for text in wanted:
        campaign_id = _campaign_id(found, text)
        if campaign_id is not None:
            chosen.campaigns[campaign_id] = None
            chosen.whole.add(campaign_id)
        else:
            _add_item(chosen, _item(text, list(found.values()), describe_sources(source, found.values())))
    campaigns = [found[name] for name in chosen.campaigns if name in found]
    if not chosen.runs and not chosen.workflows:
        return Subject(campaigns)
    return Subject(campaigns, frozenset(chosen.runs | chosen.workflows | chosen.whole))


def _campaign_id(found: dict[str, CampaignSource], text: str) -> str | None:
    """Return the campaign that a text means alone; None if it means none, or something else, too."""
    matches = matching_campaigns({name: one.journals for name, one in found.items()}, text)
    return matches[0] if len(matches) == 1 else None


def _item(text: str, found: Sequence[CampaignSource], where: str) -> Item:
    """Return the run, workflow or campaign that a text means alone."""
    contents = runs_of(found)
    matches = find_items(contents, text)
    meant = [item for item in matches if item.kind != "task"]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UnknownIdError(describe_several(text, meant))
    if matches:
        raise UnknownIdError(
            f"{text!r} is a task, and a report is about campaigns or runs; flowprov show {text} shows it."
        )
    campaigns = {one.campaign_id: campaign_of(one.journals).name for one in found}
    runs = {str(line["run_id"]): line["name"] for one in contents for line in run_lines(one)}
    raise UnknownIdError(describe_unknown("campaign or run", text, where, campaigns, runs))


def _add_item(chosen: _Chosen, item: Item) -> None:
    campaign_id = item.contents.campaign.campaign_id
    records = (item.task, *item.workflows)
    own = next((one.campaign_id for one in records if one is not None and one.campaign_id), campaign_id)
    chosen.campaigns[own] = None
    if item.kind == "campaign":
        chosen.whole.add(item.id)
    else:
        (chosen.runs if item.kind == "run" else chosen.workflows).add(item.id)
