"""The digester: threads that read what was logged, while the program goes on.

Flows in: artifacts whose lines are in the journal. Flows out: a digest record for each, and copies of those
that are kept. What is not read when the program ends stays pending: its record has no digest, and
``flowprov digest`` completes it.

The threads start with the first artifact. They are the program's last concern: the end waits for them as long
as the settings say, and a forked child has none of what its parent reads.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable

import msgspec

from flowprov import guard, records
from flowprov.capture.artifacts.handle import Artifact
from flowprov.contents.content import Content
from flowprov.contents.digest_record import digest_record
from flowprov.contents.kept_files import ObjectStore
from flowprov.contents.reading import Reading, StoppedError
from flowprov.contents.stat_cache import STAT_CACHE
from flowprov.journal import Journal
from flowprov.regular_files import FileIdentity, close_own
from flowprov.runtime import runtime
from flowprov.threads import start_thread

SMALL_BYTES = 1_000_000
"""The largest artifact that ``artifacts.keep: small`` keeps."""

_FORK_WAIT_S = 1.0
_MAX_OPEN = 64  # files that are held open until they are read


class Job(msgspec.Struct, eq=False):
    """An artifact that is to be read.

    Attributes
    ----------
    artifact
        Its handle.
    number, journal
        Its number, and the journal that has its line.
    path
        Where it lies, as the file system takes it.
    read
        Returns its content.
    descriptor
        The file, if it is held open: so it is found, whatever becomes of its name.
    keep
        Which copy is kept: ``"all"``, ``"small"`` or None.
    data
        The bytes of an object that is kept.
    """

    artifact: Artifact
    number: int
    journal: Journal
    path: str
    read: Callable[[Job, Reading], Content]
    descriptor: int | None = None
    identity: FileIdentity | None = None
    keep: str | None = None
    data: bytes | None = None

    def close(self) -> None:
        """Close the file."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                close_own(descriptor, self.identity)


