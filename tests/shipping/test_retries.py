"""Deliveries go on through failures, and in batches, whatever the pace of the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import flowprov
from flowprov.errors import SinkUnavailableError
from flowprov.records import Header
from flowprov.runtime import runtime
from flowprov.shipping.retries import deliver, follow
from flowprov.shipping.shipment import BATCH, Shipment
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


class Failing(Counting):
    """A sink that fails after each batch, the given number of times.

    Parameters
    ----------
    failures
        How often it fails.
    forgets
        Whether it comes back empty after each failure.
    """

    def __init__(self, failures: int, *, forgets: bool) -> None:
        super().__init__()
        self.failures = failures
        self.forgets = forgets
        self.took_one = False

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Take one batch, fail at the next."""
        if self.took_one and self.failures:
            self.failures -= 1
            self.took_one = False
            if self.forgets:
                self.entries.clear()
            raise SinkUnavailableError("the server fails")
        super().deliver(header, entries)
        self.took_one = True


@pytest.fixture
def journal_of_some_batches(buffer: Path) -> Path:
    step = flowprov.task(lambda number: number)
    with flowprov.workflow("batches"):
        for number in range(3 * BATCH):
            step(number)
    runtime.reset()
    return buffer


def test_one_delivery_goes_on_where_a_server_failed_in_the_middle(journal_of_some_batches: Path) -> None:
    sink = Failing(3, forgets=False)
    shipment = Shipment(sink, journal_of_some_batches)
    deliver(shipment, give_up_after=60)
    assert (shipment.last_error, shipment.waiting(), sink.failures) == (None, 0, 0)
    positions = [entry.position for entry in sink.entries]
    assert positions == sorted(set(positions))
    assert len(positions) > 3 * BATCH


def test_one_delivery_to_a_server_that_loses_what_it_took_ends(journal_of_some_batches: Path) -> None:
    shipment = Shipment(Failing(1000, forgets=True), journal_of_some_batches)
    deliver(shipment, give_up_after=60)
    assert shipment.last_error == "the server fails"
    assert shipment.waiting() > 0
