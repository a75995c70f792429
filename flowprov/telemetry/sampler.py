"""The sampler: one daemon thread per process that reads the probes and writes samples.

Flows in: the probes, at an interval. Flows out: samples into each journal that is in use, as control records:
all values at first and once a minute, in between what changed. The hot path knows nothing of it.

It is started by the keeper when there is a journal, takes a last sample as the process ends, and is stopped
before a fork. Whatever hangs in a driver hangs here, and is left behind at the end.
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
from flowprov.telemetry.registry import describe_machine, prepare, read_all

WHOLE_EVERY = 60.0  # seconds: what a damaged line takes away is there again after that
_FORGOTTEN = 100  # journals that are over, before what is known of them is let go of
_IDLE = 60.0  # seconds between two looks where no kind is sampled
_encode = msgspec.json.Encoder().encode


class _SampleState:
    """What a journal holds so far."""

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
        Which kinds, and how often.
    journals
        Lists the journals of the process.
    probes
        In place of those that the settings ask for.

    Attributes
    ----------
    exact_reader
        Takes a reading at once, as JSON, from any thread; None unless ``telemetry_capture.mode`` is exact.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        journals: Callable[[], Iterable[Journal]],
        probes: list[Probe] | None = None,
    ) -> None:
        self._makers = prepare(settings) if probes is None else [lambda: probes]
        self._making = threading.Lock()
        self._made: list[Probe] | None = None
        self._interval = settings.interval if self._makers else _IDLE
        self._journals = journals
        self._states: dict[str, _SampleState] = {}
        self._lock = threading.Lock()
        # Held while the thread is to sleep: to wait for an Event takes ten times as long.
        self._wake = threading.Lock()
        self._due = 0.0
        self._stopping = self._ending = False
        self._thread: threading.Thread | None = None
        exact = settings.mode == "exact" and bool(self._makers)
        self.exact_reader: Callable[[], bytes] | None = self._read_now if exact else None

    @property
    def _probes(self) -> list[Probe]:
        """The probes, made where they are needed first: in the thread, or in an exact reading."""
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = [probe for make in self._makers for probe in make()]
        return self._made

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        with self._lock:
            if self._thread is not None or self._ending:
                return
            self._stopping = False
            self._wake.acquire(blocking=False)
            thread = threading.Thread(target=self._run, name="flowprov-sampler", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no thread can be had: at exit, or at the limit of processes
                guard.report_internal_error("starting the telemetry thread", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        while not self._stopping:
            if (now := time.monotonic()) >= self._due:  # not so where a fork only interrupted it
                self._take()
                self._due += self._interval
                if self._due <= now:  # what was missed, while the machine slept, is not made up for
                    self._due = now + self._interval
            self._wake.acquire(timeout=max(self._due - time.monotonic(), 0))
        if self._ending:
            self._take()

    def _take(self) -> None:
        """Take a sample, if a journal is in use."""
        try:
            wanting = [journal for journal in self._journals() if self._is_due(journal)]
            if not wanting:
                return
            at = clock.now()
            values = read_all(self._probes)
            if len(self._states) > len(wanting) + _FORGOTTEN:
                known = {journal.journal_id for journal in self._journals()}
                self._states = {name: told for name, told in self._states.items() if name in known}
            for journal in wanting:
                self._write_sample(journal, self._states[journal.journal_id], at, values)
        except Exception as error:  # the guard of this thread
            guard.report_internal_error("sampling telemetry", error)

    def _is_due(self, journal: Journal) -> bool:
        """Whether something is open in a journal, or came since the sample before."""
        if journal.path is None or journal.closed:
            return False
        told = self._states.get(journal.journal_id)
        if told is None:
            told = self._states[journal.journal_id] = _SampleState()
        if journal.open_scopes or self._ending:
            return True
        before = told.captured
        told.captured, _, _ = journal.counts()
        return told.captured != before

    def _write_sample(self, journal: Journal, told: _SampleState, at: int, values: dict[str, Any]) -> None:
        now = time.monotonic()
        whole = told.values is None or now >= told.whole_due
        if whole:
            told.whole_due = now + WHOLE_EVERY
        if whole or self._ending:
            self._write_machine(journal, told, at)
        if not self._probes:
            return
        if whole or told.values is None:
            sample = Sample(at=at, values=values)
        else:
            sample = Sample(at=at, changes=diff(told.values, values))
        # One that found no room is made up for by the next, which is whole.
        told.values = values if journal.write_control(sample) else None

    def _write_machine(self, journal: Journal, told: _SampleState, at: int) -> None:
        machine = describe_machine(self._probes)
        if machine != told.machine and journal.write_control(Machine(at=at, values=machine)):
            told.machine = machine

    def _read_now(self) -> bytes:
        """Take a reading here and now, for a record of its own."""
        try:
            return _encode({"sampled_at": clock.now(), **read_all(self._probes)})
        except Exception as error:  # the guard: the record is written without it
            guard.report_internal_error("reading telemetry", error)
            return b"null"

    def stop(self, timeout: float) -> bool:
        """Stop the thread for now, before a fork; False if it did not end in time."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._stopping = True
        with contextlib.suppress(RuntimeError):  # it is awake
            self._wake.release()
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def resume(self) -> None:
        """Go on after :meth:`stop`, if there is something to sample."""
        if any(journal.path is not None and not journal.closed for journal in self._journals()):
            self.start()

    def end(self, timeout: float) -> bool:
        """Take a last sample and stop; False if the probes did not answer in time."""
        self.start()  # of a program that ends at once nothing was sampled yet
        self._ending = True
        ended = self.stop(timeout)
        if ended:
            for probe in self._made or ():
                probe.close()
        return ended
