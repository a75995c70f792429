"""``flowprov rm``: remove campaigns from a buffer.

Flows in: campaigns, by id, by name or by age. Flows out: their journals are gone. What still runs, or is not
on a sink that the settings name, stays unless it is forced.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.durations import parse_duration
from flowprov.cli.output import Failure, campaign_heading, print_json, print_lines
from flowprov.cli.sink_probes import Probes, open_probes
from flowprov.journal.format import find_journals
from flowprov.journal.object_store import remove_objects
from flowprov.journal.summary import JournalSummary
from flowprov.read import digest_file, merged_file
from flowprov.read.campaign_names import campaign_of, find_campaign
from flowprov.read.grouping import by_campaign
from flowprov.read.parquet_files import parquet_path
from flowprov.read.source import Source, buffer_to_change
from flowprov.read.verify import verify

_MAX_LISTED = 20

_Journals = list[JournalSummary]


@click.command()
@click.argument("campaigns", nargs=-1, shell_complete=complete_campaigns)
@click.option("--source", metavar="SOURCE", help="The buffer folder; by default that of the settings.")
@click.option("--older-than", metavar="AGE", help="Those without a record since then, as in 30d or 12h.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All but the N latest.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also what still runs or is not delivered.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: which were removed, and which refused.")
@click.pass_context
def rm(
    context: click.Context,
    campaigns: tuple[str, ...],
    source: str | None,
    older_than: str | None,
    keep: int | None,
    *,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove campaigns from a buffer folder.

    CAMPAIGNS are ids, beginnings or ends of ids that fit only one, or names that only one has. --older-than
    and --keep choose among them, or among all if none is given. What still runs, or is not on the sinks of
    the settings, is left and said; then the exit status is 1. Of MLflow it is asked whether it holds the
    runs.
    """
    folder = source or str(buffer_to_change(context.obj, "--source "))
    place = Source(folder)
    if place.is_server or place.is_part():
        raise Failure("flowprov rm takes a buffer folder or a campaign folder")
    if not campaigns and older_than is None and keep is None:
        raise Failure("flowprov rm takes campaigns, --older-than or --keep: see flowprov rm --help")
    groups = by_campaign(place.summaries())
    named = [find_campaign(groups, one, str(place)) for one in campaigns]
    chosen = list(dict.fromkeys(named)) if campaigns else list(groups)
    chosen = _narrowed(groups, chosen, older_than, keep)
    refused = {} if force else dict(_refusals(context, groups, chosen, folder))
    for name, reason in refused.items():
        print_lines(f"{_title(groups[name])} {reason}; --force removes it", to_stderr=True)
    chosen = [name for name in chosen if name not in refused]
    if not (yes or not chosen or _confirmed(groups, chosen, to_stderr=as_json)):
        chosen = []
    for name in chosen:
        _remove(groups[name])
    if as_json:
        print_json({"removed": chosen, "refused": refused})
    elif chosen:
        print_lines(f"removed {_count(len(chosen))}")
    sys.exit(1 if refused else 0)


def _narrowed(
    groups: Mapping[str, _Journals], chosen: list[str], older_than: str | None, keep: int | None
) -> list[str]:
    if older_than is not None:
        before = time.time_ns() - int(parse_duration(older_than, "age") * 1e9)
        chosen = [name for name in chosen if max(one.last_at for one in groups[name]) < before]
    if keep is not None:
        latest = list(groups)[len(groups) - keep :] if keep else []
        chosen = [name for name in chosen if name not in latest]
    return chosen


def _refusals(
    context: click.Context, groups: Mapping[str, _Journals], chosen: Sequence[str], folder: str
) -> Iterator[tuple[str, str]]:
    with closing(open_probes(context, (), from_server=False)) as probes:
        for name in chosen:
            if any(journal.alive for journal in groups[name]):
                yield name, "still runs"
            elif any(probes) and _is_waiting(folder, name, probes):
                yield name, "is not delivered"


def _is_waiting(folder: str, campaign_id: str, probes: Probes) -> bool:
    """Whether a sink does not hold all of a campaign, or cannot be asked."""
    result = verify(folder, campaign_id=campaign_id, sinks=probes.lines, run_sinks=probes.runs)
    return bool(result.undelivered)


def _confirmed(groups: Mapping[str, _Journals], chosen: Sequence[str], *, to_stderr: bool) -> bool:
    more = f"and {len(chosen) - _MAX_LISTED} more" if len(chosen) > _MAX_LISTED else None
    titles = [_title(groups[name]) for name in chosen[:_MAX_LISTED]]
    print_lines(*titles, *filter(None, [more]), to_stderr=to_stderr)
    return click.confirm(f"Remove {_count(len(chosen))}?", err=to_stderr)


def _count(number: int) -> str:
    return "1 campaign" if number == 1 else f"{number} campaigns"


def _title(journals: _Journals) -> str:
    return campaign_heading(campaign_of(journals))


def _remove(journals: _Journals) -> None:
    """Remove the journals of a campaign, its objects, and the folders that are empty then."""
    folders: dict[Path, None] = {}
    for journal in journals:
        _remove_copies(parquet_path(journal.path))
        journal.path.unlink(missing_ok=True)
        parquet_path(journal.path).unlink(missing_ok=True)  # what a compact wrote meanwhile
        folders[journal.path.parent] = None
    for campaign_folder in {folder.parent for folder in folders}:
        if not find_journals(campaign_folder):  # an older folder may be that of several campaigns
            remove_objects(campaign_folder)
        for name in (digest_file.NAME, merged_file.NAME):
            _remove_copies(campaign_folder / name)
    for folder in folders:
        with contextlib.suppress(OSError):  # something else lies there
            os.rmdir(folder)  # noqa: PTH106 - a folder that is not empty stays
            os.rmdir(folder.parent)  # noqa: PTH106


def _remove_copies(file: Path) -> None:
    """Remove a file that was made from journals, and what a killed process has left of it."""
    for path in (file, *file.parent.glob(f"{file.name}.*")):
        path.unlink(missing_ok=True)
