"""The time of a record: wall clock time, derived from the monotonic clock.

Flows in: the wall clock and the monotonic clock. Flows out: integer nanoseconds since the epoch.

One reading of the monotonic clock serves both for the time of day and for durations. The time of day is that
reading plus an offset, which is measured at the start and again at every heartbeat. So the times of a process
never run backwards by themselves; when somebody sets the wall clock, the records follow it within one
heartbeat.
"""

from __future__ import annotations

import time

ticks = time.perf_counter_ns  # the monotonic clock, for durations

# Beyond these many tools can show no time, or cannot hold it. Where a clock stands there, times begin at the
# bound; durations are right all the same.
_EARLIEST = 1  # 1970; zero means that there is no time
_LATEST = 2**63 - 2**60  # the year 2225
_JITTER_NS = 1_000_000  # the offset may seem to change by so much, because two clocks are read in turn


def wall_ns() -> int:
    """Return what the wall clock of the system says, in nanoseconds since the epoch, within its bounds."""
    try:
        now = time.time_ns()
    except OverflowError:  # it is set to before 1677 or after 2262
        now = int(time.clock_gettime(time.CLOCK_REALTIME)) * 1_000_000_000
    return min(max(now, _EARLIEST), _LATEST)


def _measure_offset() -> int:
    """Return wall clock minus monotonic clock: of five measurements the one that took the least time."""
    best, offset = 1 << 62, 0
    for _ in range(5):
        before = ticks()
        wall = wall_ns()
        after = ticks()
        if after - before < best:
            best, offset = after - before, wall - (before + after) // 2
    return offset


class Clock:
    """The wall clock of the process.

    Attributes
    ----------
    offset
        Wall clock minus monotonic clock, in nanoseconds. The hot path itself adds it to :data:`ticks`.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset = _measure_offset()

    def now(self) -> int:
        """Return the wall clock time in nanoseconds since the epoch."""
        return ticks() + self.offset

    def follow_wall_clock(self) -> None:
        """Take over a new offset, if the wall clock was set, and not beyond its bounds."""
        offset = _measure_offset()
        if abs(offset - self.offset) > _JITTER_NS and _EARLIEST < ticks() + offset < _LATEST:
            self.offset = offset


clock = Clock()
