"""Delivery of the reserved slot, whose content changes: a heartbeat as it was found, at last the footer."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path

import pytest

from flowprov import records
from flowprov.journal.files import ReservedSlot
from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.records import Footer, Header, Heartbeat
from flowprov.shipping.shipment import Shipment
from flowprov.sinks.base import LATE_FOOTER, Entry
from tests.journal.support import header, step, write

HEARTBEAT = Heartbeat(at=5, captured=2, written=1, dropped={"disk_full": 1})
FOOTER = Footer(at=9, captured=4, written=1, dropped={"disk_full": 3})


class StoringSink:
    """A sink that stores entries in memory."""

    name = "storing"

    def __init__(self) -> None:
        self.lines: dict[int, bytes] = {}

    def resume_after(self, _header: Header) -> int | None:
        """Return the last position."""
        return max(self.lines, default=None)

    def deliver(self, _header: Header, entries: Sequence[Entry]) -> None:
        """Store the entries that are new."""
        for entry in entries:
            self.lines.setdefault(entry.position, entry.line)

    def close(self) -> None:
        """Do nothing."""

    @property
    def records(self) -> list[records.Record]:
        """The stored records, in order."""
        return [records.decode(line) for _, line in sorted(self.lines.items())]


def _journal(folder: Path, *after: records.Record) -> tuple[Path, ReservedSlot]:
    path = write(folder, header())
    slot = ReservedSlot(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(padding_line(RESERVED_SLOT) + b"".join(map(records.encode, after)))
    return path, slot


@pytest.mark.parametrize("after", [[step(1)], []], ids=["before a record", "in an otherwise empty journal"])
def test_the_footer_is_delivered_after_a_heartbeat_that_lay_at_its_offset(
    tmp_path: Path, after: list[records.Record]
) -> None:
    path, slot = _journal(tmp_path, *after)
    sink = StoringSink()
    slot.write(records.encode(HEARTBEAT))
    Shipment(sink, path).deliver_once()
    assert sink.records == [header(), HEARTBEAT, *after]
    slot.write(records.encode(FOOTER))
    for _ in range(2):  # the second delivers nothing
        Shipment(sink, path).deliver_once()
        assert sink.records == [header(), HEARTBEAT, *after, FOOTER]
    assert max(sink.lines) == LATE_FOOTER


def test_a_heartbeat_that_came_to_the_slot_after_the_delivery_is_skipped(tmp_path: Path) -> None:
    path, slot = _journal(tmp_path, step(1))
    sink = StoringSink()
    shipment = Shipment(sink, path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as its writer does while it lives
        shipment.deliver_once()
        slot.write(records.encode(HEARTBEAT))
        assert shipment.deliver_once() == 0
    slot.write(records.encode(FOOTER))
    assert shipment.deliver_once() == 1
    assert sink.records == [header(), step(1), FOOTER]
    assert shipment.done
