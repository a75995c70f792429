"""``flowprov ship``: delivers what waits in a buffer to servers.

Flows in: a buffer, and the sinks of the settings or of the command line. Flows out: the journals on the
servers, a count for each, and the exit status: 0 if all was delivered, 1 if a sink is still owed something.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from flowprov.cli.output import Failure
from flowprov.errors import FlowprovError
from flowprov.journal.shipper import Progress, Report, ShipperFiles, shortened
from flowprov.settings import Settings, load_settings, parse_assignment, redact_uri, settings_from_json
from flowprov.sinks.ship import Shipment, follow, open_sink, without_notes_on_attempts

_TRY_FOR_S = 8.0  # by hand, a person waits
_LOCK_FOR_S = 5.0
_REPORT_EVERY_S = 0.1
_BAR_EVERY_S = 0.2


class Delivery(threading.Thread):
    """Delivers to one sink, independently of the others."""

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
            self.shipment.trouble = f"a fault of flowprov's own: {type(error).__name__}"
            raise

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be expected of it."""
        return self.shipment.idle or self.shipment.given_up or not self.is_alive()


@click.command()
@click.argument("source", required=False)
@click.option(
    "--to",
    "uris",
    multiple=True,
    metavar="URI",
    help="Where to, in place of the sinks of the settings; can be repeated. Other users of a machine can see "
    "arguments: give credentials by FLOWPROV__SINKS__REDIS__URI or FLOWPROV__SINKS__MONGODB__URI.",
)
@click.option(
    "--follow",
    "following",
    is_flag=True,
    help="Go on until the journals of this host are closed and delivered, through failures of the servers.",
)
@click.option(
    "--handed-over",
    "lock",
    type=int,
    hidden=True,
    help="For programs that start it: the descriptor of the lock; complete settings are on standard input.",
)
@click.pass_context
def ship(
    context: click.Context, source: str | None, uris: tuple[str, ...], *, following: bool, lock: int | None
) -> None:
    """Deliver the journals of a buffer to Redis or MongoDB.

    What is there already is not delivered twice. Exit status: 0 if nothing waits any more, 1 if something
    does, 2 if it cannot begin.
    """
    given = context.find_root().params
    without_notes_on_attempts()
    if lock is not None:
        os.nice(5)  # the program that is watched comes first
        settings = settings_from_json(sys.stdin.buffer.read())
    else:
        settings = load_settings(given["path"], dict(map(parse_assignment, given["assignments"])))
    named = [settings.sinks.redis.uri, settings.sinks.mongodb.uri]
    targets = uris or tuple(uri for uri in named if uri is not None)
    if not targets:
        raise Failure("there is no sink: give --to URI, or set sinks.redis.uri or sinks.mongodb.uri")
    folder = Path(source or settings.journal.path).absolute()
    if not folder.exists():
        raise Failure(f"{folder} does not exist: give the buffer folder of the run (its journal.path)")
    if not following:
        sys.exit(deliver(folder, targets, settings))
    files = ShipperFiles(folder, targets)
    held = os.fdopen(lock, "rb") if lock is not None else files.take_lock(_LOCK_FOR_S)
    if held is None:
        click.echo("another flowprov ship --follow delivers this buffer already")
        sys.exit(0)
    with held:
        status = follow_buffer(folder, targets, settings, files)
    sys.exit(status)


def deliver(folder: Path, uris: Sequence[str], settings: Settings) -> int:
    """Deliver what waits in a folder now; gives the exit status."""
    deliveries = [
        Delivery(uri, Shipment(open_sink(uri, maxlen=settings.sinks.redis.maxlen), folder), _TRY_FOR_S, None)
        for uri in uris
    ]
    for delivery in deliveries:
        delivery.start()
    _show_progress(deliveries)
    return max(_tell(delivery) for delivery in deliveries)


def follow_buffer(folder: Path, uris: Sequence[str], settings: Settings, files: ShipperFiles) -> int:
    """Deliver what comes in a folder from this host, until nothing can come; gives the exit status."""
    over, host = threading.Event(), socket.gethostname()
    try:
        deliveries = [
            Delivery(
                uri,
                Shipment(open_sink(uri, maxlen=settings.sinks.redis.maxlen), folder, host),
                settings.sinks.give_up_after,
                over,
            )
            for uri in uris
        ]
    except FlowprovError as error:
        files.write_report(Report(pid=os.getpid(), failure=shortened(error)))
        raise
    for delivery in deliveries:
        delivery.start()
    _report_until_over(files, deliveries)
    over.set()
    return max(_tell(delivery) for delivery in deliveries)


def _report_until_over(files: ShipperFiles, deliveries: Sequence[Delivery]) -> None:
    """Tell others how far all are, until nothing is to be expected of any."""
    told = None
    while True:
        at_rest = all(delivery.at_rest for delivery in deliveries)
        report = _report_on(deliveries)
        if report != told:
            with contextlib.suppress(OSError):  # a disk that is full: delivery itself writes nothing
                files.write_report(report)
                told = report
        if at_rest:
            return
        deliveries[0].join(_REPORT_EVERY_S)


def _report_on(deliveries: Sequence[Delivery]) -> Report:
    return Report(
        pid=os.getpid(),
        sinks={
            each.shown: Progress(
                held=each.shipment.held,
                trouble=None if each.shipment.trouble is None else shortened(each.shipment.trouble),
            )
            for each in deliveries
        },
    )


def _show_progress(deliveries: Sequence[Delivery]) -> None:
    """Wait for all deliveries; a person at a terminal sees how far they are."""
    if not sys.stderr.isatty():
        for delivery in deliveries:
            delivery.join()
        return
    length = sum(delivery.shipment.waiting() for delivery in deliveries)
    with click.progressbar(length=length, label="delivering", file=sys.stderr) as bar:
        shown = 0
        while shown < length and any(delivery.is_alive() for delivery in deliveries):
            deliveries[0].join(_BAR_EVERY_S)
            delivered = sum(delivery.shipment.delivered for delivery in deliveries)
            bar.update(delivered - shown)
            shown = delivered
    for delivery in deliveries:
        delivery.join()


def _tell(delivery: Delivery) -> int:
    shipment = delivery.shipment
    if shipment.trouble is None:
        click.echo(f"{delivery.shown}: {shipment.delivered:,} entries delivered, nothing waits")
        return 0
    click.echo(
        f"{delivery.shown}: {shipment.delivered:,} entries delivered, {shipment.waiting():,} wait: "
        f"{shipment.trouble}. They stay in the buffer; the same command delivers them later.",
        err=True,
    )
    return 1
