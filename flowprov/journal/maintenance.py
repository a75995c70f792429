"""The maintenance of journals: one daemon thread per process for the work that stays off the hot path.

Flows in: the journals that were opened. Flows out: heartbeats, new segments prepared and old ones unmapped.
The thread starts with the first journal and sleeps between heartbeats. It is stopped before a fork, so that
no child inherits half of a step.

An exception from outside may interrupt the thread of the program at any instruction here. What was not
started is started at the next call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from flowprov import guard
from flowprov.journal.interruptions import pass_on
from flowprov.journal.journal import Journal
from flowprov.threads import AutoResetEvent, start_thread


class JournalMaintenance:
    """Writes the heartbeats of a process's journals, and prepares their segments.

    Parameters
    ----------
    on_heartbeat
        Called with each new journal, and with each journal after its heartbeats.
    on_begin
        Called with each new journal, by the thread that began it.
    """

    def __init__(
        self,
        on_heartbeat: Callable[[Journal], None] | None = None,
        on_begin: Callable[[Journal], None] | None = None,
    ) -> None:
        self._on_heartbeat = on_heartbeat
        self._on_begin = on_begin
        self._journals: list[Journal] = []
        self._new: list[Journal] = []
        self._due: dict[Journal, float] = {}
        self._lock = threading.RLock()
        self._woken = AutoResetEvent()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def watched(self) -> list[Journal]:
        """Return the journals that are maintained: those that have a file."""
        return self._journals.copy()

    def watch(self, journal: Journal) -> None:
        """Maintain a journal from now on; start the thread at the first one."""
        with self._lock:
            if journal not in self._journals:  # a journal that created another file is here already
                self._journals.append(journal)
            self._new.append(journal)
            self._due[journal] = time.monotonic() + journal.settings.heartbeat
            self._start()
        self.wake()
        if self._on_begin is not None:
            self._on_begin(journal)

    def _start(self) -> None:
        if self._journals and (self._thread is None or not self._thread.is_alive()):
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="flowprov-maintenance", daemon=True)
            try:
                start_thread(self._thread)
            except RuntimeError as error:  # no thread can start: at exit, or at the limit of processes
                pass_on(error)
                self._thread = None
                guard.report_internal_error("starting the maintenance thread", error)

    def _run(self) -> None:
        # The start of an earlier thread may have been interrupted before anybody could see it run.
        while not self._stopping and self._thread is threading.current_thread():
            pause = self._maintain_once()
            self._woken.wait(pause)
        self.wake()  # an interrupted start may have left another thread, which ends, too

    def _maintain_once(self) -> float:
        """Maintain each journal; return the seconds until the next heartbeat is due."""
        now = time.monotonic()
        pause = 3600.0
        for journal in list(self._journals):
            try:
                if journal.closed:
                    self.forget(journal)
                    continue
                due = self._due.get(journal)
                if due is None:  # another thread has just closed it as idle
                    continue
                journal.prepare()
                if now >= due:
                    due = self._due[journal] = now + journal.settings.heartbeat
                    journal.write_heartbeat()
                    self._call_on_heartbeat(journal)
                pause = min(pause, due - now)
            except Exception as error:  # a fault in one journal must not stop the maintenance of the others
                guard.report_internal_error("maintaining a journal", error)
        with contextlib.suppress(IndexError):  # a thread from before a fork may take them, too
            while True:
                self._call_on_heartbeat(self._new.pop(0))
        return max(pause, 0.001)

    def _call_on_heartbeat(self, journal: Journal) -> None:
        if self._on_heartbeat is None:
            return
        try:
            self._on_heartbeat(journal)
        except Exception as error:  # a fault of a callback must not stop the maintenance
            guard.report_internal_error("watching the delivery of a journal", error)

    def wake(self) -> None:
        """Maintain the journals now."""
        self._woken.set()

    def forget(self, journal: Journal) -> None:
        """Stop maintaining a journal."""
        with self._lock:
            if journal in self._journals:
                self._journals.remove(journal)
            self._due.pop(journal, None)

    def stop(self, timeout: float = 1.0) -> bool:
        """Stop the thread; return False if it did not end in time."""
        thread = self._thread
        if thread is None:
            return True
        self._stopping = True
        self.wake()
        if thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # its start was interrupted, and it does not run yet
                thread.join(timeout)
        self._thread = None
        return not thread.is_alive()

    def resume(self) -> None:
        """Start the thread again after :meth:`stop`, in the parent of a fork."""
        with self._lock:
            self._start()
