"""``flowprov ship``: delivers the journals of a buffer to sinks.

Flows in: a buffer, and the sinks of the settings or of the command line. Flows out: the journals on the
servers, a count for each sink, and the exit status: 0 if all was delivered, 1 if entries still wait.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flowprov.cli.output import Failure, print_json, print_lines
from flowprov.cli.terminal import is_terminal
from flowprov.read.automatic_compaction import compact_folder
from flowprov.read.source import buffer_to_change
from flowprov.settings import Settings, load_settings, parse_assignment, redact_source, settings_from_json
from flowprov.shipping.retries import silence_stamina
from flowprov.shipping.service import ShipmentThread, follow_buffer, start_shipments
from flowprov.shipping.status import ShipperFiles

_GIVE_UP_AFTER_S = 8.0  # short, as a person waits for it
_LOCK_TIMEOUT_S = 5.0
_PROGRESS_EVERY_S = 0.2


@click.command()
@click.argument("source", required=False)
@click.option(
    "--to",
    "uris",
    multiple=True,
    metavar="URI",
    help="A sink to deliver to, instead of those of the settings; can be repeated. Other users of a machine "
    "can see arguments: give credentials by FLOWPROV__SINKS__REDIS__URI or FLOWPROV__SINKS__MONGODB__URI.",
)
@click.option(
    "--follow",
    "following",
    is_flag=True,
    help="Go on until the journals of this host are closed and delivered, through failures of the servers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each sink.")
@click.option(
    "--handed-over",
    "lock",
    type=int,
    hidden=True,
    help="For programs that start it: the descriptor of the lock. Complete settings are on standard input.",
)
@click.pass_context
def ship(
    context: click.Context,
    source: str | None,
    uris: tuple[str, ...],
    *,
    following: bool,
    as_json: bool,
    lock: int | None,
) -> None:
    """Deliver the journals of a buffer to Redis or MongoDB, and their runs to MLflow.

    Entries that a sink holds are not delivered again. Exit status: 0 if nothing waits any more, 1 if entries
    still wait, 2 if it cannot begin.
    """
    options = context.find_root().params
    silence_stamina()
    if lock is not None:
        os.nice(5)  # the program that records comes first
        settings = settings_from_json(sys.stdin.buffer.read())
    else:
        settings = load_settings(options["path"], dict(map(parse_assignment, options["assignments"])))
    configured = [settings.sinks.redis.uri, settings.sinks.mongodb.uri, settings.sinks.mlflow.uri]
    targets = uris or tuple(uri for uri in configured if uri is not None)
    if not targets:
        raise Failure(
            "there is no sink: give --to URI, or set sinks.redis.uri, sinks.mongodb.uri or sinks.mlflow.uri"
        )
    folder = _folder(source, settings)
    if not following:
        status = deliver(folder, targets, settings, as_json=as_json)
        if status == 0 and settings.journal.compact != "off":
            compact_folder(folder)
        sys.exit(status)
    files = ShipperFiles(folder, targets, settings.journal.file_mode)
    lock_file = os.fdopen(lock, "rb") if lock is not None else files.take_lock(_LOCK_TIMEOUT_S)
    if lock_file is None:
        print_lines("another flowprov ship --follow delivers this buffer already")
        sys.exit(0)
    with lock_file:
        threads = follow_buffer(folder, targets, settings, files)
        status = max(_print_outcome(thread, as_json=as_json) for thread in threads)
    if status == 0 and settings.journal.compact == "always":
        compact_folder(folder)
    sys.exit(status)


def _folder(source: str | None, settings: Settings) -> Path:
    """Return the buffer that is delivered; raise if it does not exist."""
    if source is None:
        return buffer_to_change(settings.journal.path, "").absolute()
    folder = Path(source).absolute()
    if not folder.exists():
        name = redact_source(source)
        raise Failure(f"{name} does not exist: give the buffer folder of the run (its journal.path)")
    return folder


def deliver(folder: Path, uris: Sequence[str], settings: Settings, *, as_json: bool = False) -> int:
    """Deliver the entries that wait in a folder now; return the exit status."""
    threads = start_shipments(folder, uris, settings, _GIVE_UP_AFTER_S)
    _show_progress(threads)
    return max(_print_outcome(thread, as_json=as_json) for thread in threads)


def _show_progress(threads: Sequence[ShipmentThread]) -> None:
    """Wait for all threads; show a progress bar if a person watches a terminal."""
    if not is_terminal(sys.stderr):
        for thread in threads:
            thread.join()
        return
    length = sum(thread.shipment.waiting() for thread in threads)
    with click.progressbar(length=length, label="delivering", file=sys.stderr) as bar:
        displayed = 0
        while displayed < length and any(thread.is_alive() for thread in threads):
            threads[0].join(_PROGRESS_EVERY_S)
            delivered = sum(thread.shipment.delivered for thread in threads)
            bar.update(delivered - displayed)
            displayed = delivered
    for thread in threads:
        thread.join()


def _print_outcome(thread: ShipmentThread, *, as_json: bool) -> int:
    """Print the result of one delivery; return the exit status."""
    shipment = thread.shipment
    if as_json:
        error = None if shipment.last_error is None else str(shipment.last_error)
        waiting = 0 if error is None else shipment.waiting()
        print_json(
            {"sink": thread.redacted_uri, "delivered": shipment.delivered, "waiting": waiting, "error": error}
        )
        return 0 if error is None else 1
    if shipment.last_error is None:
        print_lines(f"{thread.redacted_uri}: {shipment.delivered:,} {shipment.unit} delivered, nothing waits")
        return 0
    counts = f"{shipment.delivered:,} {shipment.unit} delivered, {shipment.waiting():,} wait"
    later = "They stay in the buffer; the same command delivers them later."
    print_lines(f"{thread.redacted_uri}: {counts}: {shipment.last_error}. {later}", to_stderr=True)
    return 1
