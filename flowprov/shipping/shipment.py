"""Delivery: from the journals of a buffer to one sink, as often and as long as it takes.

Flows in: journals, growing or done. Flows out: entries to a sink, each at least once; the sink makes that
once. Where delivery stands is known by the server alone: no file of ours could be wrong about it.
"""

from __future__ import annotations

import contextlib
import threading
import time
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
_SLOWEST_S = 30.0  # the longest pause between two attempts
_SHARE = 5  # for each second of looking, so many of rest


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
    last_error
        Why the last attempt failed; None if it did not.
    idle
        Whether the last attempt found nothing to deliver, and nobody who writes.
    given_up
        Whether attempts have failed for so long that those who wait for it should not.
    scan_seconds
        Seconds that the last round spent on journals in which nothing was new.
    """

    def __init__(self, sink: Sink, folder: Path, host: str | None = None) -> None:
        self.sink = sink
        self.delivered = 0
        self.last_error: str | None = None
        self.idle = False
        self.given_up = False
        self.scan_seconds = 0.0
        self._folder = folder
        self._host = None if host is None else folder_name(host)
        self._journals: dict[Path, _Journal] = {}

    def try_deliver(self) -> None:
        """Make a :meth:`round`; one that got on before it failed is no failure, the next one will tell.

        Raises
        ------
        SinkError
            If nothing could be delivered of what waits.
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
        """Deliver what is there now and was not delivered yet; gives the number of entries.

        A journal that is refused, or cannot be read, does not keep the others from being delivered.

        Raises
        ------
        SinkError
            If the sink failed. What was delivered until then stays delivered; the rest waits.
        """
        before = self.delivered
        refused: SinkError | None = None
        self.scan_seconds = 0.0
        began, seen = time.monotonic(), before
        for path in self._paths():
            journal = self._journals.setdefault(path, _Journal(path))
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
            if self.delivered == seen:
                self.scan_seconds += now - began
            began, seen = now, self.delivered
        if refused is not None:
            raise refused
        return self.delivered - before

    @property
    def held(self) -> dict[str, int]:
        """For each journal, by its file's name, the position of the last line that the sink holds."""
        journals = list(self._journals.values())
        return {journal.path.name: journal.after for journal in journals if journal.after is not None}

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
        summary = summarize(self.path)
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
        if after is not None and after >= LATE_FOOTER:
            return
        reader = JournalReader(self.path, after or 0, _checked, missing_ok=True)
        for position, line in reader.read():
            if after is None or position > after:
                yield Entry(position, line)

    def _deliver_late_footer(self, sink: Sink, summary: JournalSummary) -> Iterator[int]:
        footer = read_head(self.path).late if summary.footer is not None else None
        if footer is None or not self._is_late(footer):
            return
        sink.deliver(summary.header, [Entry(LATE_FOOTER, encode(footer).rstrip())])
        self.after = LATE_FOOTER
        yield 1

    def _is_late(self, footer: Footer) -> bool:
        """Whether a footer stands before records that may have been delivered without it."""
        if self.after is None or self.after >= LATE_FOOTER:
            return False
        own = next((e.position for e in self.entries(None) if e.line == encode(footer).rstrip()), None)
        return own is not None and own <= self.after


def _checked(line: bytes) -> bytes:
    """Give a line that is a record, as it was written."""
    decode(line)
    return line


def follow(
    shipment: Shipment, *, give_up_after: float, over: threading.Event | None = None, poll: float = 0.2
) -> None:
    """Deliver what is there, and what comes, through failures of the server.

    Parameters
    ----------
    shipment
        What to deliver; it tells how it went.
    give_up_after
        Seconds of failing after which the shipment counts as given up.
    over
        Ends it when set. None: it ends when all that is there is delivered, or given up.
    poll
        Seconds of rest between two looks at journals that are being written.
    """
    while True:
        _attempt(shipment, give_up_after)
        if over is None or over.is_set():
            return
        if shipment.given_up:
            over.wait(_SLOWEST_S)
        else:
            # Also after something was delivered: a program that records steadily would be followed line by
            # line, at the cost of a core. A buffer of thousands of journals is looked at less often.
            over.wait(max(poll, _SHARE * shipment.scan_seconds))


def silence_stamina() -> None:
    """Keep stamina from logging each attempt in this process: what troubles a shipment is told once."""
    with contextlib.suppress(ImportError):  # without an extra there is no sink to be tried again
        import stamina.instrumentation

        stamina.instrumentation.set_on_retry_hooks([])


def _attempt(shipment: Shipment, give_up_after: float) -> None:
    """Try until something is delivered or the time for it is over; one that was given up is tried once."""
    import stamina

    attempts = 1 if shipment.given_up else None
    try:
        for attempt in stamina.retry_context(
            SinkError,
            attempts=attempts,
            timeout=give_up_after,
            wait_initial=0.1,
            wait_max=min(_SLOWEST_S, give_up_after / 4),
            wait_jitter=0.5,
        ):
            with attempt:
                shipment.try_deliver()
    except SinkError:
        shipment.given_up = True
    else:
        shipment.given_up = False
