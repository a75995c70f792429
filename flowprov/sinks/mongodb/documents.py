"""Encoding a line of a journal as a document, which can be queried and holds the line itself.

Flows in: a header and entries. Flows out: BSON documents, each with the name of its collection.

Field names that MongoDB refuses or misreads are percent-encoded at every depth: "%" as "%25", "." as "%2E",
NUL as "%00", a "$" at the beginning as "%24", and the empty name as "%". The line is the truth: if a document
cannot hold the decoded fields, it leaves them out and keeps the line.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from flowprov import records
from flowprov.errors import MissingExtraError
from flowprov.ids import full_id
from flowprov.records import Correction, Header, Record, Task, Workflow
from flowprov.sinks.base import Entry
from flowprov.values import restore

try:
    import bson
    from bson.errors import BSONError
    from bson.raw_bson import RawBSONDocument
except ImportError as missing:
    raise MissingExtraError("pymongo", "mongodb", "deliver records to MongoDB") from missing

TASKS, WORKFLOWS, JOURNALS = "tasks", "workflows", "journals"
COLLECTIONS = (JOURNALS, WORKFLOWS, TASKS)
UNREADABLE = "unreadable"
"""The ``type`` of a document whose line is no record that this version knows."""

_LINE_FIELDS = ("_id", "journal_id", "position", "campaign_id", "type", "line", "length")
_MAX_DEPTH = 90  # MongoDB allows 100 levels
_FIELDS_BYTES = 4096  # what a document needs beside its line
_UNSAFE_NAME = re.compile(r"^\$|[%.\0]")
_SCALAR_TYPES = frozenset((str, int, float, bool, type(None)))  # nearly all values: not worth a call each


class EncodedDocument(NamedTuple):
    """A document that is ready to be inserted.

    Attributes
    ----------
    collection
        Name of its collection.
    document
        The document as BSON.
    campaign_id
        The campaign of its line; None if the line could not be decoded.
    """

    collection: str
    document: RawBSONDocument
    campaign_id: str | None


class _TooDeepError(ValueError):
    """A value is nested more deeply than MongoDB allows."""


def document_of(header: Header, entry: Entry, largest: int) -> EncodedDocument:
    """Return the document of one line.

    Parameters
    ----------
    header
        The header of the journal.
    entry
        The line.
    largest
        Largest size of a document in bytes. If the line and its fields do not fit, the document leaves out
        the fields. If the line alone does not fit, it is cut: ``line`` is then its beginning, ``length`` its
        length.
    """
    identity: dict[str, Any] = {
        "_id": document_id(header.journal_id, entry.position),
        "journal_id": header.journal_id,
        "position": entry.position,
    }
    collection, decoded = _decode_fields(header, entry.line)
    campaign_id = decoded.get("campaign_id")
    identity["campaign_id"] = campaign_id or header.campaign_id
    identity["type"] = decoded.get("type", UNREADABLE)
    line = _text_or_bytes(entry.line)
    encoded = _encode({**decoded, **identity, "line": line}, largest)
    if encoded is None:
        encoded = _encode({**identity, "line": line}, largest)
    if encoded is None:
        beginning = entry.line[: max(0, largest - _FIELDS_BYTES)]
        encoded = bson.encode(
            {
                **identity,
                "campaign_id": header.campaign_id,  # the id in the line may be what is too long
                "line": beginning,
                "length": len(entry.line),
            }
        )
    return EncodedDocument(collection, RawBSONDocument(encoded), campaign_id)


def line_only(document: RawBSONDocument) -> RawBSONDocument:
    """Return a document with its line, and without the fields that were decoded from it."""
    return RawBSONDocument(bson.encode({name: document[name] for name in _LINE_FIELDS if name in document}))


def document_id(journal_id: str, position: int) -> str:
    """Return the ``_id`` of a line's document."""
    return f"{journal_id}:{position}"


def escape_name(name: str) -> str:
    """Return a string as a field name that MongoDB accepts and that a query can address."""
    return _UNSAFE_NAME.sub(lambda match: f"%{ord(match.group()):02X}", name) if name else "%"


def _decode_fields(header: Header, line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the collection and the fields of a line; no fields if it cannot be decoded."""
    try:
        record = records.decode(line)
    except records.NOT_A_RECORD:
        return JOURNALS, {}
    collection = (
        TASKS if isinstance(record, Task) else WORKFLOWS if isinstance(record, Workflow) else JOURNALS
    )
    try:
        fields = _for_bson(msgspec.to_builtins(_complete(record, header)))
    except _TooDeepError:
        fields = {"type": record.__struct_config__.tag}
    fields.setdefault("campaign_id", header.campaign_id)
    return collection, fields


def _complete(record: Record, header: Header) -> Record:
    if isinstance(record, Task):
        return records.complete_task(record, header)
    if isinstance(record, Workflow):
        return records.complete_workflow(record, header)
    if isinstance(record, Correction):
        origin = (header.journal_id, header.ancestors, header.first_number)
        return msgspec.structs.replace(record, task_id=full_id(record.task_id, *origin))
    return record


def _for_bson(value: Any, depth: int = 0) -> Any:
    """Return a value for BSON: names escaped, and NaN and infinities as numbers, which queries compare."""
    if isinstance(value, dict):
        if depth > _MAX_DEPTH:
            raise _TooDeepError
        if len(value) == 1 and "$float" in value:
            number = restore(value)
            if isinstance(number, float):
                return number
        return {
            (name if name.isidentifier() else escape_name(name)): (
                content if type(content) in _SCALAR_TYPES else _for_bson(content, depth + 1)
            )
            for name, content in value.items()
        }
    if isinstance(value, (list, tuple)):
        if depth > _MAX_DEPTH:
            raise _TooDeepError
        return [
            content if type(content) in _SCALAR_TYPES else _for_bson(content, depth + 1) for content in value
        ]
    return value


def _text_or_bytes(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def _encode(document: dict[str, Any], largest: int) -> bytes | None:
    """Encode a document; None if BSON cannot hold it (an integer beyond 64 bits) or it is too large."""
    try:
        encoded = bson.encode(document)
    except (BSONError, OverflowError, RecursionError):
        return None
    return encoded if len(encoded) <= largest else None
