"""Delivering a shipment again and again, through failures of the server, with growing pauses.

Flows in: a shipment. Flows out: the same shipment, delivered or given up.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from flowprov.errors import SinkError
from flowprov.shipping.shipment import BufferShipment

_MAX_PAUSE_S = 30.0  # between two attempts
_PAUSE_PER_SCAN = 5  # seconds of pause for each second of scanning journals


def deliver(shipment: BufferShipment, *, give_up_after: float) -> None:
    """Deliver a shipment until nothing waits, it is given up, or a server keeps no more than it had.

    Parameters
    ----------
    shipment
        The shipment; its attributes tell how far the delivery is.
    give_up_after
        Seconds of failing attempts after which the shipment counts as given up.
    """
    waiting = sys.maxsize
    while True:
        _attempt(shipment, give_up_after)
        if shipment.last_error is None or shipment.given_up:
            return
        # A part was delivered before the failure. The number that waits bounds the attempts: a server that
        # loses what it took would be delivered to for ever.
        before, waiting = waiting, shipment.waiting()
        if waiting >= before:
            return


def follow(
    shipment: BufferShipment, *, give_up_after: float, stop: threading.Event, poll: float = 0.2
) -> None:
    """Deliver a shipment again and again, through failures of the server.

    Parameters
    ----------
    shipment, give_up_after
        As for :func:`deliver`.
    stop
        Event that ends the delivery.
    poll
        Seconds between two scans of journals that are still written.
    """
    while True:
        _attempt(shipment, give_up_after)
        if stop.is_set():
            return
        if shipment.given_up:
            stop.wait(_MAX_PAUSE_S)
        else:
            # Pause after a delivery too: else a program that records steadily would be followed line by line,
            # at the cost of a core. A buffer of thousands of journals is scanned less often.
            stop.wait(max(poll, _PAUSE_PER_SCAN * shipment.scan_seconds))


def silence_stamina() -> None:
    """Stop stamina from logging each attempt in this process: a shipment reports its last error once."""
    with contextlib.suppress(ImportError):  # stamina comes with the extras of the sinks
        import stamina.instrumentation

        stamina.instrumentation.set_on_retry_hooks([])


def _attempt(shipment: BufferShipment, give_up_after: float) -> None:
    """Try until an attempt succeeds or ``give_up_after`` is over; try a shipment that was given up once."""
    import stamina

    attempts = 1 if shipment.given_up else None
    try:
        for attempt in stamina.retry_context(
            SinkError,
            attempts=attempts,
            timeout=give_up_after,
            wait_initial=0.1,
            wait_max=min(_MAX_PAUSE_S, give_up_after / 4),
            wait_jitter=0.5,
        ):
            with attempt:
                shipment.try_deliver()
    except SinkError:
        shipment.given_up = True
    else:
        shipment.given_up = False
