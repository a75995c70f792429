"""Journals read back from MongoDB, line by line, as they were delivered.

Flows in: an address. Flows out: ids of campaigns and journals, and the entries of a journal in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any

from flowprov.errors import MissingExtraError
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb.connection import MongoConnection
from flowprov.sinks.mongodb.documents import COLLECTIONS, JOURNALS

try:
    from pymongo.errors import CursorNotFound
except ImportError as missing:
    raise MissingExtraError("pymongo", "mongodb", "read records from MongoDB") from missing

_BEFORE_ALL = -1


class MongoReader:
    """The journals that a MongoDB database holds.

    Every method may raise :class:`SinkUnavailableError` or :class:`SinkRefusedError`.

    Parameters
    ----------
    uri
        ``mongodb://`` or ``mongodb+srv://`` address; nothing is connected before the first call.
    database
        Name of the database; None takes the one in the path of the URI, else "flowprov".
    timeout
        Seconds that one exchange with the server may take.
    """

    def __init__(self, uri: str, *, database: str | None = None, timeout: float = 5.0) -> None:
        self._connection = MongoConnection(uri, database, timeout)

    def campaign_ids(self) -> list[str]:
        """Give the campaigns that any record belongs to, sorted."""
        with self._connection.exchange() as database:
            return sorted(database[JOURNALS].distinct("campaign_ids", {"type": "journal"}))

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """Give the journals that are there, oldest first; with a campaign, those that have records of it."""
        wanted: dict[str, Any] = {"type": "journal"}
        if campaign_id is not None:
            wanted["campaign_ids"] = campaign_id
        with self._connection.database() as database:
            found = list(database[JOURNALS].find(wanted, {"started_at": 1}))
        return [one["_id"] for one in sorted(found, key=lambda one: (one["started_at"], one["_id"]))]

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Give for each journal its first control records and its last lines, at most ``count`` of each."""
        for journal_id in journal_ids:
            with self._connection.exchange() as database:
                found = set(_some(database[JOURNALS], journal_id, 1, count))
                last = {each for name in COLLECTIONS for each in _some(database[name], journal_id, -1, count)}
            yield sorted(found.union(sorted(last)[-count:]))

    def entries(
        self, journal_id: str, after: int | None = None, *, confirmed: bool = False
    ) -> Iterator[Entry]:
        """Give the lines of a journal in the order of their positions.

        Of a line that was too long for one document it gives the beginning, which decodes to no record.

        Parameters
        ----------
        journal_id
            The journal.
        after
            Only lines behind this position.
        confirmed
            Only lines up to which the journal is held without a gap. Who follows a journal that is being
            delivered asks for these: behind them a line may still appear between two others.
        """
        start = _BEFORE_ALL if after is None else after
        places: dict[str, int] = {"$gt": start}
        if confirmed:
            places["$lte"] = self._delivered_to(journal_id)
        last = None
        for entry in merge(*(self._entries_in(name, journal_id, places) for name in COLLECTIONS)):
            # A line that one version could not decode and a later one could stands in two collections.
            if entry.position != last:
                yield entry
            last = entry.position

    def count(self, journal_id: str) -> int:
        """Count the lines of a journal that are held, among those up to which it was delivered."""
        wanted = {"journal_id": journal_id, "position": {"$lte": self._delivered_to(journal_id)}}
        found = 0
        for name in COLLECTIONS:
            with self._connection.exchange() as database:
                found += database[name].count_documents(wanted)
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _delivered_to(self, journal_id: str) -> int:
        with self._connection.exchange() as database:
            found = database[JOURNALS].find_one({"_id": journal_id}, {"delivered_to": 1}) or {}
        return int(found.get("delivered_to", _BEFORE_ALL))

    def _entries_in(self, collection: str, journal_id: str, places: dict[str, int]) -> Iterator[Entry]:
        while True:
            wanted = {"journal_id": journal_id, "position": places}
            with self._connection.database() as database:
                found = database[collection].find(wanted, {"position": 1, "line": 1, "_id": 0})
                try:
                    for document in found.sort("position", 1):
                        places = {**places, "$gt": document["position"]}
                        yield _entry(document)
                except CursorNotFound:
                    continue  # the server forgets a cursor that rests for ten minutes: go on behind the last
                return


def _some(collection: Any, journal_id: str, direction: int, count: int) -> Iterator[Entry]:
    # The journal's own document has no position.
    wanted = {"journal_id": journal_id, "position": {"$gt": _BEFORE_ALL}}
    found = collection.find(wanted, {"position": 1, "line": 1, "_id": 0})
    return map(_entry, found.sort("position", direction).limit(count))


def _entry(document: dict[str, Any]) -> Entry:
    line = document["line"]
    return Entry(document["position"], line.encode() if isinstance(line, str) else bytes(line))
