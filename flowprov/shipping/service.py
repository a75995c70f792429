"""The life of the process that delivers a buffer: a thread for each sink, and a report on how far they are.

Flows in: a buffer, the URIs of sinks, settings. Flows out: the journals on the servers, and the report that
programs read while they wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from flowprov.errors import FlowprovError
from flowprov.settings import Settings, redact_uri
from flowprov.shipping.shipment import Shipment, follow
from flowprov.shipping.status import Progress, Report, ShipperFiles, shortened
from flowprov.sinks.registry import open_sink

_REPORT_EVERY_S = 0.1


class ShipmentThread(threading.Thread):
    """Delivers to one sink, independently of the others.

    Parameters
    ----------
    uri
        The sink.
    shipment
        What it is owed.
    give_up_after
        Seconds of failing after which nobody should wait for it.
    over
        Ends it when set; None: it ends when all that is there is delivered, or given up.
    """

    def __init__(
        self, uri: str, shipment: Shipment, give_up_after: float, over: threading.Event | None
    ) -> None:
        super().__init__(daemon=True)
        self.shown = redact_uri(uri)
        self.shipment = shipment
        self._give_up_after = give_up_after
        self._over = over

    def run(self) -> None:
        """Deliver until all is there, or all that will be."""
        try:
            follow(self.shipment, give_up_after=self._give_up_after, over=self._over)
            self.shipment.sink.close()
        except BaseException as error:  # raised again: whoever waits for this thread must learn of its end
            self.shipment.last_error = f"a fault of flowprov's own: {type(error).__name__}"
            raise

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be expected of it."""
        return self.shipment.idle or self.shipment.given_up or not self.is_alive()


def start_shipments(
    folder: Path,
    uris: Sequence[str],
    settings: Settings,
    give_up_after: float,
    *,
    host: str | None = None,
    over: threading.Event | None = None,
) -> list[ShipmentThread]:
    """Start a thread for each sink, once all of them could be opened.

    Parameters
    ----------
    folder
        The buffer.
    uris
        The sinks.
    settings
        To which length the streams of Redis are trimmed.
    give_up_after, over
        As of :class:`ShipmentThread`.
    host
        Only journals of this host; None for all.

    Raises
    ------
    JournalError, MissingExtraError
        If a URI names no sink, or its client library is not installed.
    """
    maxlen = settings.sinks.redis.maxlen
    threads = [
        ShipmentThread(uri, Shipment(open_sink(uri, maxlen=maxlen), folder, host), give_up_after, over)
        for uri in uris
    ]
    for thread in threads:
        thread.start()
    return threads


def follow_buffer(
    folder: Path, uris: Sequence[str], settings: Settings, files: ShipperFiles
) -> list[ShipmentThread]:
    """Deliver what comes in a folder from this host, until nothing can come; returns the threads that did."""
    over = threading.Event()
    try:
        threads = start_shipments(
            folder, uris, settings, settings.sinks.give_up_after, host=socket.gethostname(), over=over
        )
    except FlowprovError as error:
        files.write_report(Report(pid=os.getpid(), failure=shortened(error)))
        raise
    _report_until_over(files, threads)
    over.set()
    return threads


def _report_until_over(files: ShipperFiles, threads: Sequence[ShipmentThread]) -> None:
    """Report how far all are, until nothing is to be expected of any."""
    written = None
    while True:
        at_rest = all(thread.at_rest for thread in threads)
        report = _report_on(threads)
        if report != written:
            with contextlib.suppress(OSError):  # a disk that is full: delivery itself writes nothing
                files.write_report(report)
                written = report
        if at_rest:
            return
        threads[0].join(_REPORT_EVERY_S)


def _report_on(threads: Sequence[ShipmentThread]) -> Report:
    return Report(
        pid=os.getpid(),
        sinks={
            thread.shown: Progress(
                held=thread.shipment.held,
                last_error=None
                if thread.shipment.last_error is None
                else shortened(thread.shipment.last_error),
            )
            for thread in threads
        },
    )
