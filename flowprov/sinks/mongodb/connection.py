"""One connection to a MongoDB server: made at first use, dropped after a failure, silent about credentials.

Flows in: an address and a timeout. Flows out: a database to work on, and for everything that the driver
raises one of the two errors of a sink. Shared by the sink and by the reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from flowprov.errors import MissingExtraError, SinkError, SinkRefusedError, SinkUnavailableError
from flowprov.settings import redact_text, redact_uri

try:
    import pymongo
    from bson.errors import BSONError
    from bson.raw_bson import RawBSONDocument
    from pymongo.collection import Collection
    from pymongo.database import Database
    from pymongo.errors import (
        BulkWriteError,
        ConfigurationError,
        ConnectionFailure,
        OperationFailure,
        PyMongoError,
    )
except ImportError as missing:
    raise MissingExtraError("pymongo", "mongodb", "deliver records to MongoDB") from missing

DEFAULT_DATABASE = "flowprov"
Document: TypeAlias = dict[str, Any]
Client: TypeAlias = "pymongo.MongoClient[Document]"

_DUPLICATE_KEY = 11000
_WRITE_NOT_REPLICATED = 64
# What a server says that is going, coming, electing or too slow; from MongoDB's table of error codes.
_PASSING = {
    *(6, 7, 89, 9001),  # it cannot reach another one
    *(50, _WRITE_NOT_REPLICATED, 262),  # out of time
    *(91, 189, 11600, 11602),  # shutting down, stepping down
    *(10107, 13435, 13436),  # no primary
}
# What is said of the server or of the user, when a document is refused, and not of what it holds.
_NOT_OF_A_DOCUMENT = _PASSING | {
    *(13, 18, 8000),  # no right, not authenticated, over a quota
    *(14031, 146),  # out of disk, out of memory
}
_LEAVING_S = 0.2  # saying goodbye to a server that may be frozen
_MESSAGE_LENGTH = 300
_ASIDES = re.compile(r", full error:| \(configured timeouts:|, Timeout: .*Topology Description:")


class MongoConnection:
    """A client that is made when it is needed and forgotten when it failed or when the process forked.

    Parameters
    ----------
    uri
        ``mongodb://`` or ``mongodb+srv://`` address.
    database
        Name of the database; None takes the one in the path of the URI, else "flowprov".
    timeout
        Seconds that one exchange with the server may take.

    Attributes
    ----------
    done
        Names of what has been done on this connection and need not be done again; empty on a new one.
    """

    def __init__(self, uri: str, database: str | None, timeout: float) -> None:
        self._uri = uri
        self._name = database
        self._timeout = timeout
        self._client: Client | None = None
        self._pid = 0
        self._largest: int | None = None
        self.done: set[str] = set()

    @contextmanager
    def database(self) -> Iterator[Database[Document]]:
        """Work on the database; what the driver raises becomes an error of a sink and ends the connection."""
        try:
            client = self._connected()
            yield client.get_default_database(DEFAULT_DATABASE) if self._name is None else client[self._name]
        except (PyMongoError, BSONError, OSError, ValueError) as error:
            # The driver raises ValueError for addresses and OSError for names that it cannot resolve.
            self.close()
            raise self._explained(error) from None  # the driver's own text may hold credentials and records

    @contextmanager
    def exchange(self) -> Iterator[Database[Document]]:
        """Work on the database within the timeout, server selection and retries included."""
        with self.database() as database, pymongo.timeout(self._timeout):
            yield database

    def largest_document(self) -> int:
        """Give how many bytes the server takes in one document; asked once on each connection."""
        if self._largest is None:
            self._largest = int(self._connected().admin.command("hello")["maxBsonObjectSize"])
        return self._largest

    @property
    def shown(self) -> str:
        """The server's name, for a person, without credentials."""
        return f"MongoDB at {redact_uri(self._uri)}"

    def close(self) -> None:
        """Let go of the client, without waiting for a server that does not answer."""
        client = self._client
        self._forget()
        if client is not None:
            with pymongo.timeout(_LEAVING_S):
                client.close()

    def _forget(self) -> None:
        self._client, self._largest, self.done = None, None, set()

    def _connected(self) -> Client:
        if self._client is not None and self._pid != os.getpid():
            self._forget()  # not closed: its sessions are the parent's
        if self._client is None:
            limit = max(1, round(self._timeout * 1000))
            self._client = pymongo.MongoClient(
                self._uri,
                serverSelectionTimeoutMS=limit,
                connectTimeoutMS=limit,
                socketTimeoutMS=limit,
                waitQueueTimeoutMS=limit,
                appname="flowprov",
                # A write counts when most servers have it on their disks, whatever the address says.
                w="majority",
                journal=True,
                wTimeoutMS=limit,
            )
            self._pid = os.getpid()
        return self._client

    def _explained(self, error: Exception) -> SinkError:
        """Say what happened, for a person; nothing that the driver quotes of an address is repeated."""
        shown = self.shown
        if isinstance(error, ConnectionFailure) or getattr(error, "timeout", False) or _is_passing(error):
            return SinkUnavailableError(f"{shown} does not answer: {_text(error)}")
        if isinstance(error, OperationFailure):
            return SinkRefusedError(f"{shown} takes no records: {_text(error)}")
        if isinstance(error, OSError):
            return SinkUnavailableError(f"{shown} cannot be reached: {_text(error)}")
        if type(error.__cause__).__module__.startswith("dns."):  # a mongodb+srv name was not resolved
            return SinkUnavailableError(f"{shown} cannot be reached: {_text(error.__cause__)}")
        # Messages about an address quote pieces of it, of a password that holds "@" or "/" too.
        quotable = redact_uri(self._uri) == self._uri or not isinstance(
            error, (ConfigurationError, ValueError)
        )
        reason = _text(error) if quotable else "is its user information percent-encoded?"
        return SinkRefusedError(f"{shown} cannot be used: {type(error).__name__}: {reason}")


