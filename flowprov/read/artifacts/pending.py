"""Artifacts whose digest is pending: the program that logged them ended before they were read.

Flows in: sources. Flows out: those of which nobody will write a digest any more, unless ``flowprov digest``
does, and what can be read of them here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from flowprov.contents.content import Content
from flowprov.contents.paths import read_path
from flowprov.contents.reading import Reading
from flowprov.read.artifacts.catalog import Catalog, Sighting
from flowprov.read.source import Source


class Pending(NamedTuple):
    """A pending artifact.

    Attributes
    ----------
    sighting
        It.
    alive
        Whether the process that logged it may still read it.
    """

    sighting: Sighting
    alive: bool


def find_pending(source: Source, campaign_id: str | None = None) -> list[Pending]:
    """Return the artifacts of a source that have no digest, each once."""
    journals = source.summaries() if campaign_id is None else source.require_campaign(campaign_id)
    alive = {journal.header.journal_id for journal in journals if journal.alive}
    catalog = Catalog((journal.path for journal in journals), campaign_id)
    found = {one.artifact_id: one for one in catalog.sightings if one.digest is None}
    return [Pending(one, one.header.journal_id in alive) for one in found.values()]


def read_pending(sighting: Sighting, reading: Reading, hostname: str) -> Content | None:
    """Return the content of a pending artifact; None if it cannot be read here.

    Parameters
    ----------
    sighting
        The artifact.
    reading
        How it is read.
    hostname
        The name of this machine. What another machine recorded may lie on a disk that both see.
    """
    path, stat = sighting.record.path, sighting.record.stat
    if path is None or stat is None:
        return Content(state="skipped", reason="it was an object, and its program has ended")
    try:
        status = os.stat(path)  # noqa: PTH116 - the path is a text of a journal
    except (OSError, ValueError) as error:
        if sighting.header.hostname != hostname:
            return None
        return Content(state="missing", reason=getattr(error, "strerror", None) or str(error))
    # Of a folder the times of its files would tell; its own tell whether files came or went.
    recorded_size, recorded_mtime = stat[2:4] if len(stat) >= 4 else (None, None)
    if (status.st_size, status.st_mtime_ns) != (recorded_size, recorded_mtime):
        reason = "it changed after it was recorded, and before it was read"
        return Content(state="changed_while_read", reason=reason)
    return read_path(path, reading)
