"""Counting the lines of a journal on a server."""

from __future__ import annotations

import uuid

from flowprov.records import encode
from flowprov.sinks.base import Entry
from flowprov.sinks.registry import open_reader, open_sink
from tests.journal.support import header, step


def test_lines_are_counted_once_and_by_their_journal(uri: str) -> None:
    sink, reader = open_sink(uri), open_reader(uri)
    first, second, none = (str(uuid.uuid4()) for _ in range(3))
    assert reader.count(first) == 0
    entries = [Entry(0, encode(header(first)).rstrip())]
    entries += [Entry(number * 300, encode(step(number)).rstrip()) for number in range(1, 1_200)]
    sink.deliver(header(first), entries)
    sink.deliver(header(first), entries[-10:])
    sink.deliver(header(second), entries[:3])
    assert (reader.count(first), reader.count(second), reader.count(none)) == (1_200, 3, 0)
    sink.close()
    reader.close()
