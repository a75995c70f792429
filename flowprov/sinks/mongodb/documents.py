"""From a line of a journal to a document, which can be queried and holds the line itself.

Flows in: a header and entries. Flows out: BSON, ready to be inserted, with the collection where it belongs.

Field names that MongoDB refuses or misreads stand percent-encoded at every depth: "%" as "%25", "." as "%2E",
NUL as "%00", a "$" at the beginning as "%24", and the empty name as "%". The line is the truth: what a
document cannot hold of the decoded fields costs the fields, never the line.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from flowprov import records
from flowprov.errors import MissingExtraError
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

_BARE = ("_id", "journal_id", "position", "campaign_id", "type", "line", "length")
_DEEPEST = 90  # MongoDB takes 100 levels
_ROOM_FOR_NAMES = 4096  # bytes of a document beside its line
_AWKWARD = re.compile(r"^\$|[%.\0]")
_AS_IT_IS = frozenset((str, int, float, bool, type(None)))  # nearly all values: not worth a call each


class Stored(NamedTuple):
    """A document that is ready to be inserted.

    Attributes
    ----------
    collection
        Name of the collection where it belongs.
    document
        The document, encoded.
    campaign_id
        The campaign that its line names, None where the line could not be decoded.
    """

    collection: str
    document: RawBSONDocument
    campaign_id: str | None


class _TooDeepError(ValueError):
    """A value is nested more deeply than MongoDB takes."""


def document_of(header: Header, entry: Entry, largest: int) -> Stored:
    """Make the document of one line.

    Parameters
    ----------
    header
        The header of the journal.
    entry
        The line.
    largest
        Bytes that the server takes in one document. A line that leaves no room for its fields is kept without
        them; one that is longer itself is cut: ``line`` is then its beginning, ``length`` its true length.
    """
    identity: dict[str, Any] = {
        "_id": document_id(header.journal_id, entry.position),
        "journal_id": header.journal_id,
        "position": entry.position,
    }
    collection, decoded = _decoded(header, entry.line)
    campaign_id = decoded.get("campaign_id")
    identity["campaign_id"] = campaign_id or header.campaign_id
    identity["type"] = decoded.get("type", UNREADABLE)
    line = _text_or_bytes(entry.line)
    encoded = _encoded({**decoded, **identity, "line": line}, largest)
    if encoded is None:
        encoded = _encoded({**identity, "line": line}, largest)
    if encoded is None:
        beginning = entry.line[: max(0, largest - _ROOM_FOR_NAMES)]
        encoded = bson.encode(
            {
                **identity,
                "campaign_id": header.campaign_id,  # its own may be what is long
                "line": beginning,
                "length": len(entry.line),
            }
        )
    return Stored(collection, RawBSONDocument(encoded), campaign_id)


def bare_line(document: RawBSONDocument) -> RawBSONDocument:
    """Leave of a document what it needs to be read back: no value of its record, and its line."""
    return RawBSONDocument(bson.encode({name: document[name] for name in _BARE if name in document}))


def document_id(journal_id: str, position: int) -> str:
    """Give the ``_id`` of a line's document."""
    return f"{journal_id}:{position}"


def escape_name(name: str) -> str:
    """Make any string a field name that MongoDB takes and that a query can reach."""
    return _AWKWARD.sub(lambda found: f"%{ord(found.group()):02X}", name) if name else "%"


def _decoded(header: Header, line: bytes) -> tuple[str, dict[str, Any]]:
    """Give a line's collection and its fields; no fields where it cannot be decoded."""
    try:
        record = records.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
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
        return msgspec.structs.replace(record, task_id=records.full_id(record.task_id, *origin))
    return record


def _for_bson(value: Any, depth: int = 0) -> Any:
    """Escape names; NaN and the infinities become numbers, which queries compare."""
    if isinstance(value, dict):
        if depth > _DEEPEST:
            raise _TooDeepError
        if len(value) == 1 and "$float" in value:
            number = restore(value)
            if isinstance(number, float):
                return number
        return {
            (name if name.isidentifier() else escape_name(name)): (
                content if type(content) in _AS_IT_IS else _for_bson(content, depth + 1)
            )
            for name, content in value.items()
        }
    if isinstance(value, (list, tuple)):
        if depth > _DEEPEST:
            raise _TooDeepError
        return [content if type(content) in _AS_IT_IS else _for_bson(content, depth + 1) for content in value]
    return value


def _text_or_bytes(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def _encoded(document: dict[str, Any], largest: int) -> bytes | None:
    """Encode a document; None if BSON cannot hold it (an integer beyond 64 bits) or the server would not."""
    try:
        encoded = bson.encode(document)
    except (BSONError, OverflowError, RecursionError):
        return None
    return encoded if len(encoded) <= largest else None
