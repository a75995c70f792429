"""The time of a record: wall clock time, told by the monotonic clock.

Flows in: two clocks. Flows out: integer nanoseconds since the epoch. One reading serves for the time of day
and for durations: the monotonic clock plus an offset that is measured at the start and looked at again with
every heartbeat. So times inside a process never run backwards, and a clock that is set shows in the records
within one heartbeat.
"""

from __future__ import annotations

import time

ticks = time.perf_counter_ns  # what durations are taken from

_STEP_NS = 1_000_000  # differences below this are the jitter of reading two clocks


def _measure_offset() -> int:
    """Give wall clock minus monotonic clock: of several readings the one with the least time between them."""
    best, offset = 1 << 62, 0
    for _ in range(5):
        before = ticks()
        wall = time.time_ns()
        after = ticks()
        if after - before < best:
            best, offset = after - before, wall - (before + after) // 2
    return offset


class Clock:
    """Gives wall clock times; one per process.

    Attributes
    ----------
    offset
        Wall clock minus monotonic clock, in nanoseconds. The hot path adds it to :data:`ticks` itself.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = _measure_offset()

    def now(self) -> int:
        """Give the wall clock time in nanoseconds since the epoch."""
        return ticks() + self.offset

    def follow_wall_clock(self) -> None:
        """Follow the wall clock where it was set."""
        offset = _measure_offset()
        if abs(offset - self.offset) > _STEP_NS:
            self.offset = offset


clock = Clock()
