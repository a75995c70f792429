"""What stands behind the header changes there: it is delivered as it was met, and the footer at last."""

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

BEAT = Heartbeat(at=5, captured=2, written=1, dropped={"disk_full": 1})
FOOTER = Footer(at=9, captured=4, written=1, dropped={"disk_full": 3})


class Kept:
    """A sink that keeps what it is given."""

    name = "kept"

    def __init__(self) -> None:
        self.held: dict[int, bytes] = {}

    def resume_after(self, _header: Header) -> int | None:
        """Give the last position."""
        return max(self.held, default=None)

    def deliver(self, _header: Header, entries: Sequence[Entry]) -> None:
        """Keep what is new."""
        for entry in entries:
            self.held.setdefault(entry.position, entry.line)

    def close(self) -> None:
        """Do nothing."""

    @property
    def records(self) -> list[records.Record]:
        """Give what it holds, in order."""
        return [records.decode(line) for _, line in sorted(self.held.items())]


def _journal(folder: Path, *after: records.Record) -> tuple[Path, ReservedSlot]:
    path = write(folder, header())
    room = ReservedSlot(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(padding_line(RESERVED_SLOT) + b"".join(map(records.encode, after)))
    return path, room


@pytest.mark.parametrize("after", [[step(1)], []], ids=["behind a record", "in an otherwise empty journal"])
def test_a_heartbeat_that_was_delivered_does_not_keep_the_footer_out(
    tmp_path: Path, after: list[records.Record]
) -> None:
    path, room = _journal(tmp_path, *after)
    sink = Kept()
    room.write(records.encode(BEAT))
    Shipment(sink, path).deliver_once()
    assert sink.records == [header(), BEAT, *after]
    room.write(records.encode(FOOTER))
    for _ in range(2):  # the second has nothing to do
        Shipment(sink, path).deliver_once()
        assert sink.records == [header(), BEAT, *after, FOOTER]
    assert max(sink.held) == LATE_FOOTER


def test_a_heartbeat_that_came_after_the_delivery_is_passed_over(tmp_path: Path) -> None:
    path, room = _journal(tmp_path, step(1))
    sink = Kept()
    shipment = Shipment(sink, path)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # its writer is there
        shipment.deliver_once()
        room.write(records.encode(BEAT))
        assert shipment.deliver_once() == 0
    room.write(records.encode(FOOTER))
    assert shipment.deliver_once() == 1
    assert sink.records == [header(), step(1), FOOTER]
    assert shipment.done
