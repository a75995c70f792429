"""The tracks of a trace: on which line of which process an event is drawn.

Flows in: where and when tasks ran. Flows out: numbers. Events of one track must lie in one another or side by
side. Coroutines and started tasks of one thread may overlap otherwise: these get a further track.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from flowprov.export.campaigns import ProcessKey

_MAX_PID = 2**31
_MAX_TRACKS = 256  # of one thread


class Tracks:
    """The tracks of all processes."""

    def __init__(self) -> None:
        self._pids: dict[tuple[int, ProcessKey], int] = {}
        self._taken: set[int] = set()
        self._threads: dict[tuple[int, str], list[tuple[int, _Lane]]] = {}
        self._last_tid: dict[int, int] = {}

    def pid_of(self, campaign: int, key: ProcessKey) -> tuple[int, bool]:
        """Return the number of a process in the trace, and whether it is new: its own, if that is free.

        Two hosts may have processes of one number, and so may two campaigns.
        """
        known = self._pids.get((campaign, key))
        if known is not None:
            return known, False
        pid = key[1] if key[1] is not None and 0 < key[1] < _MAX_PID else 1
        while pid in self._taken:
            pid += 1
        self._pids[campaign, key] = pid
        self._taken.add(pid)
        return pid, True

    def tid_of(self, pid: int, thread: str, started: int, ended: int) -> tuple[int, str | None]:
        """Return the number of a track of a thread in which a task has its place.

        Returns
        -------
        int, str or None
            The number, and the name of the track if it is new.
        """
        lanes = self._threads.setdefault((pid, thread), [])
        for tid, lane in lanes:
            if lane.add(started, ended):
                return tid, None
        if len(lanes) >= _MAX_TRACKS:
            return lanes[-1][0], None  # a viewer may leave some of these out
        tid = self._last_tid[pid] = self._last_tid.get(pid, 0) + 1
        lane = _Lane()
        lane.add(started, ended)
        lanes.append((tid, lane))
        return tid, thread if len(lanes) == 1 else f"{thread} ({len(lanes)})"


class _Lane:
    """The outermost events of a track, side by side: those inside them need not be known."""

    def __init__(self) -> None:
        self._starts, self._ends = array("q"), array("q")

    def add(self, started: int, ended: int) -> bool:
        """Add an event, unless it overlaps another one in part.

        Events come in the order of their ends, as a rule: those inside another one before it.
        """
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, started)  # the first one that ends behind the start
        behind = bisect_left(starts, ended)  # the first one that does not begin before the end
        if first < behind and starts[first] < started:
            return behind - first == 1 and ends[first] >= ended  # it lies inside that one
        if first < behind and ends[behind - 1] > ended:
            return behind - first == 1 and starts[first] <= started
        if first == behind and started == ended:
            return True
        starts[first:behind] = array("q", [started])
        ends[first:behind] = array("q", [ended])
        return True
