"""``flowprov show``: the recorded tree as text.

Flows in: a campaign. Flows out: its workflows and their tasks, one per line.
"""

from __future__ import annotations

import click

from flowprov.cli.output import campaign_heading, print_all, print_lines, source_options
from flowprov.read.campaign_names import campaign_of
from flowprov.read.outline import Outline
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
    """Show the recorded tree: campaign, workflows, tasks.

    Each line has a status and a duration; the rank; the first values that were used and generated, above all
    those in which siblings differ; and how it ended, if that was by an error or early. The forwards of a
    module inside one task or workflow are one line with their count.
    """
    chosen = Source(source or default)  # copies of a server's journals exist only as long as their source
    journals = chosen.require_campaign(campaign)
    print_lines(campaign_heading(campaign_of(journals)))
    outline = Outline(journals, most=most, depth=depth, fold_forwards=not forwards)
    print_all(f"  {line}" for line in outline.lines())
