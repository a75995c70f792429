"""``flowprov show``: the recorded tree, or one record in full.

Flows in: a campaign. Flows out: its workflows and their tasks, one per line, and what of them is named apart:
the slowest and the failed that the tree leaves out. Or all of it as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from flowprov.cli.answers import print_answer
from flowprov.cli.compact_later import compact_later
from flowprov.cli.completion import complete_sources
from flowprov.cli.output import campaign_heading, campaign_option, print_all, print_json, print_lines
from flowprov.cli.progress import progress
from flowprov.cli.record import record_fields, record_lines
from flowprov.cli.tables import fit_columns
from flowprov.errors import FlowprovError
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.items import Item, find_item
from flowprov.read.artifacts.counts import artifacts_inside, count_artifacts
from flowprov.read.attempts import id_of_key
from flowprov.read.campaign_names import campaign_of
from flowprov.read.campaign_sources import find_campaign_id
from flowprov.read.frames import as_datetime
from flowprov.read.outline import Outline
from flowprov.read.questions import all_contents
from flowprov.read.ranks import RANK_COLUMNS, RankLoader, oddities, read_ranks
from flowprov.read.repeated_orders import repeated_orders
from flowprov.read.siblings import draw
from flowprov.read.source import Source


@click.command()
@click.argument("source", required=False, shell_complete=complete_sources)
@campaign_option
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
@click.option(
    "--ranks", is_flag=True, help="Show the ranks of a job side by side, and what is odd about them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(
    default: str | None,
    source: str | None,
    campaign: str | None,
    depth: int | None,
    most: int,
    *,
    forwards: bool,
    ranks: bool,
    as_json: bool,
) -> None:
    """Show the recorded tree: campaign, workflows, tasks; or one record in full, by its id.

    SOURCE may also be the id or the name of a campaign, or the id of a run, a workflow or a task; a
    beginning or an end of an id is enough, where it fits only one.

    Each line has a status and a duration; the rank; the first values that were used and generated, above all
    those in which siblings differ; the last metrics that were logged; and how it ended, if that was by an
    error or early. The forwards of a module inside one task or workflow are one line with their count. Below
    the tree stand the slowest tasks and those that failed, if the tree leaves them out, and loaders that
    handed out the same order in each epoch.
    """
    if source is not None and not _is_source(source) and _is_campaign(source, default):
        source, campaign = default, source
    elif source is not None and (item := _item(source, default)) is not None:
        if item.kind != "campaign":
            _show_record(item, default, as_json=as_json)
            return
        source, campaign = default, item.id
    else:
        campaign = find_campaign_id(source or default, campaign)
    with progress("reading"):
        chosen = Source(source or default)  # copies of a server's journals exist only as long as their source
        journals = chosen.require_campaign(campaign)
        if ranks:
            _show_ranks(read_ranks(journals), as_json=as_json)
            return
        outline = Outline(
            journals, most=most, depth=depth, fold_forwards=not forwards, digests=chosen.digests
        )
        outline.read()
        odd = repeated_orders(journals)
    compact_later(source or default)
    shown = campaign_of(journals)
    if as_json:
        named = {"campaign_id": shown.campaign_id, "name": shown.name}
        print_json({**named, "started_at": as_datetime(shown.started_at), **_as_dict(outline), "odd": odd})
        return
    print_all(fit_columns([campaign_heading(shown)]))
    print_all(fit_columns(f"  {line}" for line in draw(outline.nodes())))
    if depth is None:
        print_all(fit_columns(_named_apart(outline)))
        print_lines(*_artifacts_of(journals), *odd)


def _show_ranks(found: Sequence[RankLoader], *, as_json: bool) -> None:
    lines, odd = [one.line() for one in found], oddities(found)
    if as_json:
        print_json({"ranks": lines, "odd": odd})
        return
    if not lines:
        print_lines("No process of this campaign was a rank of a job.")
        return
    print_answer(RANK_COLUMNS, lines)
    print_lines(*odd)


def _show_record(item: Item, default: str | None, *, as_json: bool) -> None:
    journals = Source(default).campaign(item.contents.campaign.campaign_id)
    touched = artifacts_inside(journals, item.id)
    if as_json:
        print_json({**record_fields(item), **touched})
        return
    print_lines(*record_lines(item))
    for role, found in touched.items():
        print_lines(f"  {role}", *(f"    {line['path'] or line['name']}  {line['digest']}" for line in found))


def _artifacts_of(journals: Sequence[JournalSummary]) -> Iterator[str]:
    """Yield how many artifacts a campaign used and generated, if it logged any."""
    counts = count_artifacts(journals)
    if counts:
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        yield f"artifacts: {', '.join(parts)}; flowprov artifacts lists them"


def _named_apart(outline: Outline) -> Iterator[str]:
    """Yield what the tree leaves out although somebody looks for it first."""
    failed = outline.failed()
    more = f", the last {len(failed)} of {outline.failures}" if outline.failures > len(failed) else ""
    for title, keys in (("slowest", outline.slowest()), (f"failed{more}", failed)):
        if keys:
            yield f"{title}:"
        for key in keys:
            yield f"  {outline.label(key)}  {outline.fields(key).get('task_id') or id_of_key(key)}"


def _as_dict(outline: Outline) -> dict[str, Any]:
    """Return a tree as JSON holds it: a list of its lines, each with its level and its parent."""
    return {
        "tree": [
            {"level": node.level, "count_of": node.text}
            if node.key is None
            else {"level": node.level, **_fields(outline, node.key), "inside": node.hidden}
            for node in outline.nodes()
        ],
        "failures": outline.failures,
        "slowest": [_fields(outline, key) for key in outline.slowest()],
        "failed": [_fields(outline, key) for key in outline.failed()],
    }


def _fields(outline: Outline, key: str) -> dict[str, Any]:
    fields = dict(outline.fields(key))
    started, ended = fields.get("started_at"), fields.get("ended_at")
    if started is not None and ended is not None:
        fields["duration"] = (ended - started) / 1e9
    fields |= {"started_at": as_datetime(started), "ended_at": as_datetime(ended)}
    fields["error"] = msgspec.to_builtins(fields.get("error"))
    kind = "workflow" if fields.get("task_id") is None else "task"
    return {"type": kind, **{name: value for name, value in fields.items() if value is not None}}


def _is_source(text: str) -> bool:
    return "://" in text or os.path.lexists(text)


def _is_campaign(text: str, default: str | None) -> bool:
    """Whether a text is the id of a campaign: that is known without reading what it holds."""
    try:
        return bool(Source(default).campaign(text))
    except (FlowprovError, OSError):
        return False


def _item(text: str, default: str | None) -> Item | None:
    """Return what somebody names who names no source; None if it is a source.

    Raises
    ------
    UnknownIdError
        If it may be several things, or nothing that is known.
    """
    if _is_source(text) or os.sep in text:
        return None
    try:
        place = Source(default)
    except FlowprovError:
        return None  # then the text is taken for a source, and said to be none
    with progress("reading"):
        found = list(all_contents(default, None)) if place.summaries() else []
    return find_item(found, text, str(place)) if found else None
