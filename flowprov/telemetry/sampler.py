"""Read the probes at an interval and write samples, in one daemon thread per process.

Flows in: the readings of the probes. Flows out: samples in each journal that is in use, as control records.
A sample holds all values at first and once a minute, and in between only what changed.

The hot path does not touch the sampler. The maintenance starts it when there is a journal. It takes a last
sample when the process ends, and is stopped before a fork. A driver that hangs blocks only this thread, which
is left behind when the process ends.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from flowprov import guard
from flowprov.clock import clock
from flowprov.journal import Journal
from flowprov.journal.merge_patch import diff
from flowprov.records import Machine, Sample
from flowprov.settings import TelemetrySettings
from flowprov.telemetry.probe import Probe
from flowprov.telemetry.registry import load_factories, machine_values, read_all
from flowprov.threads import start_thread

WHOLE_EVERY = 60.0  # seconds after which a whole sample restores what a damaged line lost
_MAX_UNUSED_STATES = 100  # states of journals that are no longer in use, before these states are dropped
_IDLE_INTERVAL = 60.0  # seconds between two rounds if no kind is sampled
_encode = msgspec.json.Encoder().encode


class _SampleState:
    """What a journal holds up to the last sample."""

    def __init__(self) -> None:
        self.captured = 0
        self.values: dict[str, Any] | None = None
        self.whole_due = 0.0
        self.machine: dict[str, Any] | None = None


class Sampler:
    """Samples the telemetry of a process.

    Parameters
    ----------
    settings
        Which kinds to sample, and how often.
    journals
        Returns the journals of the process.
    probes
        Probes to use instead of those that the settings ask for.

    Attributes
    ----------
    exact_reader
        Takes a reading at once and returns it as JSON, from any thread. None unless
        ``telemetry_capture.mode`` is exact.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        journals: Callable[[], Iterable[Journal]],
        probes: list[Probe] | None = None,
    ) -> None:
        self._factories = load_factories(settings) if probes is None else [lambda: probes]
        self._probes_lock = threading.RLock()
        self._created_probes: list[Probe] | None = None
        self._interval = settings.interval if self._factories else _IDLE_INTERVAL
        self._journals = journals
        self._states: dict[str, _SampleState] = {}
        self._lock = threading.RLock()
        # The lock is held while the thread sleeps. Waiting for an Event would take ten times as long.
        self._wake = threading.Lock()
        self._due = 0.0
        self._stopping = self._ending = False
        self._thread: threading.Thread | None = None
        exact = settings.mode == "exact" and bool(self._factories)
        self.exact_reader: Callable[[], bytes] | None = self._read_now if exact else None

    @property
    def _probes(self) -> list[Probe]:
        """The probes. They are created at their first use, in the thread or by an exact reading."""
        if self._created_probes is None:
            with self._probes_lock:
                if self._created_probes is None:
                    self._created_probes = [probe for create in self._factories for probe in create()]
        return self._created_probes

    def start(self) -> None:
        """Start the thread if it is not running."""
        with self._lock:
            if self._thread is not None or self._ending:
                return
            self._stopping = False
            self._wake.acquire(blocking=False)
            thread = threading.Thread(target=self._run, name="flowprov-sampler", daemon=True)
            try:
                start_thread(thread)
            except RuntimeError as error:  # no thread can be started, at exit or at the limit of processes
                guard.report_internal_error("starting the telemetry thread", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        while not self._stopping:
            if (now := time.monotonic()) >= self._due:  # it is earlier if a fork interrupted the wait
                self._take_sample()
                self._due += self._interval
                if self._due <= now:  # samples that were missed while the machine slept are not made up for
                    self._due = now + self._interval
            self._wake.acquire(timeout=max(self._due - time.monotonic(), 0))
        if self._ending:
            self._take_sample()

    def _take_sample(self) -> None:
        """Write a sample to each journal in use."""
        try:
            due = [journal for journal in self._journals() if self._is_due(journal)]
            if not due:
                return
            at = clock.now()
            values = read_all(self._probes)
            if len(self._states) > len(due) + _MAX_UNUSED_STATES:
                current = {journal.journal_id for journal in self._journals()}
                self._states = {name: state for name, state in self._states.items() if name in current}
            for journal in due:
                self._write_sample(journal, self._states[journal.journal_id], at, values)
        except Exception as error:  # the guard of this thread
            guard.report_internal_error("sampling telemetry", error)

    def _is_due(self, journal: Journal) -> bool:
        """Whether a journal has an open scope, or captured something since its last sample."""
        if journal.path is None or journal.closed:
            return False
        state = self._states.get(journal.journal_id)
        if state is None:
            state = self._states[journal.journal_id] = _SampleState()
        if journal.open_scopes or self._ending:
            return True
        before = state.captured
        state.captured, _, _ = journal.counts()
        return state.captured != before

    def _write_sample(self, journal: Journal, state: _SampleState, at: int, values: dict[str, Any]) -> None:
        now = time.monotonic()
        whole = state.values is None or now >= state.whole_due
        if whole:
            state.whole_due = now + WHOLE_EVERY
        if whole or self._ending:
            self._write_machine(journal, state, at)
        if not self._probes:
            return
        if whole or state.values is None:
            sample = Sample(at=at, values=values)
        else:
            sample = Sample(at=at, changes=diff(state.values, values))
        # After a sample that did not fit into the journal, the next one is whole.
        state.values = values if journal.write_control(sample) else None

    def _write_machine(self, journal: Journal, state: _SampleState, at: int) -> None:
        machine = machine_values(self._probes)
        if machine != state.machine and journal.write_control(Machine(at=at, values=machine)):
            state.machine = machine

    def _read_now(self) -> bytes:
        """Return an exact reading as JSON."""
        try:
            return _encode({"sampled_at": clock.now(), **read_all(self._probes)})
        except Exception as error:  # the guard: the record is written without it
            guard.report_internal_error("reading telemetry", error)
            return b"null"

    def stop(self, timeout: float) -> bool:
        """Stop the thread, before a fork; return False if it did not stop in time."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._stopping = True
        with contextlib.suppress(RuntimeError):  # the thread is awake: the lock is not held
            self._wake.release()
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def resume(self) -> None:
        """Start the thread again after :meth:`stop`, if a journal is in use."""
        if any(journal.path is not None and not journal.closed for journal in self._journals()):
            self.start()

    def end(self, timeout: float) -> bool:
        """Take a last sample and stop; return False if the probes did not answer in time."""
        self.start()  # a program that ends at once has no sample yet
        self._ending = True
        ended = self.stop(timeout)
        if ended:
            for probe in self._created_probes or ():
                probe.close()
        return ended
