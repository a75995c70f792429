"""``flowprov show``: the recorded tree as text.

Flows in: a campaign. Flows out: its workflows and their tasks, one per line.
"""

from __future__ import annotations

import textwrap

import click

from flowprov.cli.output import campaign_heading, print_text, source_options
from flowprov.read.buffer import Buffer, campaign_of
from flowprov.read.lineage import tree
from flowprov.read.source import Source


@click.command(short_help="Show the recorded tree.")
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
    journals = Source(source)  # copies of a server's journals exist only as long as their source
    chosen = campaign_of(journals.require_campaign(campaign))
    rows = Buffer(source).records(campaign_id=chosen.campaign_id, merge=True)
    text = textwrap.indent(tree(rows, most=most, depth=depth), "  ")
    print_text(f"{campaign_heading(chosen)}\n{text}".rstrip())
