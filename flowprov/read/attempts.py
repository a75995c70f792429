"""Tell the attempts of a workflow from its ranks: which runs of it went on together.

Flows in: the runs of one workflow, each with the process that wrote it. Flows out: groups of runs, one for
each attempt, in the order in which they started.

Ranks are ranks only where they run at the same time. Two runs belong to different attempts

- if they are of one process, or of one rank;
- if their launcher says so: it restarted the job, or it is another job;
- if one had ended before the other began.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from flowprov.journal.summary import JournalSummary
from flowprov.records import Header, Launch

_NEVER = sys.maxsize
_MAX_DIGITS = 18  # of a count of clock ticks
_LOOK_BACK = 16  # attempts, of which a rank may join one

ProcessKey: TypeAlias = tuple[str, int, str | None]


class Period(NamedTuple):
    """A time from a start to an end, in nanoseconds.

    The end of what goes on lies in the far future. If the start is not known, the end stands for it.
    """

    start: int
    end: int
    start_known: bool = True


class ProcessRun(Protocol):
    """What one process did, under some id, during a period."""

    @property
    def header(self) -> Header:
        """The header of its journal."""

    @property
    def period(self) -> Period:
        """From when to when it went on."""

    @property
    def process_period(self) -> Period:
        """From when to when its process lived, as far as that is known."""


R = TypeVar("R", bound=ProcessRun)


def group_attempts(runs: Iterable[R]) -> list[list[R]]:
    """Return the runs of each attempt, in the order in which the attempts started."""
    attempts: list[_Attempt[R]] = []
    for run in sorted(runs, key=lambda run: run.period.start):
        latest = islice(reversed(attempts), _LOOK_BACK)
        attempt = next((attempt for attempt in latest if attempt.accepts(run)), None)
        if attempt is None:
            attempt = _Attempt()
            attempts.append(attempt)
        attempt.add(run)
    return [attempt.runs for attempt in attempts]


class _Attempt(Generic[R]):
    """The runs of one attempt, with what decides whether a further one belongs to it."""

    def __init__(self) -> None:
        self.runs: list[R] = []
        self._processes: set[ProcessKey] = set()
        self._ranks: set[int] = set()
        self._launches: dict[str | None, Launch] = {}  # one of each agent
        self._end = self._ranks_end = 0

    def add(self, run: R) -> None:
        """Add a run."""
        header = run.header
        self.runs.append(run)
        self._processes.add(process_key(header))
        self._end = max(self._end, run.period.end)
        if header.rank is not None:
            self._ranks.add(header.rank)
            self._ranks_end = max(self._ranks_end, run.process_period.end)
        if header.launch is not None:
            self._launches[header.launch.agent] = header.launch

    def accepts(self, run: R) -> bool:
        """Whether a run, which did not start before the others, belongs to this attempt."""
        header = run.header
        if process_key(header) in self._processes or header.rank in self._ranks:
            return False
        known = self._is_same_launch(header.launch)
        if known is not None:
            return known
        if header.rank is None or not self._ranks:
            return run.period.start < self._end or not run.period.start_known
        # A rank may have done its part before another one came to it.
        return run.process_period.start < self._ranks_end

    def _is_same_launch(self, launch: Launch | None) -> bool | None:
        """Whether a process was launched together with the others; None if that is not known."""
        if launch is None or not self._launches:
            return None
        other = self._launches.get(launch.agent) or next(iter(self._launches.values()))
        if (launch.job, launch.run, launch.restart) != (other.job, other.run, other.restart):
            return False
        if launch.agent is None and other.agent is None:
            return True if launch.job is not None else None
        # Agents on different nodes do not always agree on how often they restarted.
        return launch.agent_restart == other.agent_restart if launch.agent == other.agent else None


def process_key(header: Header) -> ProcessKey:
    """Return what tells a process from all others."""
    return header.hostname, header.pid, header.process_started_at


def process_period(journal: JournalSummary) -> Period:
    """Return from when to when the writer of a journal lived: to its last record, if it is gone."""
    header = journal.header
    return Period(
        _process_start(header), _NEVER if journal.alive else max(journal.last_at, header.started_at)
    )


def period_of(started_at: int | None, ended_at: int | None, journal: JournalSummary) -> Period:
    """Return the period of what has a start, an end, or both, in a journal."""
    start = started_at if started_at is not None else ended_at or 0
    if ended_at is None:
        ended_at = _NEVER if journal.alive else journal.last_at
    return Period(start, max(start, ended_at), started_at is not None)


def _process_start(header: Header) -> int:
    """Return when a process started, which was before its first record."""
    ticks = header.process_started_at
    if ticks is None or not ticks.isdecimal() or not ticks.isascii() or len(ticks) > _MAX_DIGITS:
        return header.started_at
    age = header.monotonic_ns - int(ticks) * 1_000_000_000 // _TICKS_PER_SECOND
    return header.started_at - max(age, 0)


_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def attempt_key(workflow_id: str, attempt: int | None) -> str:
    """Return a key for an attempt of a workflow: of the first one it is the id of the workflow."""
    return workflow_id if attempt is None or not attempt > 1 else f"{workflow_id}\0{int(attempt)}"


def id_of_key(key: str) -> str:
    """Return the id of the workflow from the key of an attempt; other keys stay as they are."""
    return key.partition("\0")[0]


class AttemptIndex:
    """The attempts of one workflow, to find the one to which a record belongs.

    Parameters
    ----------
    attempts
        The runs of each attempt.
    """

    def __init__(self, attempts: Sequence[Sequence[ProcessRun]]) -> None:
        self._all: _Begun = ([min(r.period.start for r in runs) for runs in attempts], [])
        self._all[1].extend(range(1, len(attempts) + 1))
        self._ends = [max((run.period.end for run in runs), default=_NEVER) for runs in attempts]
        self._by_journal: dict[str, _Begun] = {}
        for number, runs in enumerate(attempts, 1):
            for run in runs:
                starts, numbers = self._by_journal.setdefault(run.header.journal_id, ([], []))
                starts.append(run.period.start)
                numbers.append(number)

    @property
    def last(self) -> int:
        """The number of the last attempt."""
        return len(self._all[1])

    def end_of(self, number: int) -> int | None:
        """Return when an attempt ended, or its processes recorded last; None while one of them lives."""
        end = self._ends[number - 1]
        return None if end == _NEVER else end

    def find(self, header: Header, at: int | None) -> int:
        """Return the attempt to which a record belongs.

        It is the latest one that had begun: by the journal itself, by that of a process from which the writer
        was forked, or else by the time alone.

        Parameters
        ----------
        header
            The header of the journal.
        at
            When it began; None if that is not known.
        """
        starts, numbers = self._of_process(header) or self._all
        begun = bisect_right(starts, header.started_at if at is None else at)
        return numbers[max(begun - 1, 0)]

    def begun_at(self, at: int) -> int:
        """Return the latest attempt that had begun at a time; the first one if none had."""
        starts, numbers = self._all
        return numbers[max(bisect_right(starts, at) - 1, 0)]

    def of_journal(self, header: Header, last_at: int) -> set[int]:
        """Return the attempts to which the records of a journal can belong."""
        if own := self._of_process(header):
            return set(own[1])
        first = self.begun_at(header.started_at)
        return set(range(first, max(first, self.begun_at(last_at)) + 1))

    def _of_process(self, header: Header) -> _Begun | None:
        """Return the starts and numbers of the attempts of a process, or of one from which it was forked."""
        journals = (header.journal_id, *(ancestor for ancestor, _ in reversed(header.ancestors)))
        return next((self._by_journal[name] for name in journals if name in self._by_journal), None)


_Begun: TypeAlias = tuple[list[int], list[int]]  # starts, sorted, and the numbers of attempts