class Refused(NamedTuple):
    """A document that the server does not take for what it holds."""

    document: RawBSONDocument
    error: OperationFailure


def insert_new(collection: Collection[Document], documents: Sequence[RawBSONDocument]) -> list[Refused]:
    """Insert documents; those whose ``_id`` is there already count as inserted.

    Returns
    -------
    list[Refused]
        Those that the server refuses for what they hold: by a validator, by an index of somebody else's.

    Raises
    ------
    OperationFailure
        If any is refused for another reason, or if the server does not confirm that they are safe.
    """
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details: Mapping[str, Any] = error.details or {}
        errors = [
            one for one in details.get("writeErrors") or () if not _is_there(collection, documents, one)
        ]
        unconfirmed = details.get("writeConcernErrors") or ()
        of_the_server = [one for one in errors if one.get("code") in _NOT_OF_A_DOCUMENT]
        for one in (*of_the_server, *unconfirmed):
            raise _failure(one) from None
        return [Refused(documents[one["index"]], _failure(one)) for one in errors]
    return []


def _is_there(
    collection: Collection[Document], documents: Sequence[RawBSONDocument], error: Mapping[str, Any]
) -> bool:
    """Whether a document was refused because it is there, and not for a key that it shares with another."""
    if error.get("code") != _DUPLICATE_KEY:
        return False
    if error.get("keyPattern") == {"_id": 1}:
        return True
    # Old servers do not say which key it was; others may name the one that a document shares with itself.
    identifier = documents[error["index"]]["_id"]
    return collection.find_one({"_id": identifier}, {"_id": 1}) is not None


def _failure(error: Mapping[str, Any]) -> OperationFailure:
    # Without `op`, which is the whole document.
    return OperationFailure(str(error.get("errmsg")), error.get("code"))


def _is_passing(error: Exception) -> bool:
    return isinstance(error, OperationFailure) and error.code in _PASSING


def _text(error: BaseException | None) -> str:
    # What a server refuses it may quote in full, records and all: the beginning says enough.
    text = redact_text(_ASIDES.split(str(error), maxsplit=1)[0])
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"
