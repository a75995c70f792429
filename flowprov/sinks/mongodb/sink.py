"""The sink for MongoDB: one document per line of a journal.

Flows in: lines of journals. Flows out: documents in the collections ``tasks``, ``workflows`` and
``journals``; the last holds all other records, and one document for each journal itself. The ``_id`` of a
document is its journal and position, so the server refuses a second copy.

When a batch is confirmed, the document of the journal gets the position up to which the server holds it
(``delivered_to``). The documents of a batch are inserted before that, in no order: a batch that was
interrupted is delivered again, never skipped.

The server may refuse a document because of its content, by a validator or a unique index that somebody else
made. Then the sink stores the line alone, and in ``journals`` if its collection refuses that too. So one line
never holds up a journal.
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
    EncodedDocument,
    document_of,
    line_only,
)

try:
    from bson.raw_bson import RawBSONDocument
    from pymongo import IndexModel
    from pymongo.collection import Collection
    from pymongo.errors import OperationFailure
except ImportError as missing:
    from flowprov.errors import MissingExtraError

    raise MissingExtraError("pymongo", "mongodb", "deliver records to MongoDB") from missing

# One exchange must end within the timeout, on a slow server too, so it is one request or a few.
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
# Another index has that name or those fields, or the collection has as many as the server allows.
_INDEX_CONFLICTS = {67, 85, 86}
_INDEXED = ""  # in MongoConnection.done, beside the ids of journals


class MongoSink:
    """A MongoDB database that stores records.

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
        self._confirmed_to: dict[str, int] = {}

    def resume_after(self, header: Header) -> int | None:
        """Return the position up to which the server holds a journal without a gap; None if it holds nothing.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
        """
        self._confirmed_to.pop(header.journal_id, None)
        with self._connection.exchange() as database:
            document = database[JOURNALS].find_one({"_id": header.journal_id}, {"delivered_to": 1})
        return None if document is None else document.get("delivered_to")

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Store entries of a journal, in the order of their positions; entries it holds change nothing.

        When this returns, most servers of the replica set have them on their disks. Many entries are
        delivered in several exchanges; each is confirmed by itself.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
        """
        for batch in batched(entries, _EXCHANGE_LINES, _EXCHANGE_BYTES):
            self._prepare(header)
            with self._connection.exchange():
                largest = self._connection.largest_document()
            self._store(header, [document_of(header, entry, largest) for entry in batch])
            self._mark_delivered(header, batch[-1].position)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _prepare(self, header: Header) -> None:
        """Create the indexes and the document of the journal itself, once on each connection."""
        if _INDEXED not in self._connection.done:
            for collection, indexes in _INDEXES.items():
                models = [IndexModel([(field, 1) for field in fields]) for fields in indexes]
                with self._connection.exchange() as database:
                    _create_indexes(database[collection], models)
            self._connection.done.add(_INDEXED)
        if header.journal_id not in self._connection.done:
            self._update_journal(header, {"$setOnInsert": _journal_document(header)}, upsert=True)
            self._connection.done.add(header.journal_id)

    def _store(self, header: Header, encoded: Sequence[EncodedDocument]) -> None:
        others = {item.campaign_id for item in encoded} - {header.campaign_id, None}
        if others:  # a workflow may name another campaign than its journal
            self._update_journal(header, {"$addToSet": {"campaign_ids": {"$each": sorted(map(str, others))}}})
        for collection in COLLECTIONS:
            documents = [item.document for item in encoded if item.collection == collection]
            if documents:
                self._insert(collection, documents)

    def _insert(self, collection: str, documents: Sequence[RawBSONDocument]) -> None:
        with self._connection.exchange() as database:
            refused = insert_new(database[collection], documents)
        for fallback in dict.fromkeys((collection, JOURNALS)):
            if not refused:
                return
            lines = [line_only(item.document) for item in refused]
            with self._connection.exchange() as database:
                refused = insert_new(database[fallback], lines)
        if refused:
            with self._connection.database():
                raise refused[0].error

    def _mark_delivered(self, header: Header, position: int) -> None:
        """Store the position up to which the server holds the journal; raise if it lost an earlier one.

        The driver continues with a server that came back empty, or with older data, as if nothing had
        happened.
        """
        query: dict[str, Any] = {"_id": header.journal_id}
        confirmed = self._confirmed_to.get(header.journal_id)
        if confirmed is not None:
            query["delivered_to"] = {"$gte": confirmed}
        with self._connection.exchange() as database:
            updated = database[JOURNALS].update_one(query, {"$max": {"delivered_to": position}})
        if not updated.matched_count:
            self._confirmed_to.pop(header.journal_id, None)
            self._connection.close()  # the indexes and the document of the journal may be gone, too
            raise SinkUnavailableError(f"{self._connection.display_name} came back with less than it had")
        self._confirmed_to[header.journal_id] = position if confirmed is None else max(confirmed, position)

    def _update_journal(self, header: Header, change: dict[str, Any], *, upsert: bool = False) -> None:
        """Change the document of the journal itself."""
        with self._connection.exchange() as database:
            database[JOURNALS].update_one({"_id": header.journal_id}, change, upsert=upsert)


def _create_indexes(collection: Collection[Document], indexes: list[IndexModel]) -> None:
    """Create indexes; leave out one that conflicts with a foreign index, as queries are only slower then."""
    try:
        collection.create_indexes(indexes)
    except OperationFailure as error:
        if error.code not in _INDEX_CONFLICTS:
            raise
        if len(indexes) > 1:  # the server may have created none of them
            for index in indexes:
                _create_indexes(collection, [index])


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
