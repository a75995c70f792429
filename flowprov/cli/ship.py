"""``flowprov ship``: delivers what waits in a buffer to servers.

Flows in: a buffer, and the sinks of the settings or of the command line. Flows out: the journals on the
servers, a count for each, and the exit status: 0 if all was delivered, 1 if a sink is still owed something.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import click

from flowprov.cli.output import Failure
from flowprov.journal.format import folder_name
from flowprov.settings import Settings, load_settings, parse_assignment, redact_uri
from flowprov.sinks.ship import Ended, Shipment, follow, open_sink

_TRY_FOR_S = 10.0  # by hand, a person waits
_LOCK_FOR_S = 5.0


class Delivery(threading.Thread):
    """Delivers to one sink, independently of the others."""

    def __init__(self, uri: str, shipment: Shipment, *, following: bool, give_up_after: float) -> None:
        super().__init__(daemon=True)
        self.shown = redact_uri(uri)
        self.shipment = shipment
        self.result: Ended | None = None
        self._following = following
        self._give_up_after = give_up_after

    def run(self) -> None:
        """Deliver until all is there, or all that will be."""
        if self._following:
            self.result = follow(self.shipment, give_up_after=self._give_up_after)
        else:
            self.result = follow(self.shipment, give_up_after=self._give_up_after, until=lambda _: True)
        self.shipment.sink.close()


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
@click.pass_context
def ship(context: click.Context, source: str | None, uris: tuple[str, ...], *, following: bool) -> None:
    """Deliver the journals of a buffer to Redis or MongoDB.

    What is there already is not delivered twice. Exit status: 0 if nothing waits any more, 1 if something
    does, 2 if it cannot begin.
    """
    given = context.find_root().params
    settings = load_settings(given["path"], dict(map(parse_assignment, given["assignments"])))
    named = [settings.sinks.redis.uri, settings.sinks.mongodb.uri]
    targets = uris or tuple(uri for uri in named if uri is not None)
    if not targets:
        raise Failure("there is no sink: give --to URI, or set sinks.redis.uri or sinks.mongodb.uri")
    folder = Path(source or settings.journal.path)
    if not folder.exists():
        raise Failure(f"{folder} does not exist: give the buffer folder of the run (its journal.path)")
    sys.exit(deliver(folder, targets, settings, following=following))


def deliver(folder: Path, uris: tuple[str, ...], settings: Settings, *, following: bool) -> int:
    """Deliver the journals of a folder to some sinks; gives the exit status."""
    lock = _take_lock(folder) if following else None
    if following and lock is None:
        click.echo("another flowprov ship --follow delivers this buffer already")
        return 0
    host = socket.gethostname() if following else None
    give_up_after = settings.sinks.give_up_after if following else _TRY_FOR_S
    deliveries = [
        Delivery(
            uri,
            Shipment(open_sink(uri, maxlen=settings.sinks.redis.maxlen), folder, host),
            following=following,
            give_up_after=give_up_after,
        )
        for uri in uris
    ]
    for delivery in deliveries:
        delivery.start()
    _wait(deliveries)
    return max(_report(delivery) for delivery in deliveries)


def _wait(deliveries: list[Delivery]) -> None:
    """Wait for all deliveries; a person at a terminal sees how far they are."""
    shown = sys.stderr.isatty()
    for delivery in deliveries:
        while delivery.is_alive():
            delivery.join(0.2)
            if shown:
                counts = ", ".join(f"{each.shown} {each.shipment.delivered:,}" for each in deliveries)
                click.echo(f"\r{counts}", nl=False, err=True)
    if shown:
        click.echo(err=True)


def _report(delivery: Delivery) -> int:
    result = delivery.result
    if result is None:  # the thread died of a fault of ours; its traceback was printed
        click.echo(f"{delivery.shown}: failed after {delivery.shipment.delivered:,} entries", err=True)
        return 1
    if result.error is None:
        click.echo(f"{delivery.shown}: {result.delivered:,} entries delivered, nothing waits")
        return 0
    click.echo(
        f"{delivery.shown}: {result.delivered:,} entries delivered, {delivery.shipment.waiting():,} wait: "
        f"{result.error}. They stay in the buffer; the same command delivers them later.",
        err=True,
    )
    return 1


def _take_lock(folder: Path) -> TextIO | None:
    """Be the only one that follows a buffer on this host; waits a little for another that is about to end."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / f".ship-{folder_name(socket.gethostname())}.lock").open("w")
    deadline = time.monotonic() + _LOCK_FOR_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # noqa: PERF203 - held by another
            if time.monotonic() > deadline:
                lock.close()
                return None
            time.sleep(0.1)
        else:
            return lock
