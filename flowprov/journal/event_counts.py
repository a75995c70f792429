"""The counts of a journal's events: captured, written, dropped by reason.

Flows in: one call per event that the hot path appended, and the reason of each event that was dropped. Flows
out: three numbers that obey ``captured = written + dropped``.

An exception from outside (a signal handler's, for instance) may arrive between any two instructions of an
append. Nobody can say then whether the event was counted or written. From the first such moment on, the
journal's own file is counted: ``written`` is the number of events in it.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from flowprov.journal.own_file import FileTaken
from flowprov.records import COUNTED, prefix_of

_BLOCK = 1 << 20
# A line that was appended just now may have others of other threads behind it, but not as many bytes.
_LOOK_BACK = 64 << 20
# How the lines of events begin, those of the templates and those of encoded structs; see records.
_EVENTS = tuple(b"\n%b," % prefix_of(kind) for kind in COUNTED)


class ReadableFile(Protocol):
    """The file of a journal, as its counts see it."""

    def end(self) -> int:
        """Return the offset behind the last line."""

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file."""


@runtime_checkable
class CountingFile(Protocol):
    """A file whose writer knows how many events it has appended, as the file may not answer."""

    def events(self) -> int:
        """Return how many events were appended."""


Counts: TypeAlias = tuple[int, int, dict[str, int]]
"""Captured, written, dropped by reason."""


class EventCounts:
    """Counts the events of one journal file.

    Parameters
    ----------
    dropped
        Events that were dropped before, by reason.

    Attributes
    ----------
    count
        Function that counts an event that was appended.
    """

    def __init__(self, dropped: Mapping[str, int] | None = None) -> None:
        self._appended = itertools.count(1)
        self.count: Callable[[], int] = self._appended.__next__
        self._dropped: dict[str, int] = dict(dropped or {})
        self._recounted: tuple[int, int] | None = None  # offset up to which the file was counted; its events

    def drop(self, reason: str) -> None:
        """Count an event as captured and dropped."""
        number = self._dropped.get(reason, 0)
        self._dropped[reason] = number + 1

    def dropped(self) -> int:
        """Return the number of events that were dropped."""
        return sum(self._dropped.values())

    def distrust(self) -> None:
        """Count the events of the file from now on: it is not known whether the last one was counted."""
        if self._recounted is None:
            self._recounted = (0, 0)

    def read(self, file: ReadableFile | None) -> Counts:
        """Return the counts so far.

        Parameters
        ----------
        file
            The file; None if there is none yet.
        """
        dropped = dict(self._dropped)
        if self._recounted is None:
            # next() would count an event; the representation of the iterator is "count(7)".
            written = int(repr(self._appended)[len("count(") : -1]) - 1
        else:
            if isinstance(file, CountingFile):
                self._recounted = (0, file.events())
            elif file is not None:
                with contextlib.suppress(FileTaken):  # what was counted before is all that is known
                    self._recounted = _count_events(file, *self._recounted)
            written = self._recounted[1]
        return written + sum(dropped.values()), written, dropped


def may_be_uncounted(*, in_event: bool) -> bool:
    """Whether a thread may have appended an event that it has not counted yet.

    A thread is in the middle of the two steps only while code that takes both is on its stack.

    Parameters
    ----------
    in_event
        Whether the present call belongs to an event itself, which is not appended yet.
    """
    own = threading.get_ident()
    for thread, top in sys._current_frames().items():  # noqa: SLF001 - the documented way to them
        frame, is_known = top, in_event and thread == own
        while frame is not None:
            if set(frame.f_code.co_names) >= _STEPS:
                if not is_known:
                    return True
                is_known = False
            frame = frame.f_back  # type: ignore[assignment]
    return False


_STEPS = {"fast_append", "count"}


def is_event(line: bytes) -> bool:
    """Whether a line is that of an event, and no control record."""
    return (b"\n" + line).startswith(_EVENTS)


def holds_line(file: ReadableFile, line: bytes, look_back: int = _LOOK_BACK) -> bool:
    """Whether a file holds a line that was appended a moment ago, or was about to be."""
    end = file.end()
    floor = max(0, end - look_back)
    while end > floor:
        begin = max(0, end - _BLOCK)
        if line in file.read(end - begin + len(line) - 1, begin):
            return True
        end = begin
    return False


def _count_events(file: ReadableFile, position: int, events: int) -> tuple[int, int]:
    """Count the events from a position on; return the offset behind the last complete line, and the sum."""
    block = _BLOCK
    while data := file.read(block, position):
        padding = data.find(b"\0")  # not written yet; another thread may be writing just here
        complete = data[: padding if padding >= 0 else None]
        complete = complete[: complete.rfind(b"\n") + 1]
        if not complete:
            if padding >= 0 or len(data) < block:
                break
            block *= 2  # a line longer than a block
            continue
        text = b"\n" + complete
        events += sum(text.count(beginning) for beginning in _EVENTS)
        position += len(complete)
    return position, events
