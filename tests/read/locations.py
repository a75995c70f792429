"""Locations of a campaign: the folder of its journals, and servers to which they were delivered.

The servers may be real ones that others use too (see ``tests/servers.py``): the tests deliver under fresh
ids, ask for these, and flush nothing.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from flowprov.read import Buffer
from flowprov.shipping.shipment import Shipment
from flowprov.sinks.registry import open_sink
from tests.servers import REAL

KINDS = ("folder", "redis", "mongodb")
SERVERS = KINDS[1:]


class Location(NamedTuple):
    """A source from which the journals of a folder can be read."""

    kind: str
    source: str | Path

    @property
    def is_shared(self) -> bool:
        """Whether it may hold campaigns of others."""
        return self.kind == "redis" and REAL["redis"] is not None

    @property
    def buffer(self) -> Buffer:
        """A new buffer of the source, which has read nothing yet."""
        return Buffer(self.source)

    def deliver(self, folder: Path) -> int:
        """Deliver the journals of a folder to the source; return the number of delivered entries."""
        if self.kind == "folder":
            assert folder == self.source
            return 0
        return deliver(str(self.source), folder)


def deliver(uri: str, folder: Path, *, maxlen: int | None = None) -> int:
    """Deliver what is in a folder now; return the number of entries."""
    sink = open_sink(uri, maxlen=maxlen)
    try:
        return Shipment(sink, folder).deliver_once()
    finally:
        sink.close()


def fresh_database(uri: str) -> str:
    """Return the URI of a MongoDB database that nobody else uses."""
    return urlsplit(uri)._replace(path=f"/flowprov_test_{uuid.uuid4().hex[:12]}").geturl()
