"""The executions of tasks that are going on in one worker.

Flows in: that a task's state has changed. Flows out: a RUNNING record when it starts, before its function
does, and a record of the end when it ends. What counts is executions: a key that runs again is another one.

All of this runs in the worker's event loop, and nothing of it does more than append to the journal.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from flowprov import guard
from flowprov.capture.dask import encoding, internal_tasks, origin, task_spec
from flowprov.capture.dask.fetch.worker import announce
from flowprov.capture.failures import count_lost_event, run_end_callbacks, sanitize_text
from flowprov.capture.function_spec import encode
from flowprov.capture.recorder import open_scope, telemetry_at_end_field, thread_field
from flowprov.clock import clock, ticks
from flowprov.journal import Journal
from flowprov.line_templates import DASK_TASK
from flowprov.records import Error, LeftOut, Status
from flowprov.records import encode as encode_record
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

_RUNS = ("executing", "long-running")
_encode_ours = msgspec.json.Encoder(enc_hook=str).encode  # what we say ourselves of a task holds no secrets


class Execution(msgspec.Struct, eq=False):
    """A task that runs now: the scope of what is in it, where it comes from, and what its end repeats.

    Attributes
    ----------
    scope
        Its ``place`` holds what both of its records say.
    origin
        Where it belongs.
    metadata
        What is said of it, encoded.
    began
        Start by the wall clock.
    """

    scope: Scope
    origin: origin.TaskContext
    metadata: bytes
    began: int

    def line(self, status: Status, metadata: bytes, rest: bytes) -> bytes:
        """Give a record of it, put together like those of ``capture.lines``: ``Task`` says what it means."""
        key: Any = self.scope.key
        return DASK_TASK % (
            key,
            self.scope.line_prefix,
            self.began,
            _STATUS[status],
            metadata,
            rest,
        )


_STATUS = {status: status.value.encode() for status in Status}
_MAX_DESTINATIONS = (
    4  # submissions whose tasks take turns on a worker, as those of a map and of one of its results do
)
_ENDED = {"memory": Status.FINISHED, "error": Status.ERROR}  # by Dask's name for it


class _Destination(NamedTuple):
    """Where tasks belong whose annotation is the same.

    Attributes
    ----------
    annotation, runtime
        The annotation, and what the process had of flowprov when it was read.
    origin
        What it says.
    journal
        Where their records go.
    fragment
        The part of their lines that says it.
    """

    annotation: Any
    runtime: runtime.Runtime
    origin: origin.TaskContext
    journal: Journal
    fragment: bytes


class Executions:
    """What runs in one worker.

    Parameters
    ----------
    worker
        The worker; not kept alive by this.

    Attributes
    ----------
    running
        The executions that are going on, by key.
    owner
        The plugin that reports to this; there is one, however often it is registered.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = weakref.ref(worker)
        self.running: dict[Any, Execution] = {}
        self.owner: object = None
        self._destinations: deque[_Destination] = deque(maxlen=_MAX_DESTINATIONS)
        self._of_worker = b""  # what the metadata says of the worker

    def finish_if_done(self, key: Any, finish: str = "") -> None:
        """Record the end of an execution if it has ended.

        A task that was cancelled goes on until its function returns: only then is it over, and it may be
        wanted again before.
        """
        worker = self._worker()
        state: Any = None if worker is None else worker.state.tasks.get(key)
        now = getattr(state, "state", "forgotten")
        if now in _RUNS:
            return
        if now in ("cancelled", "resumed") and state.previous in _RUNS and not state.done:
            return
        added = {"rescheduled": True} if finish == "rescheduled" else {}
        self._end(key, _ENDED.get(now, Status.CANCELLED), state, added)

    def adopt_running(self) -> None:
        """Take over what runs already, and let go of what ended unseen, when a plugin joins."""
        worker = self._worker()
        for key in list(self.running):
            self.finish_if_done(key)
        for key, state in list(worker.state.tasks.items()) if worker is not None else ():
            if state.state in _RUNS and key not in self.running:
                self.start(key)

    def interrupt_running(self) -> None:
        """Record what still runs in a worker that closes: nobody will see its end."""
        worker = self._worker()
        for key in list(self.running):
            state: Any = None if worker is None else worker.state.tasks.get(key)
            cancelled = getattr(state, "state", "") == "cancelled"
            with guard.guarded("closing a Dask worker's tasks"):
                self._end(key, Status.CANCELLED if cancelled else Status.INTERRUPTED, state, {}, forget=False)

    # -- the start ----------------------------------------------------------------------------------------

    def start(self, key: Any) -> None:
        """Record the start of an execution."""
        # The asyncio task that will run this one copies the present context right after this: it must not
        # inherit a scope of whoever happened to wake the worker (a task that seceded, an in-process client).
        context.current.set(None)
        worker = self._worker()
        if worker is None:
            return
        if key in self.running:
            self._end(key, Status.INTERRUPTED, None, {})
        state = worker.state.tasks[key]
        home = self._destination_of(state.annotations)
        if home is None:
            return
        journal = home.journal
        workflow = Scope(journal, None, home.origin.workflow_id)
        try:
            execution = self._open(worker, state, home, workflow)
        except (Exception, SystemExit) as error:  # the guard: a repr may exit, and this is the event loop
            count_lost_event(workflow, "recording the start of a Dask task", error)
            return
        if execution is not None:
            journal.append(execution.line(Status.RUNNING, execution.metadata, _thread_here(journal)))
            self.running[key] = execution
        announce(worker, journal, home.origin)

    def _destination_of(self, annotations: Mapping[str, Any] | None) -> _Destination | None:
        """Find where a task belongs: most come from a submission that others came from just before."""
        held = runtime.get()
        told = (annotations or {}).get(origin.KEY)
        for home in self._destinations:
            if home.runtime is held and home.annotation == told:
                return home
        given = origin.context_of_task(annotations)
        if given is None:
            return None
        home = _make_destination(told, held, given)
        if told is not None:  # what the environment says is asked anew
            self._destinations.appendleft(home)
        return home

    def record_failed(self, key: Any) -> None:
        """Record the end of a task that was left out, as it failed: that is no plumbing any more."""
        worker = self._worker()
        state: Any = None if worker is None else worker.state.tasks.get(key)
        home = None if state is None else self._destination_of(state.annotations)
        if home is None:
            return
        workflow = Scope(home.journal, None, home.origin.workflow_id)
        try:
            execution = self._open(worker, state, home, workflow, plumbing_too=True)
        except (Exception, SystemExit) as error:  # the guard, as above
            count_lost_event(workflow, "recording a Dask task that failed", error)
            return
        if execution is None:
            return
        execution.began -= int(encoding.times_of(state).get("compute", 0.0) * 1e9)
        self.running[key] = execution
        self._end(key, Status.ERROR, state, {})

    def _open(
        self, worker: Any, state: Any, home: _Destination, workflow: Scope, *, plumbing_too: bool = False
    ) -> Execution | None:
        """Make an execution; None of a task of Dask's own that is left out, but for what it depends on."""
        held, given, journal = home.runtime, home.origin, home.journal
        workflow.muted = given.muted or not held.capturing
        call = task_spec.call_of(state.run_spec)
        inputs = {task.key: encoding.dependency(task.key) for task in state.dependencies}
        functions = internal_tasks.functions_of(state.key, call)
        if not (functions or plumbing_too or held.settings.dask.internal_tasks):
            journal.append(encode_record(_left_out(state.key, inputs, given)))
            return None
        place = b'%b,"activity_id":%b,"used":%b' % (
            home.fragment,
            _encode_ours(sanitize_text("-".join(functions) or internal_tasks.activity_of(state.key, call))),
            encoding.encode_used(state.run_spec, call, inputs, held.summarizer),
        )
        if inputs:
            place += _field(b"dependencies", list(inputs.values()))
        metadata = self._metadata_of(worker, state)
        number, wall = journal.next_number(), clock.now()
        scope = Scope(
            journal,
            number,
            given.workflow_id,
            place,
            wall_started=wall,
            parent=workflow,
            muted=workflow.muted,
        )
        open_scope(scope, current=False)
        return Execution(scope, given, metadata, wall)

    def _metadata_of(self, worker: Any, state: Any) -> bytes:
        """Say which execution of which task this is, and where."""
        here = self._of_worker
        if not here:
            here = _field(b"worker", worker.address) + b',"worker_name":' + _encode_ours(worker.name)
            self._of_worker = here
        if state.resource_restrictions:
            here += _field(b"resources", dict(state.resource_restrictions))
        return b'{"dask_key":%b,"run_id":%b%b}' % (
            _encode_ours(sanitize_text(task_spec.text_of(state.key))),
            _encode_ours(getattr(state, "run_id", None)),
            here,
        )

    # -- the end ------------------------------------------------------------------------------------------

    def _end(
        self, key: Any, status: Status, state: Any, added: dict[str, Any], *, forget: bool = True
    ) -> None:
        execution = self.running.pop(key) if forget else self.running[key]
        scope = execution.scope
        journal = scope.journal
        ended = scope.wall_started + ticks() - scope.started
        if journal.open_scopes.pop(scope.key, None) is None:  # type: ignore[arg-type]
            return  # ended before
        try:
            line = self._closed(execution, status, ended, state, added)
        except (Exception, SystemExit) as error:  # the guard, as above
            count_lost_event(scope, "recording the end of a Dask task", error)
            return
        journal.append(line)

    def _closed(
        self, execution: Execution, status: Status, ended: int, state: Any, added: dict[str, Any]
    ) -> bytes:
        """Give the record of an execution with what is known at its end."""
        added = {**encoding.times_of(state), **added}
        worker = self._worker()
        scope = execution.scope
        generated: dict[str, Any] | None = None
        error: Error | None = None
        exception: BaseException | None = None
        if status is Status.FINISHED and worker is not None:
            generated = encoding.generated_of(worker, state.key, state)
        elif status is Status.ERROR:
            error, exception = encoding.error_of(state)
            encoding.correct_left_early(scope, exception, error)
        metadata = execution.metadata
        if added:
            metadata = metadata[:-1] + b"," + _encode_ours(added)[1:]  # none of its names is in there yet
        tags: list[str] = []
        extras = scope.extras
        if extras is not None:
            if extras.generated:
                generated = {**(generated or {}), **extras.generated}
            if extras.custom_metadata:
                metadata = encode({**msgspec.json.decode(metadata), **extras.custom_metadata})
            tags = [sanitize_text(tag) for tag in extras.tags]
            if exception is None and error is not None:
                exception = RuntimeError(error.message)  # what ends inside ends by an error too
            run_end_callbacks(extras, exception)
        rest = b',"ended_at":%d%b' % (
            ended,
            b"" if generated is None else b',"generated":' + encode(generated),
        )
        rest += self._thread_of(execution, state)
        if error is not None or tags:
            rest += _field(b"error", error) + _field(b"tags", tags or None)
        if scope.exact:
            rest += telemetry_at_end_field(scope)
        return execution.line(status, metadata, rest)

    def _thread_of(self, execution: Execution, state: Any) -> bytes:
        """Name the thread in which a task ran, unless it is the one that the header names."""
        worker = self._worker()
        ident = None if worker is None or state is None else worker.state.threads.get(state.key)
        if ident is None:
            return _thread_here(execution.scope.journal)
        if ident == execution.scope.journal.main_thread:
            return b""
        thread = _threads_now().get(ident)
        return b"" if thread is None else _field(b"thread", thread.name)


