"""``flowprov show``: the recorded tree as text.

Flows in: a campaign. Flows out: its workflows and the tasks in them, one a line.
"""

from __future__ import annotations

import textwrap

import click

from flowprov.cli.output import heading, say, source_options
from flowprov.read.buffer import Buffer, campaign_of
from flowprov.read.lineage import tree
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
    help="How many siblings of one name and status are shown; the others are counted.",
)
@click.pass_obj
def show(default: str | None, source: str | None, campaign: str | None, depth: int | None, most: int) -> None:
    """Show the recorded tree: campaign, workflows, tasks.

    Each line has a status, a duration and the first scalars that were generated.
    """
    source = source or default
    place = Source(source)  # held for as long as its journals are read
    found = campaign_of(place.require_campaign(campaign))
    rows = Buffer(source).records(campaign_id=found.campaign_id, merge=True)
    say(f"{heading(found)}\n{textwrap.indent(tree(rows, most=most, depth=depth), '  ')}".rstrip())
