"""A shipment: the delivery of the journals of a buffer to one sink.

Flows in: journals, growing or done. Flows out: entries to a sink, each at least once; the sink stores each
one once. Only the server knows how far the delivery is, so no file of ours can be wrong about it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from flowprov.errors import SinkError, SinkRefusedError
from flowprov.journal.format import find_journals, folder_name
from flowprov.journal.reader import JournalReader, read_head
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.records import Footer, decode, encode
from flowprov.sinks.base import LATE_FOOTER, Entry, Sink

BATCH = 500  # entries, a few hundred kilobytes


class BufferShipment(ABC):
    """What one sink is owed of the journals under a folder; how it is delivered, subclasses know.

    Parameters
    ----------
    folder
        A buffer, campaign or host folder, or one journal.
    host
        Deliver only the journals of this host; None for all.

    Attributes
    ----------
    delivered
        How much the sink took, redeliveries included; ``unit`` says what is counted.
    last_error
        Why the last attempt failed; None if it succeeded.
    idle
        Whether the last attempt found nothing to deliver and no process that writes.
    given_up
        Whether attempts have failed for so long that nobody should wait for this delivery.
    scan_seconds
        Seconds that the last attempt spent on journals without new entries.
    """

    unit = "entries"

    def __init__(self, folder: Path, host: str | None = None) -> None:
        self.delivered = 0
        self.last_error: str | None = None
        self.idle = False
        self.given_up = False
        self.scan_seconds = 0.0
        self._folder = folder
        self._host = None if host is None else folder_name(host)

    @abstractmethod
    def try_deliver(self) -> None:
        """Deliver what waits; a failure after a part was delivered raises nothing, and is met again.

        Raises
        ------
        SinkError
            If something waits and nothing could be delivered.
        """

    @property
    @abstractmethod
    def positions(self) -> dict[str, int]:
        """The position of the last line that the sink holds of each journal, by the name of its file."""

    @abstractmethod
    def waiting(self) -> int:
        """Return how much the sink has not taken yet."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def _paths(self) -> list[Path]:
        paths = [self._folder] if self._folder.is_file() else find_journals(self._folder)
        return [path for path in paths if self._host in (None, path.parent.name)]


class Shipment(BufferShipment):
    """The delivery of the lines of journals to one sink.

    Parameters
    ----------
    sink
        The sink.
    folder, host
        As for :class:`BufferShipment`.
    """

    def __init__(self, sink: Sink, folder: Path, host: str | None = None) -> None:
        super().__init__(folder, host)
        self.sink = sink
        self._journals: dict[Path, _JournalDelivery] = {}

    def close(self) -> None:
        """Close the connection."""
        self.sink.close()

    def try_deliver(self) -> None:
        """Call :meth:`deliver_once`; a failure after some entries were delivered raises nothing.

        The next attempt meets that failure again, if it lasts.

        Raises
        ------
        SinkError
            If entries wait and none could be delivered.
        """
        before = self.delivered
        try:
            self.deliver_once()
        except SinkError as error:
            self.last_error = str(error)
            self.sink.close()
            if self.delivered == before:
                raise
            self.idle = False
        else:
            self.last_error = None
            self.idle = self.delivered == before and self.done

    def deliver_once(self) -> int:
        """Deliver the entries that wait now; return their number.

        A journal that the sink refuses, or that cannot be read, does not hold up the others.

        Raises
        ------
        SinkError
            If the sink failed. Entries delivered until then stay delivered; the others wait.
        """
        before = self.delivered
        refused: SinkError | None = None
        self.scan_seconds = 0.0
        began, counted = time.monotonic(), before
        for path in self._paths():
            journal = self._journals.setdefault(path, _JournalDelivery(path))
            if journal.done:
                continue
            try:
                for count in journal.deliver(self.sink):
                    self.delivered += count
            except SinkRefusedError as error:
                refused = error
            except OSError as error:
                refused = SinkError(f"{path} cannot be read ({error.strerror or error})")
            now = time.monotonic()
            if self.delivered == counted:
                self.scan_seconds += now - began
            began, counted = now, self.delivered
        if refused is not None:
            raise refused
        return self.delivered - before

    @property
    def positions(self) -> dict[str, int]:
        """The position of the last line that the sink holds of each journal, by the name of its file."""
        journals = list(self._journals.values())
        return {
            journal.path.name: journal.delivered_to
            for journal in journals
            if journal.delivered_to is not None
        }

    @property
    def done(self) -> bool:
        """Whether all journals are delivered, and no process writes to any of them."""
        return all(path in self._journals and self._journals[path].done for path in self._paths())

    def waiting(self) -> int:
        """Return the number of entries that the sink has not taken yet."""
        count = 0
        for path in self._paths():
            journal = self._journals.get(path) or _JournalDelivery(path)
            count += sum(1 for _ in journal.entries(journal.delivered_to))
        return count


class _JournalDelivery:
    """The delivery of one journal.

    Attributes
    ----------
    delivered_to
        Position of the last line that the sink holds; None if it holds none, or was not asked yet.
    done
        Whether everything is delivered and the writer is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.delivered_to: int | None = None
        self.done = False
        self._resumed = False

    def deliver(self, sink: Sink) -> Iterator[int]:
        """Deliver the entries that wait, in batches; yield the size of each batch."""
        # The summary comes first: if it says that the writer is gone, the reader sees all lines.
        summary = summarize(self.path)
        if summary is None:
            self.done = not self.path.exists()
            return
        header = summary.header
        if not self._resumed:
            self.delivered_to = sink.resume_after(header)
            self._resumed = True
        try:
            entries = self.entries(self.delivered_to)
            while batch := list(islice(entries, BATCH)):
                sink.deliver(header, batch)
                self.delivered_to = batch[-1].position
                yield len(batch)
            yield from self._deliver_late_footer(sink, summary)
        except SinkError:
            self._resumed = False  # the server may come back with less than it had
            raise
        self.done = not summary.alive

    def entries(self, after: int | None) -> Iterator[Entry]:
        """Yield the lines behind a position; skip damaged ones, as every reader does."""
        if after is not None and after >= LATE_FOOTER:
            return
        reader = JournalReader(self.path, after or 0, _check_line, missing_ok=True)
        for position, line in reader.read():
            if after is None or position > after:
                yield Entry(position, line)

    def _deliver_late_footer(self, sink: Sink, summary: JournalSummary) -> Iterator[int]:
        footer = read_head(self.path).late if summary.footer is not None else None
        if footer is None or not self._is_late(footer):
            return
        sink.deliver(summary.header, [Entry(LATE_FOOTER, encode(footer).rstrip())])
        self.delivered_to = LATE_FOOTER
        yield 1

    def _is_late(self, footer: Footer) -> bool:
        """Whether the footer lies before records that may have been delivered without it."""
        if self.delivered_to is None or self.delivered_to >= LATE_FOOTER:
            return False
        own = next((e.position for e in self.entries(None) if e.line == encode(footer).rstrip()), None)
        return own is not None and own <= self.delivered_to


def _check_line(line: bytes) -> bytes:
    """Return a line as it is; raise if it is no record."""
    decode(line)
    return line
