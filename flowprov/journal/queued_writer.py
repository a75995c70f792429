"""The queued writer: for file systems that may hang, such as those of a network and of FUSE.

Flows in: encoded lines. Flows out: the same, from a thread of its own, to an append writer. The thread waits
for the file system without the GIL, so the threads of the program go on. Who appends waits until the line is
written, but at most ``max_wait``. If that was not enough, nobody waits any more until the thread has caught
up: lines stand in a queue in memory, and a warning says so. The queue is bounded.

What was appended meanwhile and cannot be written in the end is kept as lost, for the counts of the journal.
"""

from __future__ import annotations

import contextlib
import io
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from flowprov import guard
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.event_counts import EventCounts, is_event
from flowprov.journal.interruptions import pass_on
from flowprov.journal.own_file import OwnFile
from flowprov.journal.write_failures import FileGrown, JournalFull, drop_reason
from flowprov.journal.writer import SizeLimits
from flowprov.locks import is_held_here
from flowprov.threads import start_thread

MAX_QUEUED = 64 << 20  # bytes
CLOSE_WAIT_S = 5.0  # as long as the end of a program waits for delivery


class _QueuedAction:
    """Something that the thread does.

    Attributes
    ----------
    done
        A lock that is free once it is done.
    outcome
        A lock that is taken, and never freed, by whose the outcome is: the thread's, which does it, or of who
        waits for it no longer. To take it is one instruction, in the middle of which no signal handler comes.
    """

    __slots__ = ("action", "done", "error", "line", "outcome", "result")

    def __init__(self, action: Callable[[], Any], line: bytes = b"") -> None:
        self.action, self.line = action, line
        self.result: Any = None
        self.error: Exception | None = None
        self.outcome, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()


