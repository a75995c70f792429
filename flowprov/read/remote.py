"""Servers that hold journals: what a reader asks of them, and which one a URI names.

Flows in: a URI. Flows out: a :class:`Remote`, of which :mod:`flowprov.read.mirror` makes journals again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from flowprov.errors import JournalError
from flowprov.sinks.base import MONGODB, REDIS, Entry


class Remote(Protocol):
    """A server that holds journals. Every method may raise SinkError; :meth:`entries` also on its way."""

    def campaign_ids(self) -> list[str]:
        """List the campaigns."""

    def journal_ids(self, campaign_id: str) -> list[str]:
        """List the journals of a campaign; some may have records of it and belong to another."""

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Give for each journal its first and its last entries in order, about ``count`` of each."""

    def entries(
        self, journal_id: str, after: int | None = None, *, confirmed: bool = False
    ) -> Iterator[Entry]:
        """Give the entries of a journal behind a position, in order; if asked only to the first gap."""

    def count(self, journal_id: str) -> int:
        """Count the lines of a journal that are held."""

    def close(self) -> None:
        """Let go of the connection."""


def open_remote(uri: str) -> Remote:
    """Give the reader for a URI; it connects when it is first used.

    Raises
    ------
    JournalError
        If the URI is of no kind that can be read.
    MissingExtraError
        If the client library is not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme in REDIS:
        from flowprov.sinks.redis import RedisSource

        return RedisSource(uri)
    if scheme in MONGODB:
        from flowprov.sinks.mongodb_reader import MongoSource

        return MongoSource(uri)
    raise JournalError(
        f"{scheme}:// cannot be read. Give the path of a buffer folder, a campaign folder, a host folder or "
        "one .jsonl journal, or the URI of a sink: redis://… or mongodb://…"
    )