class Digester:
    """The threads of one process, and what they have to do."""

    def __init__(self) -> None:
        self._begin()
        self._registered = False

    def _begin(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.RLock()
        self._pending: dict[Job, None] = {}
        self._writing = threading.RLock()
        self._stopping = False

    def may_hold(self) -> bool:
        """Whether another file may be held open until it is read."""
        return sum(job.descriptor is not None for job in list(self._pending)) < _MAX_OPEN

    def submit(self, job: Job) -> None:
        """Have an artifact read; where the program has ended, it stays pending."""
        active = runtime.get()
        if active.ended:
            job.close()
            job.artifact.settle(None)
            return
        if not self._registered:
            self._registered = True
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )
        if self.finish not in active.at_exit:
            active.at_exit.append(self.finish)
        self._stopping = False
        self._pending[job] = None
        self._jobs.put(job)
        self._start(active.settings.artifacts.threads)

    def _start(self, most: int) -> None:
        with self._starting:  # a thread that is not listed would be one too many, and never end
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) >= min(most, len(self._pending)):
                return
            thread = threading.Thread(target=self._run, name="flowprov-digester", daemon=True)
            self._threads.append(thread)
            try:
                start_thread(thread)
            except RuntimeError as error:  # no thread can start: at the limit of processes
                for job in self._give_up():
                    job.close()
                guard.report_internal_error("starting a thread that reads artifacts", error)

    def _run(self) -> None:
        while not self._stopping:
            job = self._jobs.get()
            if job in self._pending:  # else it was given up, or this is how the end wakes the thread
                self._do(job)

    def _do(self, job: Job) -> None:
        content: Content | None = None
        try:
            settings = runtime.get().settings.artifacts
            reading = Reading(
                weights=settings.weights, max_bytes=settings.max_bytes, stop=lambda: self._stopping
            )
            content = job.read(job, reading)
            if content.state in ("missing", "unreadable"):
                warn_not_read(job.path, content)
            self._keep(job, content)
            self._write(job, content)
        except StoppedError:
            pass
        except Exception as error:  # a thread of ours; one artifact must not cost the next
            guard.count_internal_error("reading an artifact", error)
        finally:
            job.close()
            self._pending.pop(job, None)
            job.artifact.settle(content)

    def _keep(self, job: Job, content: Content) -> None:
        small = content.size is not None and content.size <= SMALL_BYTES
        if content.sha256 is None or job.keep is None or (job.keep == "small" and not small):
            return
        journal = job.journal
        store = ObjectStore(
            journal.settings.path, journal.identity.campaign_id, int(journal.settings.mode, 8)
        )
        try:
            if job.data is not None:
                store.keep_bytes(job.data, content.sha256)
            else:
                store.keep(job.path, content, job.descriptor)
        except OSError as error:
            guard.warn_once(
                "keeping an artifact",
                "flowprov could not keep a copy of %s: %s. Its digest is recorded. This is said once.",
                job.path or job.artifact.name,
                error,
            )

    def _write(self, job: Job, content: Content) -> None:
        with self._writing:
            write_digest(job.journal, job.number, content)

    def finish(self) -> None:
        """Wait for what is being read, as long as the settings say, and give up the rest."""
        active = runtime.peek()
        timeout = 0.0 if active is None else active.settings.artifacts.close_timeout
        deadline = time.monotonic() + timeout
        try:
            for job in list(self._pending):
                job.artifact.wait(max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:  # whoever presses Ctrl-C now has waited enough: the journals are closed yet
            pass
        self._stopping = True
        left = self._give_up()
        for _ in self._threads:
            self._jobs.put(_WAKE)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(0.5)
        if left:
            guard.logger.warning(
                "flowprov: the digest of %d %s is not computed yet. The records say pending; "
                "`flowprov digest` completes them.",
                len(left),
                "artifact" if len(left) == 1 else "artifacts",
            )

    def _give_up(self) -> list[Job]:
        """Let nobody wait any more for what is not read; return what that is."""
        left = list(self._pending)
        for job in left:
            self._pending.pop(job, None)
            job.artifact.settle(job.artifact.content)
        return left

    def _before_fork(self) -> None:
        # Else a lock that a digest is written under would stay locked in the child. A signal handler that
        # forks in the middle of an append must not wait forever: a digest may wait for that append.
        self._writing.acquire(timeout=_FORK_WAIT_S)

    def _after_fork_in_parent(self) -> None:
        with contextlib.suppress(RuntimeError):  # another thread registered this in the middle of this fork
            self._writing.release()

    def _after_fork_in_child(self) -> None:
        pending = list(self._pending)
        self._begin()
        STAT_CACHE.clear()
        for job in pending:  # the parent reads these
            job.close()
            job.artifact.settle(None)


def write_digest(journal: Journal, number: records.LocalId, content: Content) -> None:
    """Write what an artifact holds, beside its line; a journal that was closed goes on in another."""
    if journal.closed and not runtime.get().ended:
        number = journal.full_id(number)
        journal = runtime.get().journal(journal.identity.campaign_id, journal.settings.path)
    journal.append_addition(records.encode(digest_record(number, content)))


def warn_not_read(path: str | None, content: Content) -> None:
    """Say of the first artifact that it is missing or unreadable."""
    guard.warn_once(
        f"artifact {content.state}",
        "flowprov: %s was logged as an artifact, and is %s (%s). Its record says so, and the program goes "
        "on. Of further ones nothing is said.",
        path or "an object",
        content.state,
        content.reason,
    )


DIGESTER = Digester()
_WAKE = Job(
    artifact=Artifact("used", name=None, kind="file", path=None, content=Content(state="skipped")),
    number=-1,
    journal=None,  # type: ignore[arg-type]
    path="",
    read=lambda _job, _reading: Content(state="skipped"),
)
