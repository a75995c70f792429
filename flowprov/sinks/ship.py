"""Delivery: from the journals of a buffer to one sink, as often and as long as it takes.

Flows in: journals, growing or done. Flows out: entries to a sink, each at least once; the sink makes that
once. Where delivery stands is known by the server alone: no file of ours could be wrong about it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from flowprov.errors import JournalError
from flowprov.journal.format import find_journals, folder_name
from flowprov.journal.reader import JournalReader, read_head
from flowprov.journal.summary import JournalSummary, summarise
from flowprov.records import Footer, decode, encode
from flowprov.settings import redact_uri
from flowprov.sinks.base import MONGODB, REDIS, Entry, Sink, SinkError

BATCH = 500  # entries, a few hundred kilobytes
# Of a footer that a full disk drove into the room behind the header: it comes after all that was delivered.
FOOTER_POSITION = 1 << 62


def open_sink(uri: str, *, maxlen: int | None = None) -> Sink:
    """Make the sink for a URI; it connects when it is first used.

    Raises
    ------
    JournalError
        If the URI is of no kind that there is a sink for.
    MissingExtraError
        If the client library is not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme in REDIS:
        from flowprov.sinks.redis import RedisSink

        return RedisSink(uri, maxlen=maxlen)
    if scheme in MONGODB:
        from flowprov.sinks.mongodb import MongoSink

        return MongoSink(uri)
    raise JournalError(
        f"{redact_uri(uri)} names no sink. Give redis://…, rediss://…, unix://…, mongodb://… or mongodb+srv://…"
    )


class Shipment:
    """What one sink is owed of a buffer.

    Parameters
    ----------
    sink
        Where the entries go.
    folder
        A buffer, campaign or host folder, or one journal.
    host
        Only journals of this host; None for all.

    Attributes
    ----------
    delivered
        Entries that the sink took, redeliveries included.
    """

    def __init__(self, sink: Sink, folder: Path, host: str | None = None) -> None:
        self.sink = sink
        self.delivered = 0
        self._folder = folder
        self._host = None if host is None else folder_name(host)
        self._journals: dict[Path, _Journal] = {}

    def round(self) -> int:
        """Deliver what is there now and was not delivered yet; gives the number of entries.

        Raises
        ------
        SinkError
            If the sink failed. What was delivered until then stays delivered; the rest waits.
        """
        before = self.delivered
        for path in self._paths():
            journal = self._journals.get(path)
            if journal is None:
                journal = self._journals[path] = _Journal(path)
            if not journal.done:
                for count in journal.deliver(self.sink):
                    self.delivered += count
        return self.delivered - before

    @property
    def done(self) -> bool:
        """Whether all is delivered of journals that nobody writes any more, and there are no others."""
        return all(path in self._journals and self._journals[path].done for path in self._paths())

    def waiting(self) -> int:
        """Count the entries that are there and that the sink has not taken."""
        count = 0
        for path in self._paths():
            journal = self._journals.get(path) or _Journal(path)
            count += sum(1 for _ in journal.entries(journal.after))
        return count

    def _paths(self) -> list[Path]:
        found = [self._folder] if self._folder.is_file() else find_journals(self._folder)
        return [path for path in found if self._host in (None, path.parent.name)]


class _Journal:
    """How far the delivery of one journal is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.after: int | None = None
        self.done = False
        self._asked = False

    def deliver(self, sink: Sink) -> Iterator[int]:
        """Deliver in batches what is there; gives the size of each batch."""
        # Whether it is over is asked before it is read: what came in between is read as well.
        summary = summarise(self.path)
        if summary is None:
            self.done = not self.path.exists()
            return
        header = summary.header
        if not self._asked:
            self.after = sink.resume_after(header)
            self._asked = True
        try:
            entries = self.entries(self.after)
            while batch := list(islice(entries, BATCH)):
                sink.deliver(header, batch)
                self.after = batch[-1].position
                yield len(batch)
            yield from self._deliver_late_footer(sink, summary)
        except SinkError:
            self._asked = False  # the server may come back with less than it had
            raise
        self.done = not summary.alive

    def entries(self, after: int | None) -> Iterator[Entry]:
        """Give the lines behind a position; damaged ones are passed over, as by every reader."""
        if after is not None and after >= FOOTER_POSITION:
            return
        reader = JournalReader(self.path, after or 0, _checked, missing_ok=True)
        for position, line in reader.read():
            if after is None or position > after:
                yield Entry(position, line)

    def _deliver_late_footer(self, sink: Sink, summary: JournalSummary) -> Iterator[int]:
        footer = read_head(self.path).late if summary.footer is not None else None
        if footer is None or not self._is_late(footer):
            return
        sink.deliver(summary.header, [Entry(FOOTER_POSITION, encode(footer).rstrip())])
        self.after = FOOTER_POSITION
        yield 1

    def _is_late(self, footer: Footer) -> bool:
        """Whether a footer stands before records that may have been delivered without it."""
        if self.after is None or self.after >= FOOTER_POSITION:
            return False
        own = next((e.position for e in self.entries(None) if e.line == encode(footer).rstrip()), None)
        return own is not None and own <= self.after


def _checked(line: bytes) -> bytes:
    """Give a line that is a record, as it was written."""
    decode(line)
    return line


class Ended(NamedTuple):
    """How the following of a buffer ended: the entries delivered, and why it gave up, if it did."""

    delivered: int
    error: SinkError | None


def follow(
    shipment: Shipment,
    *,
    give_up_after: float,
    until: Callable[[Shipment], bool] = lambda shipment: shipment.done,
    poll: float = 0.2,
    slowest: float = 30.0,
) -> Ended:
    """Deliver until there is nothing left to come, through failures of the server.

    Parameters
    ----------
    shipment
        What to deliver.
    give_up_after
        Seconds without any success after which it ends with the rest undelivered.
    until
        Asked after each round that succeeded; ends when it says so.
    poll
        Seconds between two looks at journals that are being written.
    slowest
        The longest pause between two attempts, in seconds; pauses double from 0.1, with jitter.
    """
    pause, last_success = 0.1, time.monotonic()
    while True:
        before = shipment.delivered
        try:
            shipment.round()
        except SinkError as error:
            shipment.sink.close()
            now = time.monotonic()
            if shipment.delivered > before:
                pause, last_success = 0.1, now
            if now - last_success >= give_up_after:
                return Ended(shipment.delivered, error)
            time.sleep(min(pause * random.uniform(0.5, 1.5), give_up_after))  # noqa: S311 - jitter
            pause = min(pause * 2, slowest)
            continue
        pause, last_success = 0.1, time.monotonic()
        if until(shipment):
            return Ended(shipment.delivered, None)
        if shipment.delivered == before:
            time.sleep(poll)
