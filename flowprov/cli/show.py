"""``flowprov show``: the recorded tree as text.

Flows in: a campaign. Flows out: its workflows and their tasks, one per line.
"""

from __future__ import annotations

import os

import click

from flowprov.cli.output import campaign_heading, print_all, print_lines, source_options
from flowprov.cli.record import record_lines
from flowprov.errors import FlowprovError, UnknownIdError
from flowprov.read.answers.items import Item, describe_several, find_items
from flowprov.read.campaign_names import campaign_of
from flowprov.read.outline import outline_lines
from flowprov.read.questions import all_contents
from flowprov.read.source import Source


@click.command()
@source_options
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="How many levels are shown.")
@click.option(
    "--most",
    type=click.IntRange(min=0),
    default=6,
    metavar="N",
    show_default=True,
    help="How many siblings of one name and status are shown, the last ones; the others are counted.",
)
@click.option("--forwards", is_flag=True, help="Show forwards one by one, like other tasks.")
@click.pass_obj
def show(
    default: str | None,
    source: str | None,
    campaign: str | None,
    depth: int | None,
    most: int,
    *,
    forwards: bool,
) -> None:
    """Show the recorded tree: campaign, workflows, tasks; or one record in full, by its id.

    SOURCE may also be the id or the name of a campaign, or the id of a run, a workflow or a task; the
    beginning of an id is enough, where it fits only one.

    Each line has a status and a duration; the rank; the first values that were used and generated, above all
    those in which siblings differ; and how it ended, if that was by an error or early. The forwards of a
    module inside one task or workflow are one line with their count.
    """
    if source is not None and not _is_source(source) and _is_campaign(source, default):
        source, campaign = default, source
    elif source is not None and (item := _item(source, default)) is not None:
        if item.kind != "campaign":
            print_lines(*record_lines(item))
            return
        source, campaign = default, item.id
    chosen = Source(source or default)  # copies of a server's journals exist only as long as their source
    journals = chosen.require_campaign(campaign)
    print_lines(campaign_heading(campaign_of(journals)))
    lines = outline_lines(journals, chosen.digests, most=most, depth=depth, fold_forwards=not forwards)
    print_all(f"  {line}" for line in lines)


def _is_source(text: str) -> bool:
    return "://" in text or os.path.lexists(text)


def _is_campaign(text: str, default: str | None) -> bool:
    """Whether a text is the id of a campaign: that is known without reading what it holds."""
    try:
        return bool(Source(default).campaign(text))
    except (FlowprovError, OSError):
        return False


def _item(text: str, default: str | None) -> Item | None:
    """Return what somebody names who names no source; None if it is a source, or nothing that is known.

    Raises
    ------
    UnknownIdError
        If it may be several things.
    """
    if _is_source(text):
        return None
    try:
        found = list(all_contents(default, None)) if Source(default).summaries() else []
    except (FlowprovError, OSError):
        return None  # then the text is taken for a source, and said to be none
    matches = find_items(found, text)
    if len(matches) > 1:
        raise UnknownIdError(describe_several(text, matches))
    return matches[0] if matches else None
