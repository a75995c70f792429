"""``flowprov compact``: Parquet files beside closed journals, from which answers come faster.

Flows in: campaigns. Flows out: a Parquet file for each closed journal, and counts.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import msgspec

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.output import Failure, campaign_heading, print_json, print_lines
from flowprov.read import compaction
from flowprov.read.automatic_compaction import compact_folder
from flowprov.read.campaign_names import campaign_of, find_campaign
from flowprov.read.grouping import by_campaign
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source, buffer_to_change


@click.command()
@click.argument("campaigns", nargs=-1, shell_complete=complete_campaigns)
@click.option("--source", metavar="SOURCE", help="The buffer folder; by default that of the settings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per campaign.")
@click.option(
    "--dask",
    "address",
    metavar="ADDRESS",
    help="Write the files on the workers of this Dask cluster, which must see the folder.",
)
@click.option("--in-background", is_flag=True, hidden=True, help="For commands that start it.")
@click.pass_obj
def compact(
    default: str | None,
    campaigns: tuple[str, ...],
    source: str | None,
    address: str | None,
    *,
    as_json: bool,
    in_background: bool,
) -> None:
    """Write a Parquet file beside each closed journal, from which answers come faster.

    CAMPAIGNS are ids, beginnings or ends of ids that fit only one, or names that only one has; without any,
    all are compacted. The journals stay as they are and remain the truth: a file of which the journal has
    changed since is not used, and to remove one loses nothing.
    """
    if in_background:
        os.nice(19)
        compact_folder(Path(str(source)))
        return
    place = Source(source or buffer_to_change(default, "--source "))
    if place.is_server:
        raise Failure(
            "flowprov compact takes a buffer folder: on a server there are no files to write beside"
        )
    groups = by_campaign(place.summaries())
    named = [find_campaign(groups, one, str(place)) for one in campaigns]
    chosen = list(dict.fromkeys(named)) if campaigns else list(groups)
    if address is not None:
        from flowprov.read.dask_compaction import write_on_cluster

        write_on_cluster(address, [one for name in chosen for one in groups[name]], place.digests)
        groups = by_campaign(place.summaries())  # what is left is what journals say of each other
    writer = ParquetWriter()
    try:
        number = sum(len(groups[name]) for name in chosen)
        stream = sys.stderr if sys.stderr.isatty() else io.StringIO()  # for people only
        with click.progressbar(length=number, label="compacting", file=stream) as bar:
            on_journal = partial(bar.update, 1)
            results = {
                name: compaction.compact(groups[name], place.digests, writer, on_journal) for name in chosen
            }
    finally:
        writer.close()
    for name, result in results.items():
        if as_json:
            print_json({"campaign_id": name, **msgspec.structs.asdict(result)})
        else:
            print_lines(f"{campaign_heading(campaign_of(groups[name]))}  {', '.join(_parts(result))}")


def _parts(result: compaction.Compacted) -> Sequence[str]:
    parts = [(result.written, "compacted"), (result.current, "were already")]
    parts += [(result.open, "not closed"), (result.damaged, "damaged")]
    return [f"{count} {text}" for count, text in parts if count] or ["no journals"]
