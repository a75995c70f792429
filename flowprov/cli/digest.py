"""``flowprov digest``: complete the digests of artifacts that a program had no time to read.

Flows in: a buffer folder. Flows out: digest records, in a journal of this process in the same campaign, and
counts.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
import msgspec

from flowprov.cli.output import Failure, only_campaign_option, print_json, print_lines
from flowprov.cli.progress import progress
from flowprov.contents.content import Content
from flowprov.contents.digest_record import digest_record
from flowprov.contents.reading import Reading
from flowprov.journal import Journal
from flowprov.journal.format import SUFFIX
from flowprov.journal.liveness import host_name
from flowprov.read.artifacts.catalog import Sighting
from flowprov.read.artifacts.pending import find_pending, read_pending
from flowprov.read.campaign_sources import find_campaign_id
from flowprov.read.source import Source, buffer_to_change
from flowprov.records import encode
from flowprov.runtime.launch import identity
from flowprov.settings import load_settings


@click.command()
@click.argument("source", required=False)
@only_campaign_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def digest(default: str | None, source: str | None, campaign: str | None, *, as_json: bool) -> None:
    """Read the artifacts whose digest is pending, and record it.

    SOURCE is a buffer folder. Artifacts stay pending if the program that logged them was killed, or ended
    before they were read. What changed since then is recorded as changed. Exit status 1: some are left, as
    their program still runs, or as they lie on another machine.
    """
    chosen = source or str(buffer_to_change(default, ""))
    place = Source(chosen)
    if place.is_server or place.is_part():
        raise Failure("flowprov digest takes a buffer folder: it writes into it")
    buffer = Path(chosen)
    reading = Reading(weights=load_settings().artifacts.weights)
    counts: Counter[str] = Counter()
    journals: dict[str, Journal] = {}
    try:
        with progress("reading"):
            for one, alive in find_pending(place, find_campaign_id(chosen, campaign)):
                content = None if alive else read_pending(one, reading, host_name())
                counts[_outcome(content, alive=alive)] += 1
                if content is not None:
                    _write(journals, buffer, one, content)
    finally:
        for journal in journals.values():
            journal.close()
    left = counts["running"] + counts["elsewhere"]
    if as_json:
        print_json(dict(counts))
    elif not counts:
        print_lines("no digest is pending")
    else:
        print_lines(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    sys.exit(1 if left else 0)


def _outcome(content: Content | None, *, alive: bool) -> str:
    if alive:
        return "running"
    return "elsewhere" if content is None else content.state


def _write(journals: dict[str, Journal], buffer: Path, one: Sighting, content: Content) -> None:
    campaign_id = one.campaign_id
    if campaign_id not in journals:
        settings = load_settings()
        own = msgspec.structs.replace(settings.journal, path=str(_buffer_of(buffer, one)))
        facts = identity(campaign_id, None, own.path, settings.digest())
        journals[campaign_id] = Journal(own, facts)
    journals[campaign_id].append_addition(encode(digest_record(one.artifact_id, content)))


def _buffer_of(buffer: Path, one: Sighting) -> Path:
    """Return the buffer of a campaign: the folder that was given, or the one above a campaign's folder."""
    names = {path.parent.parent.parent for path in buffer.rglob(f"*{one.header.journal_id}{SUFFIX}")}
    return next(iter(names), buffer).absolute()
