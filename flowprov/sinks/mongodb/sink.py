"""A sink that keeps records in MongoDB: one document a line.

Flows in: lines of journals. Flows out: documents in the collections ``tasks``, ``workflows`` and ``journals``
(everything else, and one document for each journal itself). The ``_id`` of a document is its journal and
position, so the server refuses a second copy.

After a batch was confirmed, the journal's own document learns up to where it is held (``delivered_to``). The
documents are inserted before that, in no order: a batch that was cut off is delivered again, never skipped.

A document that the server refuses for what it holds (a validator or a unique index that somebody made) is
kept as its bare line, where its collection takes none in ``journals``: one line never holds up a journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowprov.errors import SinkUnavailableError
from flowprov.records import Header
from flowprov.sinks.base import Entry, batched
from flowprov.sinks.mongodb.connection import Document, MongoConnection, insert_new
from flowprov.sinks.mongodb.documents import (
    COLLECTIONS,
    JOURNALS,
    TASKS,
    WORKFLOWS,
    Stored,
    bare_line,
    document_of,
)

try:
    from bson.raw_bson import RawBSONDocument
    from pymongo import IndexModel
    from pymongo.collection import Collection
    from pymongo.errors import OperationFailure
except ImportError as missing:
    from flowprov.errors import MissingExtraError

    raise MissingExtraError("pymongo", "mongodb", "deliver records to MongoDB") from missing

# One exchange has to end within the timeout, on a slow server too: it is one question, or few.
_EXCHANGE_LINES = 500
_EXCHANGE_BYTES = 4 * 1024 * 1024

_INDEXES: dict[str, list[list[str]]] = {
    TASKS: [
        ["journal_id", "position"],
        ["campaign_id", "started_at"],
        ["workflow_id"],
        ["task_id"],
        ["parent_task_id"],
    ],
    WORKFLOWS: [["journal_id", "position"], ["campaign_id", "started_at"], ["workflow_id"]],
    JOURNALS: [["journal_id", "position"], ["type", "campaign_ids"]],
}
# There is another index of that name or of those fields, or there are as many as the server allows.
_INDEX_CONFLICTS = {67, 85, 86}
_INDEXED = ""  # in Connection.done, beside ids of journals


class MongoSink:
    """A MongoDB database that keeps records.

    Parameters
    ----------
    uri
        ``mongodb://`` or ``mongodb+srv://`` address; nothing is connected before the first call.
    database
        Name of the database; None takes the one in the path of the URI, else "flowprov".
    timeout
        Seconds that one exchange with the server may take.
    """

    name = "mongodb"

    def __init__(self, uri: str, *, database: str | None = None, timeout: float = 5.0) -> None:
        self._connection = MongoConnection(uri, database, timeout)
        self._reached: dict[str, int] = {}

    def resume_after(self, header: Header) -> int | None:
        """Give the position up to which a journal is held without a gap, None if nothing of it is.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
        """
        self._reached.pop(header.journal_id, None)
        with self._connection.exchange() as database:
            found = database[JOURNALS].find_one({"_id": header.journal_id}, {"delivered_to": 1})
        return None if found is None else found.get("delivered_to")

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Store entries of a journal, in the order of their positions; those held already change nothing.

        When it returns, most servers of the replica set have them on their disks. A long batch is delivered
        in several exchanges, each of which is kept by itself.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
        """
        for part in batched(entries, _EXCHANGE_LINES, _EXCHANGE_BYTES):
            self._prepare(header)
            with self._connection.exchange():
                largest = self._connection.largest_document()
            self._store(header, [document_of(header, entry, largest) for entry in part])
            self._mark_delivered(header, part[-1].position)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _prepare(self, header: Header) -> None:
        """Make indexes and the journal's own document, once on each connection."""
        if _INDEXED not in self._connection.done:
            for collection, indexes in _INDEXES.items():
                models = [IndexModel([(field, 1) for field in fields]) for fields in indexes]
                with self._connection.exchange() as database:
                    _make_indexes(database[collection], models)
            self._connection.done.add(_INDEXED)
        if header.journal_id not in self._connection.done:
            self._update_journal(header, {"$setOnInsert": _journal_document(header)}, upsert=True)
            self._connection.done.add(header.journal_id)

    def _store(self, header: Header, stored: Sequence[Stored]) -> None:
        others = {one.campaign_id for one in stored} - {header.campaign_id, None}
        if others:  # workflows may name a campaign of their own
            self._update_journal(header, {"$addToSet": {"campaign_ids": {"$each": sorted(map(str, others))}}})
        for collection in COLLECTIONS:
            documents = [one.document for one in stored if one.collection == collection]
            if documents:
                self._insert(collection, documents)

    def _insert(self, collection: str, documents: Sequence[RawBSONDocument]) -> None:
        with self._connection.exchange() as database:
            refused = insert_new(database[collection], documents)
        for place in dict.fromkeys((collection, JOURNALS)):
            if not refused:
                return
            bare = [bare_line(one.document) for one in refused]
            with self._connection.exchange() as database:
                refused = insert_new(database[place], bare)
        if refused:
            with self._connection.database():
                raise refused[0].error

    def _mark_delivered(self, header: Header, position: int) -> None:
        """Say how far the journal is held; the server must hold what it held when it was last told.

        The driver goes on with a server that came back empty, or older, as if nothing had happened.
        """
        known: dict[str, Any] = {"_id": header.journal_id}
        reached = self._reached.get(header.journal_id)
        if reached is not None:
            known["delivered_to"] = {"$gte": reached}
        with self._connection.exchange() as database:
            marked = database[JOURNALS].update_one(known, {"$max": {"delivered_to": position}})
        if not marked.matched_count:
            self._reached.pop(header.journal_id, None)
            self._connection.close()  # what was done on it may be undone
            raise SinkUnavailableError(f"{self._connection.shown} came back with less than it had")
        self._reached[header.journal_id] = position if reached is None else max(reached, position)

    def _update_journal(self, header: Header, change: dict[str, Any], *, upsert: bool = False) -> None:
        """Change the journal's own document."""
        with self._connection.exchange() as database:
            database[JOURNALS].update_one({"_id": header.journal_id}, change, upsert=upsert)


def _make_indexes(collection: Collection[Document], indexes: list[IndexModel]) -> None:
    """Make indexes; one that somebody else's stands against is gone without, as questions are only slower."""
    try:
        collection.create_indexes(indexes)
    except OperationFailure as error:
        if error.code not in _INDEX_CONFLICTS:
            raise
        if len(indexes) > 1:  # of several, the server may have made none
            for one in indexes:
                _make_indexes(collection, [one])


def _journal_document(header: Header) -> dict[str, Any]:
    return {
        "journal_id": header.journal_id,
        "type": "journal",
        "campaign_ids": [header.campaign_id],
        "hostname": header.hostname,
        "pid": header.pid,
        "rank": header.rank,
        "started_at": header.started_at,
    }
