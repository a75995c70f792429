"""The work of the shipper: a thread for each sink, and a report on how far the deliveries are.

Flows in: a buffer, the URIs of sinks, and settings. Flows out: the journals on the servers, and the report
that programs read while they wait.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

from flowprov.errors import FlowprovError
from flowprov.journal.liveness import host_name
from flowprov.settings import Settings, redact_uri
from flowprov.shipping.retries import deliver, follow
from flowprov.shipping.shipment import BufferShipment, Shipment
from flowprov.shipping.status import Progress, Report, ShipperFiles, shorten
from flowprov.sinks.registry import open_sink

_REPORT_EVERY_S = 0.1
_TRACKING_SCHEMES = {"http", "https", "sqlite", "mysql", "postgresql", "mssql"}
# As a string: it loads all that reads journals, and only where there is MLflow.
_MLFLOW = "flowprov.export.mlflow.shipment:MLflowShipment"


class ShipmentThread(threading.Thread):
    """Delivers to one sink, independently of the others.

    Parameters
    ----------
    uri
        The sink.
    shipment
        Its shipment.
    give_up_after
        Seconds of failing attempts after which nobody should wait for the delivery.
    stop
        Event that ends the delivery. None: it ends when nothing waits, or when it is given up.
    """

    def __init__(
        self, uri: str, shipment: BufferShipment, give_up_after: float, stop: threading.Event | None
    ) -> None:
        super().__init__(daemon=True)
        self.redacted_uri = redact_uri(uri)
        self.shipment = shipment
        self._give_up_after = give_up_after
        self._stop_event = stop

    def run(self) -> None:
        """Deliver until nothing waits, the shipment is given up, or ``stop`` is set."""
        try:
            if self._stop_event is None:
                deliver(self.shipment, give_up_after=self._give_up_after)
            else:
                follow(self.shipment, give_up_after=self._give_up_after, stop=self._stop_event)
            self.shipment.close()
        except BaseException as error:  # raised again: the report must say why this thread ended
            self.shipment.last_error = f"a fault of flowprov's own: {type(error).__name__}"
            raise

    @property
    def is_idle(self) -> bool:
        """Whether this thread will deliver nothing more for now."""
        return self.shipment.idle or self.shipment.given_up or not self.is_alive()


def is_tracking_uri(uri: str) -> bool:
    """Whether a URI is that of an MLflow, which holds runs, and not that of a sink of lines."""
    return uri.partition("://")[0].partition("+")[0] in _TRACKING_SCHEMES


def open_shipment(uri: str, folder: Path, settings: Settings, host: str | None = None) -> BufferShipment:
    """Create the shipment to a sink, or to MLflow, which gets whole runs in place of lines.

    Raises
    ------
    JournalError, MissingExtraError
        If a URI names no sink, or its client library is not installed.
    """
    if is_tracking_uri(uri):
        shipment: BufferShipment = resolve_name(_MLFLOW)(uri, folder, host, settings.sinks.mlflow)
        return shipment
    return Shipment(open_sink(uri, maxlen=settings.sinks.redis.maxlen), folder, host)


def start_shipments(
    folder: Path,
    uris: Sequence[str],
    settings: Settings,
    give_up_after: float,
    *,
    host: str | None = None,
    stop: threading.Event | None = None,
) -> list[ShipmentThread]:
    """Open all sinks, then start a thread for each.

    Parameters
    ----------
    folder
        The buffer.
    uris
        The sinks.
    settings
        The settings; they hold the length to which the streams of Redis are trimmed.
    give_up_after, stop
        See :class:`ShipmentThread`.
    host
        Deliver only the journals of this host; None for all.

    Raises
    ------
    JournalError, MissingExtraError
        If a URI names no sink, or its client library is not installed.
    """
    threads = [
        ShipmentThread(uri, open_shipment(uri, folder, settings, host), give_up_after, stop) for uri in uris
    ]
    for thread in threads:
        thread.start()
    return threads


def follow_buffer(
    folder: Path, uris: Sequence[str], settings: Settings, files: ShipperFiles
) -> list[ShipmentThread]:
    """Deliver the journals of this host in a folder until all are done; return the threads that delivered."""
    stop = threading.Event()
    try:
        threads = start_shipments(
            folder, uris, settings, settings.sinks.give_up_after, host=host_name(), stop=stop
        )
    except FlowprovError as error:
        files.write_report(Report(pid=os.getpid(), failure=shorten(error)))
        raise
    _report_until_idle(files, threads)
    stop.set()
    return threads


def _report_until_idle(files: ShipperFiles, threads: Sequence[ShipmentThread]) -> None:
    """Write reports until all threads are idle."""
    written = None
    while True:
        all_idle = all(thread.is_idle for thread in threads)
        report = _create_report(threads)
        if report != written:
            with contextlib.suppress(OSError):  # a full disk: delivery itself writes no file
                files.write_report(report)
                written = report
        if all_idle:
            return
        threads[0].join(_REPORT_EVERY_S)


def _create_report(threads: Sequence[ShipmentThread]) -> Report:
    return Report(
        pid=os.getpid(),
        sinks={
            thread.redacted_uri: Progress(
                held=thread.shipment.positions,
                last_error=None
                if thread.shipment.last_error is None
                else shorten(thread.shipment.last_error),
            )
            for thread in threads
        },
    )