def _make_destination(told: Any, held: runtime.Runtime, given: origin.TaskContext) -> _Destination:
    fragment = _field(b"workflow_id", given.workflow_id) + b',"subtype":"dask_task"'
    fragment += _field(b"parent_task_id", given.parent_task_id)
    fragment += _field(b"submitted_at", given.submitted_at)
    return _Destination(told, held, given, origin.journal_of(given), fragment)


def _threads_now() -> Mapping[int | None, threading.Thread]:
    """Give the threads that run, by identifier."""
    kept = getattr(threading, "_active", None)  # what enumerate lists; asked for at each task
    return kept if type(kept) is dict else {thread.ident: thread for thread in threading.enumerate()}


def _left_out(key: Any, inputs: Mapping[Any, str], given: origin.TaskContext) -> LeftOut:
    return LeftOut(
        workflow_id=given.workflow_id,
        dask_key=sanitize_text(task_spec.text_of(key)),
        at=clock.now(),
        dependencies=list(inputs.values()),
    )


def _thread_here(journal: Journal) -> bytes:
    """Name the present thread, unless it is the one that the header names."""
    return b"" if threading.get_ident() == journal.main_thread else thread_field()


def _field(name: bytes, value: object) -> bytes:
    """Give a field of a line with its comma in front; nothing where there is no value."""
    return b"" if value is None else b',"%b":%b' % (name, _encode_ours(value))
