"""The registry of sinks: one table of URI schemes, for writing and for reading.

Flows in: a URI. Flows out: its sink, or its sink reader. The table holds strings, so a client library is
loaded only when a sink of its kind is opened.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import NamedTuple

from flowprov.errors import JournalError
from flowprov.settings import redact_uri
from flowprov.sinks.base import Sink, SinkReader


class _Kind(NamedTuple):
    """The two classes of one kind of server, as ``module:class``."""

    sink: str
    reader: str
    trims: bool = False


_REDIS = _Kind("flowprov.sinks.redis:RedisSink", "flowprov.sinks.redis:RedisReader", trims=True)
_MONGODB = _Kind("flowprov.sinks.mongodb.sink:MongoSink", "flowprov.sinks.mongodb.reader:MongoReader")
_KINDS = {
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "mongodb": _MONGODB,
    "mongodb+srv": _MONGODB,
}


def open_sink(uri: str, *, maxlen: int | None = None) -> Sink:
    """Create the sink for a URI; it connects when it is first used.

    Parameters
    ----------
    uri
        The address of the server.
    maxlen
        Number of entries to which a sink trims each stream, if it trims; None keeps all.

    Raises
    ------
    JournalError
        If there is no sink for the scheme of the URI.
    MissingExtraError
        If the client library is not installed.
    """
    kind = _KINDS.get(_scheme(uri))
    if kind is None:
        raise JournalError(
            f"{redact_uri(uri)} names no sink. Give redis://…, rediss://…, unix://…, mongodb://… or "
            "mongodb+srv://…"
        )
    options = {"maxlen": maxlen} if kind.trims else {}
    sink: Sink = resolve_name(kind.sink)(uri, **options)
    return sink


def open_reader(uri: str) -> SinkReader:
    """Create the sink reader for a URI; it connects when it is first used.

    Raises
    ------
    JournalError
        If there is no sink reader for the scheme of the URI.
    MissingExtraError
        If the client library is not installed.
    """
    kind = _KINDS.get(_scheme(uri))
    if kind is None:
        raise JournalError(
            f"{_scheme(uri)}:// cannot be read. Give the path of a buffer folder, a campaign folder, a host "
            "folder or one .jsonl journal, or the URI of a sink: redis://… or mongodb://…"
        )
    reader: SinkReader = resolve_name(kind.reader)(uri)
    return reader


def trims(uri: str) -> bool:
    """Whether the sink for a URI deletes its oldest entries beyond ``maxlen``."""
    kind = _KINDS.get(_scheme(uri))
    return kind is not None and kind.trims


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]
