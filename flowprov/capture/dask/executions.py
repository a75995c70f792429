"""The executions of tasks that are going on in one worker.

Flows in: that a task's state has changed. Flows out: a RUNNING record when it starts, before its function
does, and a record of the end when it ends. What counts is executions: a key that runs again is another one.

All of this runs in the worker's event loop, and nothing of it does more than append to the journal.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from flowprov import context, runtime
from flowprov.capture.dask import forms, handing, origin, plumbing, values
from flowprov.capture.failures import clean, end_inside, lost
from flowprov.capture.lines import measure, measured_part
from flowprov.capture.site import encode
from flowprov.clock import clock, ticks
from flowprov.context import Scope
from flowprov.journal import Journal
from flowprov.records import Error, LeftOut, Status
from flowprov.records import encode as encode_record

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
    origin: origin.Origin
    metadata: bytes
    began: int

    def line(self, status: Status, thread: str | None, metadata: bytes, rest: bytes = b"") -> bytes:
        """Give a record of it, put together like those of ``capture.lines``: ``Task`` says what it means."""
        key: Any = self.scope.key
        if thread is not None:
            rest += b',"thread":' + _encode_ours(thread)
        return b'{"type":"task","task_id":%d%b,"started_at":%d,"status":"%b","custom_metadata":%b%b}\n' % (
            key,
            self.scope.place,
            self.began,
            _STATUS[status],
            metadata,
            rest,
        )


class _Place(msgspec.Struct, omit_defaults=True, gc=False):
    """The part of both records that says what the task is and where it belongs; see ``Task``."""

    workflow_id: str
    activity_id: str
    used: msgspec.Raw
    subtype: str
    parent_task_id: str | None = None
    submitted_at: int | None = None
    dependencies: list[str] | None = None


_STATUS = {status: status.value.encode() for status in Status}


class _Home(NamedTuple):
    """Where tasks belong whose annotation is the same."""

    told: Any
    held: runtime.Runtime
    origin: origin.Origin
    journal: Journal


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
        self._threads: dict[int, threading.Thread] = {}  # by identifiers, of which few are ever used
        self._home: _Home | None = None

    def note(self, key: Any, finish: str) -> None:
        """Take notice of a change of state."""
        if finish == "executing":
            self._begin(key)
        elif key in self.running:
            self.settle(key, finish)
        elif finish == "error":
            self._record_failed(key)

    def settle(self, key: Any, finish: str = "") -> None:
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
        status = {"memory": Status.FINISHED, "error": Status.ERROR}.get(now, Status.CANCELLED)
        self._end(key, status, state, {"rescheduled": True} if finish == "rescheduled" else {})

    def adopt(self) -> None:
        """Take over what runs already, and let go of what ended unseen, when a plugin joins."""
        worker = self._worker()
        for key in list(self.running):
            self.settle(key)
        for key, state in list(worker.state.tasks.items()) if worker is not None else ():
            if state.state in _RUNS and key not in self.running:
                self._begin(key)

    def abandon(self) -> None:
        """Record what still runs in a worker that closes: nobody will see its end."""
        worker = self._worker()
        for key in list(self.running):
            state: Any = None if worker is None else worker.state.tasks.get(key)
            cancelled = getattr(state, "state", "") == "cancelled"
            with runtime.guarded("closing a Dask worker's tasks"):
                self._end(key, Status.CANCELLED if cancelled else Status.INTERRUPTED, state, {}, forget=False)

    # -- the start ----------------------------------------------------------------------------------------

    def _begin(self, key: Any) -> None:
        # The asyncio task that will run this one copies the present context right after this: it must not
        # inherit a scope of whoever happened to wake the worker (a task that seceded, an in-process client).
        context.current.set(None)
        worker = self._worker()
        if worker is None:
            return
        if key in self.running:
            self._end(key, Status.INTERRUPTED, None, {})
        state = worker.state.tasks[key]
        home = self._home_of(state.annotations)
        if home is None:
            return
        given, journal = home.origin, home.journal
        workflow = Scope(journal, None, given.workflow_id)
        try:
            execution = self._open(worker, state, given, workflow)
        except (Exception, SystemExit) as error:  # the guard: a repr may exit, and this is the event loop
            lost(workflow, "recording the start of a Dask task", error)
            return
        if execution is not None:
            journal.append(execution.line(Status.RUNNING, _thread_here(journal), execution.metadata))
            journal.open_scopes[execution.scope.key] = execution.scope  # type: ignore[index]
            execution.scope.started = ticks()
            self.running[key] = execution
        handing.announce(worker, journal, given)

    def _home_of(self, annotations: Mapping[str, Any] | None) -> _Home | None:
        """Find where a task belongs: most belong where the one before does, from the same submission."""
        held, home = runtime.get(), self._home
        told = (annotations or {}).get(origin.KEY)
        if home is None or told is None or home.told != told or home.held is not held:
            given = origin.of_task(annotations)
            home = None if given is None else _Home(told, held, given, origin.journal_of(given))
            self._home = home
        return home

    def _record_failed(self, key: Any) -> None:
        """Record the end of a task that was left out, as it failed: that is no plumbing any more."""
        worker = self._worker()
        state: Any = None if worker is None else worker.state.tasks.get(key)
        home = None if state is None else self._home_of(state.annotations)
        if home is None:
            return
        given = home.origin
        workflow = Scope(home.journal, None, given.workflow_id)
        try:
            execution = self._open(worker, state, given, workflow, plumbing_too=True)
        except (Exception, SystemExit) as error:  # the guard, as above
            lost(workflow, "recording a Dask task that failed", error)
            return
        if execution is None:
            return
        scope = execution.scope
        scope.started = ticks()
        execution.began -= int(values.times_of(state).get("compute", 0.0) * 1e9)
        scope.journal.open_scopes[scope.key] = scope  # type: ignore[index]
        self.running[key] = execution
        self._end(key, Status.ERROR, state, {})

    def _open(
        self,
        worker: Any,
        state: Any,
        given: origin.Origin,
        workflow: Scope,
        *,
        plumbing_too: bool = False,
    ) -> Execution | None:
        """Make an execution; None of a task of Dask's own that is left out, but for what it depends on."""
        held = runtime.get()
        journal = workflow.journal
        workflow.muted = given.muted or not held.capturing
        call = forms.call_of(state.run_spec)
        dependencies = [task.key for task in state.dependencies]
        functions = plumbing.functions_of(state.key, call)
        if not (functions or plumbing_too or held.settings.dask.plumbing):
            journal.append(encode_record(_left_out(state.key, dependencies, given)))
            return None
        used: Any = msgspec.Raw(values.encode_used(state.run_spec, call, dependencies, held.summariser))
        metadata = {
            "dask_key": clean(forms.text_of(state.key)),
            "run_id": getattr(state, "run_id", None),
            "worker": worker.address,
            "worker_name": worker.name,
        }
        if state.resource_restrictions:
            metadata["resources"] = dict(state.resource_restrictions)
        activity = clean("-".join(functions) or plumbing.activity_of(state.key, call))
        place = _Place(
            workflow_id=given.workflow_id,
            parent_task_id=given.parent_task_id,
            activity_id=activity,
            used=used,
            subtype="dask_task",
            submitted_at=given.submitted_at,
            dependencies=[values.dependency(key) for key in dependencies] or None,
        )
        number, wall = journal.next_number(), clock.now()
        scope = Scope(
            journal,
            number,
            given.workflow_id,
            b"," + _encode_ours(place)[1:-1],
            wall=wall,
            parent=workflow,
            muted=workflow.muted,
        )
        measure(scope)
        return Execution(scope, given, _encode_ours(metadata), wall)

    # -- the end ------------------------------------------------------------------------------------------

    def _end(
        self, key: Any, status: Status, state: Any, added: dict[str, Any], *, forget: bool = True
    ) -> None:
        execution = self.running.pop(key) if forget else self.running[key]
        scope = execution.scope
        journal = scope.journal
        ended = scope.wall + ticks() - scope.started
        if journal.open_scopes.pop(scope.key, None) is None:  # type: ignore[arg-type]
            return  # ended before
        try:
            line = self._closed(execution, status, ended, state, added)
        except (Exception, SystemExit) as error:  # the guard, as above
            lost(scope, "recording the end of a Dask task", error)
            return
        journal.append(line)

    def _closed(
        self, execution: Execution, status: Status, ended: int, state: Any, added: dict[str, Any]
    ) -> bytes:
        """Give the record of an execution with what is known at its end."""
        added = {**values.times_of(state), **added}
        worker = self._worker()
        scope = execution.scope
        generated: dict[str, Any] | None = None
        error: Error | None = None
        exception: BaseException | None = None
        if status is Status.FINISHED and worker is not None:
            generated = values.generated_of(worker, state.key, state)
        elif status is Status.ERROR:
            error, exception = values.error_of(state)
            values.correct_left_early(scope, exception, error)
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
            tags = [clean(tag) for tag in extras.tags]
            if exception is None and error is not None:
                exception = RuntimeError(error.message)  # what ends inside ends by an error too
            end_inside(extras, exception)
        rest = b',"ended_at":%d%b' % (
            ended,
            b"" if generated is None else b',"generated":' + encode(generated),
        )
        rest += _field(b"error", error) + _field(b"tags", tags or None)
        if scope.measured:
            rest += measured_part(scope)
        return execution.line(status, self._thread_of(execution, state), metadata, rest)

    def _thread_of(self, execution: Execution, state: Any) -> str | None:
        worker = self._worker()
        ident = None if worker is None or state is None else worker.state.threads.get(state.key)
        if ident is None:
            return _thread_here(execution.scope.journal)
        if ident == execution.scope.journal.main_thread:
            return None
        thread = self._threads.get(ident)
        if thread is None or not thread.is_alive():
            thread = next((each for each in threading.enumerate() if each.ident == ident), None)
            if thread is None:
                return None
            self._threads[ident] = thread
        return thread.name


def _left_out(key: Any, dependencies: list[Any], given: origin.Origin) -> LeftOut:
    return LeftOut(
        workflow_id=given.workflow_id,
        dask_key=clean(forms.text_of(key)),
        at=clock.now(),
        dependencies=[values.dependency(key) for key in dependencies],
    )


def _thread_here(journal: Journal) -> str | None:
    """Name the thread, unless it is the one that the header names."""
    here = threading.current_thread()
    return None if here.ident == journal.main_thread else here.name


def _field(name: bytes, value: object) -> bytes:
    """Give a field of a line with its comma in front; nothing where there is no value."""
    return b"" if value is None else b',"%b":%b' % (name, _encode_ours(value))
