"""One connection to a MongoDB server: created at first use, closed after a failure, silent about credentials.

Flows in: an address and a timeout. Flows out: a database to work on. Every error of the driver becomes one of
the two errors of a sink. The sink and the sink reader share this module.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from flowprov.errors import MissingExtraError, SinkError, SinkRefusedError, SinkUnavailableError
from flowprov.settings import is_ambiguous_uri, leads_elsewhere, redact_uri
from flowprov.sinks.reasons import answer_reason, connection_reason

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
# Codes of a server that is stopping, starting, electing or too slow; from MongoDB's table of error codes.
_TRANSIENT = {
    *(6, 7, 89, 9001),  # it cannot reach another server
    *(50, _WRITE_NOT_REPLICATED, 262),  # out of time
    *(91, 189, 11600, 11602),  # shutting down, stepping down
    *(10107, 13435, 13436),  # no primary
}
# Codes of a refusal whose cause is the server or the user, and not the content of the document.
_NOT_ABOUT_CONTENT = _TRANSIENT | {
    *(13, 18, 8000),  # not authorized, not authenticated, over a quota
    *(14031, 146),  # out of disk, out of memory
}
_CLOSE_TIMEOUT_S = 0.2  # short, as the server may be frozen
_DETAILS = re.compile(r", full error:| \(configured timeouts:|, Timeout: .*Topology Description:")


class MongoConnection:
    """A client that is created when it is needed, and dropped after a failure or a fork of the process.

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
        Names of the preparations that were done on this connection; empty on a new one.
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
        """Open the database; an error of the driver becomes one of a sink, and closes the connection."""
        try:
            client = self._connect()
            yield client.get_default_database(DEFAULT_DATABASE) if self._name is None else client[self._name]
        except (PyMongoError, BSONError, OSError, ValueError, TypeError) as error:
            # The driver raises ValueError for addresses and OSError for names that it cannot resolve.
            self.close()
            raise self._to_sink_error(error) from None  # the driver's text may hold credentials and records

    @contextmanager
    def exchange(self) -> Iterator[Database[Document]]:
        """Open the database for one exchange within the timeout, server selection and retries included."""
        with self.database() as database, pymongo.timeout(self._timeout):
            yield database

    def largest_document(self) -> int:
        """Return the largest size of a document in bytes; a connection asks the server once."""
        if self._largest is None:
            self._largest = int(self._connect().admin.command("hello")["maxBsonObjectSize"])
        return self._largest

    @property
    def display_name(self) -> str:
        """The name of the server for people, without credentials."""
        return f"MongoDB at {redact_uri(self._uri)}"

    def close(self) -> None:
        """Close the client, without waiting for a server that does not answer."""
        client = self._client
        self._reset()
        if client is not None:
            with pymongo.timeout(_CLOSE_TIMEOUT_S):
                client.close()

    def _reset(self) -> None:
        self._client, self._largest, self.done = None, None, set()

    def _connect(self) -> Client:
        if self._client is not None and self._pid != os.getpid():
            self._reset()  # without closing: its sessions belong to the parent
        if self._client is None:
            if leads_elsewhere(self._uri):
                raise ConfigurationError("the address leads to another server than its writer meant")
            limit = max(1, round(self._timeout * 1000))
            with _silenced(is_ambiguous_uri(self._uri)):
                self._client = pymongo.MongoClient(
                    self._uri,
                    serverSelectionTimeoutMS=limit,
                    connectTimeoutMS=limit,
                    socketTimeoutMS=limit,
                    waitQueueTimeoutMS=limit,
                    appname="flowprov",
                    # A write is confirmed when most servers have it on their disks, whatever the URI says.
                    w="majority",
                    journal=True,
                    wTimeoutMS=limit,
                )
            self._pid = os.getpid()
        return self._client

    def _to_sink_error(self, error: Exception) -> SinkError:
        """Return the error of a sink for an error of the driver; its message quotes nothing of an address."""
        server = self.display_name
        answer = answer_reason(error, self._uri, _DETAILS.split(str(error), maxsplit=1)[0])
        if isinstance(error, OperationFailure):
            if getattr(error, "timeout", False) or _is_transient(error):
                return SinkUnavailableError(f"{server} does not answer: {answer}")
            return SinkRefusedError(f"{server} takes no records: {answer}")
        if isinstance(error, ConnectionFailure) or getattr(error, "timeout", False):
            return SinkUnavailableError(f"{server} does not answer: {connection_reason(error)}")
        if isinstance(error, OSError) or type(error.__cause__).__module__.startswith("dns."):
            return SinkUnavailableError(f"{server} cannot be reached: {connection_reason(error)}")
        # Messages about an address quote parts of it, and so may quote a password that holds "@" or "/".
        quotable = redact_uri(self._uri) == self._uri or not isinstance(
            error, (ConfigurationError, ValueError, TypeError)
        )
        reason = answer if quotable else "is its user information percent-encoded?"
        return SinkRefusedError(f"{server} cannot be used: {type(error).__name__}: {reason}")


@contextmanager
def _silenced(silent: bool) -> Iterator[None]:  # noqa: FBT001 - one argument
    """Ignore warnings if asked to: the driver names options that it does not know, and they may be none."""
    if not silent:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Refused(NamedTuple):
    """A document that the server refuses because of its content."""

    document: RawBSONDocument
    error: OperationFailure


def insert_new(collection: Collection[Document], documents: Sequence[RawBSONDocument]) -> list[Refused]:
    """Insert documents; those whose ``_id`` is stored already count as inserted.

    Returns
    -------
    list[Refused]
        Documents that the server refuses because of their content: by a validator or a foreign unique index.

    Raises
    ------
    OperationFailure
        If a document is refused for another reason, or the server does not confirm that all are safe.
    """
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details: Mapping[str, Any] = error.details or {}
        write_errors = [
            detail
            for detail in details.get("writeErrors") or ()
            if not _is_stored(collection, documents, detail)
        ]
        unconfirmed = details.get("writeConcernErrors") or ()
        server_errors = [detail for detail in write_errors if detail.get("code") in _NOT_ABOUT_CONTENT]
        for detail in (*server_errors, *unconfirmed):
            raise _failure(detail) from None
        return [Refused(documents[detail["index"]], _failure(detail)) for detail in write_errors]
    return []


def _is_stored(
    collection: Collection[Document], documents: Sequence[RawBSONDocument], error: Mapping[str, Any]
) -> bool:
    """Whether a document was refused because it is stored already, and not for a key of another document."""
    if error.get("code") != _DUPLICATE_KEY:
        return False
    if error.get("keyPattern") == {"_id": 1}:
        return True
    # Old servers do not name the key. New ones may name another key than `_id` for a document that is stored.
    identifier = documents[error["index"]]["_id"]
    return collection.find_one({"_id": identifier}, {"_id": 1}) is not None


def _failure(error: Mapping[str, Any]) -> OperationFailure:
    # Leave out `op`, which is the whole document.
    return OperationFailure(str(error.get("errmsg")), error.get("code"))


def _is_transient(error: Exception) -> bool:
    return isinstance(error, OperationFailure) and error.code in _TRANSIENT