class QueuedWriter:
    """Append lines to a file that may hang.

    Parameters
    ----------
    file
        The file; the writer owns it from now on.
    limits
        How large the file may become.
    max_wait
        The most seconds that an append waits.

    Attributes
    ----------
    lock
        Held by whoever must not be disturbed by others that append.
    """

    name = "queued"

    def __init__(self, file: OwnFile, limits: SizeLimits, max_wait: float) -> None:
        # What stands in the queue was taken, so only the size at which recording stops is looked at there.
        self._writer = AppendWriter(file, limits._replace(roll_bytes=None), keep_gil=False)
        self.limits = limits
        self._path = file.path
        self._max_wait = max_wait
        self._jobs: deque[_QueuedAction] = deque()
        self._queued = 0  # bytes in memory, about
        self._behind = self._closed = self._held = False
        self._holder = 0
        self._lost: list[tuple[bytes, str]] = []
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._performing = threading.Lock()
        # Held until a line is in the queue. A signal handler that records meanwhile leaves no file for a next
        # one, in which this line would come behind the footer: see append_order.
        self._entering = threading.RLock()
        # How many events the thread has written, and what it has done last.
        self._written: tuple[int, _QueuedAction | None] = 0, None
        self._thread: threading.Thread | None = None
        self.lock = threading.RLock()
        self.fast_append: Callable[[bytes], object] = self.append

    def append(self, line: bytes) -> None:
        """Append one line; when the file system hangs, leave it to the thread after ``max_wait`` seconds.

        Raises
        ------
        JournalFull
            If the disk is full, the quota or the largest size is reached, or the queue is full.
        FileGrown
            If it is time for a next file, and the file system answers.
        OSError
            If the write fails for another reason.
        """
        with self._entering:
            if self._closed or (self._held and threading.get_ident() != self._holder):
                raise io.UnsupportedOperation("the file is closed, or another one is being created")
            roll_bytes = self.limits.roll_bytes
            if roll_bytes is not None and not self._behind and self.end() + len(line) > roll_bytes:
                raise FileGrown
            if self._queued + len(line) > MAX_QUEUED:
                raise JournalFull("queue_full")
            job = _QueuedAction(lambda: self._writer.append(line), line)
            waits = self._enter(job)
        if waits:
            self._wait_for(job, self._max_wait)

    def run(self, action: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return what a function returns that may hang; something else if it does not end in time."""
        job = _QueuedAction(action)
        return job.result if self._enter(job) and self._wait_for(job, self._max_wait) else otherwise

    @contextlib.contextmanager
    def holding_others(self) -> Iterator[None]:
        """Return a context in which no other thread appends: it is told to come again."""
        with self._entering:  # what others append now is in the queue before
            self._holder, self._held = threading.get_ident(), True
        try:
            yield
        finally:
            self._held = False

    def _enter(self, job: _QueuedAction, *, at_the_end: bool = False) -> bool:
        """Have the thread do something; return whether to wait for it."""
        waits = at_the_end or not self._behind
        if not waits:
            job.outcome.acquire()
        self._queued += len(job.line)
        self._jobs.append(job)
        self._start()
        self._wakes.put(None)
        return waits

    def _wait_for(self, job: _QueuedAction, seconds: float) -> bool:
        """Wait until something is done, for so many seconds at most; return whether it is."""
        done = job.done.acquire(timeout=seconds)
        if not done and not job.outcome.acquire(blocking=False):
            done = job.done.acquire()  # the thread has just done it
        if not done:
            self._fall_behind()
        elif job.error is not None:
            raise job.error
        return done

    def _fall_behind(self) -> None:
        self._behind = True
        guard.warn_once(
            f"behind {self._path}",
            "flowprov: the file system of %s does not answer. The program does not wait for it: up to %d MB "
            "of records stand in memory until it does. They are lost if the program is killed before.",
            self._path,
            MAX_QUEUED >> 20,
        )

    def _start(self) -> None:
        with self._entering:  # several threads may append the first lines
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=self._work, name="flowprov-writer", daemon=True)
            try:
                start_thread(self._thread)
            except RuntimeError as error:  # no thread can start: at exit, or at the limit of processes
                pass_on(error)
                self._thread = None
                self._perform_all()

    def _work(self) -> None:
        while not self._closed or self._jobs:
            self._wakes.get()
            self._perform_all()
            self._behind = False
        self._wakes.put(None)  # an interrupted start may have left another thread, which ends, too

    def _perform_all(self) -> None:
        # An exception from outside while the thread starts may have left two of them. Both would do the same.
        with self._performing:
            while self._jobs:
                job = self._jobs[0]
                self._perform(job)
                self._jobs.popleft()
                self._queued -= len(job.line)
        self._queued = 0  # about: an exception from outside, or two threads at once, leave it too high or low

    def _perform(self, job: _QueuedAction) -> None:
        try:
            job.result = job.action()
        except Exception as error:  # whoever waits for it raises it
            job.error = error
        is_written = job.error is None and is_event(job.line)
        self._written = self._written[0] + is_written, job  # at once: see events
        if not job.outcome.acquire(blocking=False) and job.error is not None and job.line:
            self._lost.append((job.line, drop_reason(job.error, closed=False)))
        job.done.release()

    def take_lost(self) -> list[tuple[bytes, str]]:
        """Return, once, the lines that were appended and could not be written, each with the reason."""
        lost, self._lost = self._lost, []
        return lost

    def end(self) -> int:
        """Return the offset behind the last line, with those that are still in memory.

        A line that is being written may count twice, and none may be left out: what was appended a moment ago
        is looked for before this offset. So the lines in memory come first, and `_queued`, which two threads
        change, is not asked.
        """
        in_memory = sum(len(job.line) for job in list(self._jobs))
        return self._writer.size + in_memory

    def events(self) -> int:
        """Return how many events were appended, with those that are still in memory.

        The file need not answer for that.
        """
        while True:
            written, last = before = self._written
            jobs = list(self._jobs)
            if self._written is before:  # nothing was done in between
                return written + sum(job is not last and is_event(job.line) for job in jobs)

    def go_on_from(self, writer: QueuedWriter) -> None:
        """Count the events that another writer has written to the file before."""
        self._written = writer.events(), None

    def is_appending(self) -> bool:
        """Whether this thread is in the middle of an append, and holds a lock for it."""
        return is_held_here(self._entering)

    def is_cut(self) -> bool:
        """Whether somebody else has cut the file."""
        return self._writer.is_cut()

    def read(self, length: int, offset: int) -> bytes:
        """Return bytes of the file, or of what stands in memory behind it.

        If the file system does not answer, zeros stand for what is in the file.
        """
        in_file, size, queued = self.run(lambda: self._look(length, offset)) or self._look_in_memory(
            length, offset
        )
        if offset + length <= size:
            return bytes(in_file)
        begin = max(0, offset - size)
        return bytes(in_file) + bytes(queued[begin : offset + length - size])

    def _look(self, length: int, offset: int) -> tuple[bytes, int, bytes]:
        """Return bytes of the file, its size, and what is queued, between two lines that are written."""
        size = self._writer.size
        in_file = b"" if offset >= size else self._writer.read(length, offset)
        return in_file, size, b"".join(job.line for job in list(self._jobs))

    def _look_in_memory(self, length: int, offset: int) -> tuple[bytes, int, bytes]:
        size = self._writer.size
        in_file = bytes(max(0, min(size - offset, length)))
        return in_file, size, b"".join(job.line for job in list(self._jobs))

    def prepare(self) -> None:
        """Do nothing: this writer has no work that could be done ahead."""

    def sync(self) -> None:
        """Flush all appended lines to the disk, if the file system answers."""
        self.run(self._writer.sync)

    def close(self) -> None:
        """Close the file, and wait a little until all is written."""
        if self._closed:
            return
        job = _QueuedAction(self._writer.close)
        try:
            closed = self._enter(job, at_the_end=True) and self._wait_for(job, CLOSE_WAIT_S)
        finally:
            self._closed = True
            self._wakes.put(None)
        if not closed:
            left = sum(bool(job.line) for job in list(self._jobs))
            guard.warn_once(
                f"unwritten {self._path}",
                "flowprov: the file system of %s has not answered for %g seconds. The last %d lines of it "
                "are not written.",
                self._path,
                CLOSE_WAIT_S,
                left,
            )

    def end_thread(self) -> None:
        """End the thread of a file that is not used."""
        self._closed = True
        self._wakes.put(None)

    def abandon(self) -> None:
        """Leave the file to the parent, in a forked child; closing it could hang."""
        self._closed, self._jobs = True, deque()
        self.lock, self._entering = threading.RLock(), threading.RLock()
        self._performing = threading.Lock()


def count_lost(counts: EventCounts, writer: object) -> None:
    """Count the events that a queue took and could not write."""
    for line, reason in writer.take_lost() if isinstance(writer, QueuedWriter) else ():
        if is_event(line):
            counts.distrust()
            counts.drop(reason)
