"""The sink reader of MongoDB: it reads journals back, line by line, as they were delivered.

Flows in: an address. Flows out: ids of campaigns and journals, and the entries of a journal in order.
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

_BEFORE_FIRST = -1


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
        """Return the ids of all campaigns to which a record belongs, sorted."""
        with self._connection.exchange() as database:
            found = database[JOURNALS].distinct("campaign_ids", {"type": "journal"})
        return sorted(name for name in found if isinstance(name, str))

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """Return the ids of the journals, oldest first: all, or those that hold records of a campaign."""
        query: dict[str, Any] = {"type": "journal"}
        if campaign_id is not None:
            query["campaign_ids"] = campaign_id
        with self._connection.database() as database:
            documents = list(database[JOURNALS].find(query, {"started_at": 1}))
        documents = [document for document in documents if isinstance(document["_id"], str)]
        documents.sort(key=lambda document: (_integer(document.get("started_at"), 0), document["_id"]))
        return [document["_id"] for document in documents]

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Yield for each journal its first control records and its last lines, at most ``count`` of each."""
        for journal_id in journal_ids:
            with self._connection.exchange() as database:
                control_records = set(_entries_from_end(database[JOURNALS], journal_id, 1, count))
                last = {
                    entry
                    for name in COLLECTIONS
                    for entry in _entries_from_end(database[name], journal_id, -1, count)
                }
            yield sorted(control_records.union(sorted(last)[-count:]))

    def entries(
        self, journal_id: str, after: int | None = None, *, confirmed: bool = False
    ) -> Iterator[Entry]:
        """Yield the lines of a journal in the order of their positions.

        A line that was too long for one document comes as its beginning, which decodes to no record.

        Parameters
        ----------
        journal_id
            The journal.
        after
            Only lines behind this position.
        confirmed
            Only lines up to which the journal is held without a gap. A reader that follows a journal during
            its delivery needs this: behind that position a line may still appear between two others.
        """
        start = _BEFORE_FIRST if after is None else after
        positions: dict[str, int] = {"$gt": start}
        if confirmed:
            positions["$lte"] = self._delivered_to(journal_id)
        last = None
        for entry in merge(*(self._entries_in(name, journal_id, positions) for name in COLLECTIONS)):
            # A line that one version could not decode, and a later version could, is in two collections.
            if entry.position != last:
                yield entry
            last = entry.position

    def count(self, journal_id: str) -> int:
        """Return the number of lines of a journal that the server holds, up to the confirmed position."""
        query = {"journal_id": journal_id, "position": {"$lte": self._delivered_to(journal_id)}}
        count = 0
        for name in COLLECTIONS:
            with self._connection.exchange() as database:
                count += database[name].count_documents(query)
        return count

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _delivered_to(self, journal_id: str) -> int:
        with self._connection.exchange() as database:
            document = database[JOURNALS].find_one({"_id": journal_id}, {"delivered_to": 1}) or {}
        return _integer(document.get("delivered_to"), _BEFORE_FIRST)

    def _entries_in(self, collection: str, journal_id: str, positions: dict[str, int]) -> Iterator[Entry]:
        while True:
            query = {"journal_id": journal_id, "position": positions}
            with self._connection.database() as database:
                cursor = database[collection].find(query, {"position": 1, "line": 1, "_id": 0})
                try:
                    for document in cursor.sort("position", 1):
                        entry = _entry(document)
                        if entry is not None:
                            positions = {**positions, "$gt": entry.position}
                            yield entry
                except CursorNotFound:
                    continue  # the server drops a cursor after ten idle minutes: query behind the last line
                return


def _entries_from_end(collection: Any, journal_id: str, direction: int, count: int) -> Iterator[Entry]:
    # The position in the query excludes the document of the journal itself, which has none.
    query = {"journal_id": journal_id, "position": {"$gt": _BEFORE_FIRST}}
    cursor = collection.find(query, {"position": 1, "line": 1, "_id": 0})
    return filter(None, map(_entry, cursor.sort("position", direction).limit(count)))


def _entry(document: dict[str, Any]) -> Entry | None:
    """Return the line of a document; None if it is none of ours, as others may write to the collections."""
    line, position = document.get("line"), document.get("position")
    if not isinstance(line, (str, bytes)) or not isinstance(position, int):
        return None
    return Entry(position, line.encode() if isinstance(line, str) else line)


def _integer(value: object, default: int) -> int:
    return int(value) if isinstance(value, int) else default
