"""A sink that keeps records in MongoDB: one document a line.

Flows in: lines of journals. Flows out: documents in the collections ``tasks``, ``workflows`` and ``journals``
(everything else, and one document for each journal itself). The ``_id`` of a document is its journal and
position, so the server refuses a second copy.

After a batch was confirmed, the journal's own document learns up to where it is held (``delivered_to``). The
documents are inserted before that, in no order: a batch that was cut off is delivered again, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flowprov.records import Header
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb_connection import Connection, Document, insert_new
from flowprov.sinks.mongodb_documents import COLLECTIONS, JOURNALS, TASKS, WORKFLOWS, Stored, document_of

try:
    from pymongo import IndexModel
    from pymongo.database import Database
except ImportError as missing:
    from flowprov.errors import MissingExtraError

    raise MissingExtraError("pymongo", "mongodb", "deliver records to MongoDB") from missing

# One exchange has to end within the timeout, on a slow server too.
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
        self._connection = Connection(uri, database, timeout)

    def resume_after(self, header: Header) -> int | None:
        """Give the position up to which a journal is held without a gap, None if nothing of it is.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
        """
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
        for part in _parts(entries):
            with self._connection.exchange() as database:
                self._prepare(database, header)
                largest = self._connection.largest_document()
                _store(database, header, [document_of(header, entry, largest) for entry in part])
                _mark_delivered(database, header, part[-1].position)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _prepare(self, database: Database[Document], header: Header) -> None:
        """Make indexes and the journal's own document, once on each connection."""
        done = self._connection.done
        if _INDEXED not in done:
            for collection, indexes in _INDEXES.items():
                database[collection].create_indexes(
                    [IndexModel([(field, 1) for field in fields]) for fields in indexes]
                )
            done.add(_INDEXED)
        if header.journal_id not in done:
            database[JOURNALS].update_one(
                {"_id": header.journal_id}, {"$setOnInsert": _journal_document(header)}, upsert=True
            )
            done.add(header.journal_id)


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


def _store(database: Database[Document], header: Header, stored: Sequence[Stored]) -> None:
    others = {one.campaign_id for one in stored} - {header.campaign_id, None}
    if others:  # workflows may name a campaign of their own
        database[JOURNALS].update_one(
            {"_id": header.journal_id}, {"$addToSet": {"campaign_ids": {"$each": sorted(map(str, others))}}}
        )
    for collection in COLLECTIONS:
        documents = [one.document for one in stored if one.collection == collection]
        if documents:
            insert_new(database[collection], documents)


def _mark_delivered(database: Database[Document], header: Header, position: int) -> None:
    database[JOURNALS].update_one({"_id": header.journal_id}, {"$max": {"delivered_to": position}})


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Divide a batch into parts that one exchange can carry."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        if part and (len(part) >= _EXCHANGE_LINES or size + len(entry.line) > _EXCHANGE_BYTES):
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.line)
    if part:
        yield part
