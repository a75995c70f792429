"""``flowprov tail``: records as they come.

Flows in: a campaign that may still be recorded. Flows out: a line for each task and workflow, or for what was
measured; and on standard error a sentence on what went wrong.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.output import print_json, print_lines, sources_options
from flowprov.cli.tables import fit_columns
from flowprov.cli.terminal import wait
from flowprov.read.campaign_names import find_campaign
from flowprov.read.frames import as_datetime, to_dicts
from flowprov.read.grouping import by_campaign
from flowprov.read.labels import labels_of
from flowprov.read.live import Event, LiveCampaign, Measurement, Notice, latest_campaign, time_of
from flowprov.read.source import Source

_POLL_S = 0.5


@click.command()
@click.argument("campaign", required=False, shell_complete=complete_campaigns)
@sources_options
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--metrics", is_flag=True, help="Print what was measured, and nothing else.")
@click.option(
    "-n", "--last", "count", type=click.IntRange(min=0), default=10, metavar="N", show_default=True,
    help="How many of the latest records are printed first.",
)  # fmt: skip
@click.pass_obj
def tail(
    default: str | None,
    campaign: str | None,
    sources: tuple[str, ...],
    count: int,
    *,
    follow: bool,
    metrics: bool,
    as_json: bool,
) -> None:
    """Print the latest records of a campaign, and with -f those that come.

    CAMPAIGN is an id, a beginning or an end of an id that fits only one, or a name that only one has;
    without it the campaign with the latest record is taken. Tasks are printed when they end, workflows and
    Dask tasks also when they begin. Times are in UTC.

    With -f it goes on until Ctrl-C (exit status 130), also past the end of all processes: others may come. It
    ends by itself if nobody reads its output any more, and with status 2 if the campaign is removed.
    """
    opened = [Source(source) for source in (sources or (default,))]
    wanted = _choose(opened, campaign, follow=follow)
    if wanted is None:
        return
    live = [LiveCampaign(source, wanted) for source in opened]
    events = heapq.nlargest(count, _kept(live, metrics=metrics), key=time_of)[::-1]
    while _print(events, as_json=as_json) and follow and wait(_POLL_S, sys.stdout):
        events = sorted(_kept(live, metrics=metrics), key=time_of)


def _choose(sources: Sequence[Source], campaign: str | None, *, follow: bool) -> str | None:
    """Return the id of the campaign; wait for one if there is none yet; None if nobody waits any more."""
    if campaign is not None:
        groups = by_campaign(journal for source in sources for journal in source.summaries())
        return find_campaign(groups, campaign, ", ".join(map(str, sources)))
    latest = latest_campaign(sources)
    if latest is None and not follow:
        sources[0].require_campaign()  # says what is missing
    if latest is None:
        print_lines(f"{', '.join(map(str, sources))}: waiting for the first record", to_stderr=True)
    while latest is None and wait(_POLL_S, sys.stdout):
        latest = latest_campaign(sources)
    return latest


def _kept(live: Sequence[LiveCampaign], *, metrics: bool) -> Iterator[Event]:
    """Yield the events that are printed on standard output; print what went wrong at once."""
    for one in live:
        for event in one.look():
            if isinstance(event, Notice):
                print_lines(f"flowprov tail: {event.text}", to_stderr=True)
            elif isinstance(event, Measurement) == metrics:
                yield event


def _print(events: Sequence[Event], *, as_json: bool) -> bool:
    """Print events; return whether anybody reads on."""
    if as_json:
        return all(print_json(_as_dict(event)) for event in events)
    return print_lines(*fit_columns(map(_line, events)))


def _line(event: Event) -> str:
    time = as_datetime(time_of(event))
    at = "-" if time is None else f"{time:%H:%M:%S}"
    if isinstance(event, Measurement):
        values = " ".join(f"{name}={value:.6g}" for name, value in event.values.items())
        parts = [event.workflow, event.loop, "" if event.step is None else f"step {event.step}", values]
        return "  ".join([at, *filter(None, parts)])
    return f"{at}  {labels_of(to_dicts([event]))[0]}"  # type: ignore[list-item]


def _as_dict(event: Event) -> dict[str, Any]:
    if isinstance(event, Measurement):
        return {"type": "metrics", **event._asdict(), "at": as_datetime(event.at)}
    (fields,) = to_dicts([event])  # type: ignore[list-item]
    return {name: value for name, value in fields.items() if value is not None}
