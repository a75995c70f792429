"""The version records of workflows: code, data and environment, found out in the background.

Flows in: workflows that open and end. Flows out: a version record for each that opened, and another one where
something moved until it ended.

Git takes longer than a program may wait, so a thread asks it. It works off all that has come meanwhile in one
go, and rests between two goes for longer than one took: a program with thousands of workflows is not slowed
down by it. At its end the process waits ``versions.timeout`` at most.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.environment import code, launchers
from flowprov.environment.repository import Repository
from flowprov.journal import Journal
from flowprov.journal.object_store import keep_object
from flowprov.locks import create_lock
from flowprov.runtime import runtime
from flowprov.settings import VersionSettings
from flowprov.threads import AutoResetEvent, start_thread
from flowprov.versioning.examination import Examination, Surroundings, examine, surroundings
from flowprov.versioning.pending import set_finish

_GRACE_S = 0.2  # for killing a git that takes too long
_REST = 9  # times as long as the last go took
_MAX_REST_S = 5.0
# Times of files are those of a clock that ticks: what changed before a tick has an earlier time than what
# changed behind it.
_TICKING_CLOCK = 5 if sys.platform == "linux" else None  # CLOCK_REALTIME_COARSE
_MAX_TICK_S, _TICK_POLL_S = 0.005, 0.0002
_BETWEEN_TICKS_S = 1.0  # waiting for a tick happens no more often
_VOLATILE = ("took_ns", "at", "moment", "reason")


@dataclass(frozen=True, eq=False)
class _Asked:
    """A workflow whose version is to be found out."""

    journal: Journal
    workflow_id: str
    moment: str
    at: int | None
    where: Surroundings
    settings: VersionSettings
    asked_at: int


class VersionRecorder:
    """Finds out versions in a thread of its own, which ends when there is nothing to do."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._lock = create_lock()
        self._waiting: list[_Asked] = []
        self._answering = create_lock()  # held while a record is written, never while one is found out
        self._unanswered: dict[_Asked, None] = {}
        self._thread: threading.Thread | None = None
        self._woken = AutoResetEvent()
        self._hurry = False
        self._finish_by = float("inf")
        self._found: dict[tuple[Journal, str], bytes] = {}  # of open workflows, what their start was
        self._last_tick = float("-inf")
        self.settings: dict[tuple[Journal, str], VersionSettings] = {}  # of open workflows

    def ask(self, asked: _Asked) -> None:
        """Have a version found out; return at once."""
        with self._lock:
            self._waiting.append(asked)
            self._unanswered[asked] = None
            self._start()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="flowprov-versions", daemon=True)
            try:
                start_thread(self._thread)
            except RuntimeError:  # the interpreter ends: what waits is done at the end of the process
                self._thread = None

    def finish(self, timeout: float) -> None:
        """Find out what is waited for, for so many seconds at most, and record what remains as unknown."""
        deadline = time.monotonic() + timeout
        self._finish_by, self._hurry = deadline, True
        self._woken.set()
        try:
            if (thread := self._thread) is not None:
                with contextlib.suppress(RuntimeError):  # its start was interrupted, and it does not run
                    thread.join(timeout + _GRACE_S)
        finally:
            with self._lock:
                self._hurry, self._finish_by = False, float("inf")
                asked, self._waiting = self._waiting, []
        self._work_off(asked, deadline)

    def give_up(self, journal: Journal) -> None:
        """Record as unknown what is not found out yet for a journal that is about to be closed."""
        for one in [one for one in self._unanswered.copy() if one.journal is journal]:
            self._answer(one, examine(one.where, one.settings, time.monotonic()))
        with self._answering:  # what another thread writes to it just now comes before its end
            self._found = {key: digest for key, digest in self._found.items() if key[0] is not journal}

    def is_busy(self) -> bool:
        """Whether something is being found out, or waits for it."""
        return self._thread is not None or bool(self._waiting)

    def moment(self) -> int:
        """Return a moment by which a change before this call can be told from one behind it.

        For that it waits for a tick of the clock of files, 4 ms at most, but only once a second.
        """
        if _TICKING_CLOCK is None:
            return time.time_ns()
        now, begun = time.clock_gettime_ns(_TICKING_CLOCK), time.monotonic()
        if begun - self._last_tick < _BETWEEN_TICKS_S:
            return now + 1
        self._last_tick = begun
        while (tick := time.clock_gettime_ns(_TICKING_CLOCK)) == now:
            if time.monotonic() - begun > _MAX_TICK_S:
                return now + 1
            time.sleep(_TICK_POLL_S)
        return tick

    def _work(self) -> None:
        """Work off what is asked until nothing is; this is the thread."""
        while asked := self._next():
            begun = time.monotonic()
            with guard.guarded("finding out the version of code and data"):
                self._work_off(asked, self._finish_by)
            took = time.monotonic() - begun
            if not self._hurry:
                self._woken.wait(min(_REST * took, _MAX_REST_S))
        if self._hurry:
            self._woken.set()  # an interrupted start may have left another thread, which ends, too

    def _next(self) -> list[_Asked]:
        with self._lock:
            asked, self._waiting = self._waiting, []
            if not asked and self._thread is threading.current_thread():
                self._thread = None  # from here on, whoever asks starts another one
            return asked

    def _work_off(self, asked: list[_Asked], deadline: float) -> None:
        """Examine what was asked, all that is the same only once."""
        groups: dict[Any, list[_Asked]] = {}
        for one in filter(self._unanswered.__contains__, asked):
            groups.setdefault((one.moment, one.where, one.settings), []).append(one)
        if asked:
            deadline = min(deadline, time.monotonic() + asked[0].settings.timeout)
        for group in groups.values():
            first = group[0]
            earliest = min((one.at for one in group if one.at is not None), default=None)
            buffer = Path(first.journal.settings.path)
            try:
                found = examine(first.where, first.settings, deadline, moment=earliest, buffer=buffer)
            except Exception as error:  # the guard: each workflow of the group has lost its record
                for one in group:
                    if self._claim(one):
                        one.journal.drop("version")
                guard.report_internal_error("finding out the version of code and data", error)
                continue
            for one in group:
                self._answer(one, found)

    def _claim(self, asked: _Asked) -> bool:
        """Whether nobody has answered this before; from now on somebody has."""
        return self._unanswered.pop(asked, self) is None

    def _answer(self, asked: _Asked, found: Examination) -> None:
        """Write a version record, once, if nobody has yet; that of an end only if it says something new."""
        key = (asked.journal, asked.workflow_id)
        fields = dict(found.fields)
        digest = _digest(fields)
        is_new = asked.moment == "start" or self._found.get(key) != digest
        if is_new and asked in self._unanswered:
            with guard.guarded("keeping the list of packages"):
                _keep(asked.journal, found, fields)
        with self._answering:
            if not self._claim(asked):
                return
            if asked.moment == "start":
                self._found[key] = digest
            else:
                self._found.pop(key, None)
            if is_new:
                record = records.Version(
                    workflow_id=asked.workflow_id, moment=asked.moment, at=asked.asked_at, **fields
                )
                asked.journal.append_addition(records.encode(record))


