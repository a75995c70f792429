"""The records of a program that records steadily are delivered in batches, whatever its pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import flowprov
from flowprov.records import Header
from flowprov.runtime import runtime
from flowprov.shipping.retries import follow
from flowprov.shipping.shipment import Shipment
from flowprov.sinks.base import Entry
from tests.support import wait_until


class Counting:
    """A sink that counts its entries and the deliveries."""

    name = "counting"

    def __init__(self) -> None:
        self.deliveries = 0
        self.entries: list[Entry] = []

    def resume_after(self, header: Header) -> int | None:  # noqa: ARG002 - there is one journal
        """Return the last position."""
        return self.entries[-1].position if self.entries else None

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:  # noqa: ARG002
        """Count the delivery and its entries."""
        self.deliveries += 1
        self.entries += entries

    def close(self) -> None:
        """Do nothing."""


def test_a_steady_program_is_not_followed_line_by_line(buffer: Path) -> None:
    step = flowprov.task(lambda number: number)
    sink, over = Counting(), threading.Event()
    shipment = Shipment(sink, buffer)
    following = threading.Thread(
        target=follow, args=(shipment,), kwargs={"give_up_after": 60, "stop": over, "poll": 0.2}
    )
    with flowprov.workflow("steady"):
        step(-1)
        following.start()
        began = time.monotonic()
        for number in range(400):
            step(number)
            time.sleep(0.002)
        taken = time.monotonic() - began
    runtime.reset()
    wait_until(lambda: shipment.idle)
    over.set()
    following.join(30)
    assert len({entry.position for entry in sink.entries}) == len(sink.entries) > 400
    # On a slow machine the program takes longer, and the bound grows with it.
    assert sink.deliveries <= 2 + taken / 0.2 + 2, "one at a time, with a rest after each"