def note_opening(journal: Journal, workflow_id: str, repository: Repository | None) -> None:
    """Have the version found out on which a workflow begins to run."""
    settings = runtime.get().settings.versions
    if not (settings.code or settings.data or settings.packages) or _is_further_rank():
        return
    recorder = _recorder()
    recorder.settings[journal, workflow_id] = settings
    moment = recorder.moment() if repository is not None else None
    where = surroundings(repository)
    recorder.ask(_Asked(journal, workflow_id, "start", moment, where, settings, clock.now()))


def note_ending(journal: Journal, workflow_id: str) -> None:
    """Have it found out whether something moved while a workflow ran."""
    recorder = _recorder_of_process
    if recorder is None or recorder.process != os.getpid():
        return
    settings = recorder.settings.pop((journal, workflow_id), None)
    if settings is not None:
        where = surroundings(code.repository_of_program())
        recorder.ask(_Asked(journal, workflow_id, "end", None, where, settings, clock.now()))


def finish_versions() -> None:
    """Wait a little for what is still being found out: at the end of a process, or before it goes on."""
    recorder = _recorder_of_process
    if recorder is not None and recorder.process == os.getpid() and recorder.is_busy():
        recorder.finish(runtime.get().settings.versions.timeout)


def _give_up(journal: Journal) -> None:
    recorder = _recorder_of_process
    if recorder is not None and recorder.process == os.getpid():
        recorder.give_up(journal)


_recorder_of_process: VersionRecorder | None = None


def _recorder() -> VersionRecorder:
    """Return the recorder of this process; a forked child has one of its own."""
    global _recorder_of_process  # noqa: PLW0603 - one slot per process
    recorder = _recorder_of_process
    if recorder is None or recorder.process != os.getpid():
        recorder = _recorder_of_process = VersionRecorder()
        set_finish(finish_versions)
    active = runtime.get()
    if finish_versions not in active.before_close:
        active.before_close.insert(0, finish_versions)
        active.before_idle_close.append(_give_up)
    return recorder


def _is_further_rank() -> bool:
    """Whether another rank records the versions of this one's workflows, which are the same in all ranks."""
    rank, _ = launchers.rank_and_world_size()
    job = launchers.current_job()
    return rank not in (None, 0) and job is not None and job.job_id is not None


def _keep(journal: Journal, found: Examination, fields: dict[str, Any]) -> None:
    """Keep packages and patch in the object store beside the journal."""
    if journal.path is None:
        return
    folder, mode = journal.path.parent.parent, journal.settings.file_mode
    try:
        if found.packages is not None:
            keep_object(folder, found.packages, mode)
        if found.patch is not None:
            fields["patch_sha256"] = keep_object(folder, found.patch, mode)
    except OSError as error:  # a full disk, for instance
        guard.pass_on(error)
        guard.warn_once(
            "keeping packages and patch",
            "flowprov could not keep the list of packages, or the patch of the code, in %s: %s. The digest "
            "of the packages is recorded, and the program goes on. This is said once.",
            folder,
            error,
        )


def _digest(fields: dict[str, Any]) -> bytes:
    """Return a digest of what must differ for an end to be recorded."""
    kept = {name: value for name, value in fields.items() if name not in _VOLATILE}
    if kept.get("code"):
        kept["code"] = {name: value for name, value in kept["code"].items() if name not in _VOLATILE}
    return hashlib.sha256(msgspec.json.encode(kept, order="sorted")).digest()
