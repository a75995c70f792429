"""The records of the tasks that run in one worker.

Flows in: a task whose state has changed. Flows out: a RUNNING record when the task starts, before its
function does, and a record of its end. Each execution has records of its own: a key that runs again is
another execution.

All of this runs in the worker's event loop. It does no I/O but the append to the journal. It reads private
attributes of the worker and its tasks without a function between, as a call would cost each task:
``_dask_private`` lists them.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from flowprov import guard
from flowprov.asynchronous import interrupted_worker
from flowprov.capture import metrics
from flowprov.capture.dask import encoding, internal_tasks, origin, task_spec
from flowprov.capture.dask._dask_private import (
    CANCELLED,
    CANCELLED_STATES,
    ERROR,
    FORGOTTEN,
    MEMORY,
    RESCHEDULED,
    RUNNING_STATES,
)
from flowprov.capture.dask.execution import Execution
from flowprov.capture.dask.fetch.worker import announce_journal
from flowprov.capture.error_description import sanitize_text
from flowprov.capture.failures import count_lost_event, run_end_callbacks
from flowprov.capture.function_spec import encode
from flowprov.capture.task_records import open_scope, telemetry_at_end_field, thread_field
from flowprov.clock import clock, ticks
from flowprov.journal import Journal
from flowprov.records import Error, LeftOut, Status
from flowprov.records import encode as encode_record
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

_encode_json = msgspec.json.Encoder(enc_hook=str).encode  # for names and numbers of Dask: none is a secret


_STATUS_AT_END = {MEMORY: Status.FINISHED, ERROR: Status.ERROR}  # by the task's state
_MAX_DESTINATIONS = (
    4  # submissions whose tasks take turns on a worker, as those of a map and of its results do
)


class _Destination(NamedTuple):
    """Where the tasks of one annotation belong.

    Attributes
    ----------
    annotation, runtime
        The annotation, and the runtime that was active when it was read.
    task_context
        The annotation, decoded.
    journal
        The journal of the tasks' records.
    fields
        The part of their lines that holds the task context.
    """

    annotation: Any
    runtime: runtime.Runtime
    task_context: origin.TaskContext
    journal: Journal
    fields: bytes


class Executions:
    """The executions of one worker.

    Parameters
    ----------
    worker
        The worker. This holds only a weak reference to it.

    Attributes
    ----------
    running
        The executions that run now, by key.
    actors
        What stands for the ended executions that made the actors of this worker, by key.
    owner
        The plugin that reports here. There is only one, however often the plugin is registered.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = weakref.ref(worker)
        self.running: dict[Any, Execution] = {}
        self.actors: dict[Any, Execution] = {}
        self.owner: object = None
        self._destinations: deque[_Destination] = deque(maxlen=_MAX_DESTINATIONS)
        self._worker_fields = b""  # the metadata that names the worker, encoded

    def end_if_done(self, key: Any, finish: str = "") -> None:
        """Record the end of an execution, if it has ended.

        A cancelled task runs until its function returns. Only then is it over, and a client may want it again
        before.
        """
        worker: Any = self._worker()
        task: Any = None if worker is None else worker.state.tasks.get(key)  # private: see _dask_private
        state = getattr(task, "state", FORGOTTEN)
        if state in RUNNING_STATES:
            return
        if state in CANCELLED_STATES and task.previous in RUNNING_STATES and not task.done:
            return
        if state == MEMORY and key in getattr(worker.state, "actors", ()):
            self._keep_actor(worker, key)
        added = {"rescheduled": True} if finish == RESCHEDULED else {}
        self._end(key, _STATUS_AT_END.get(state, Status.CANCELLED), task, added)

    def adopt_running(self) -> None:
        """Record tasks that started or ended while no plugin was registered."""
        worker = self._worker()
        for key in list(self.running):
            self.end_if_done(key)
        for key, task in list(worker.state.tasks.items()) if worker is not None else ():
            if task.state in RUNNING_STATES and key not in self.running:
                self.start(key)

    def interrupt_running(self) -> None:
        """Record the tasks that still run in a worker that closes. Nothing will report their end."""
        worker = self._worker()
        for key in list(self.running):
            task: Any = None if worker is None else worker.state.tasks.get(key)
            is_cancelled = getattr(task, "state", "") == CANCELLED
            status = Status.CANCELLED if is_cancelled else Status.INTERRUPTED
            with guard.guarded("closing a Dask worker's tasks"):
                self._end(key, status, task, {}, forget=False)

    # -- the start ----------------------------------------------------------------------------------------

    def start(self, key: Any) -> None:
        """Record the start of an execution."""
        # Right after this, the asyncio task that will run this one copies the present context. It must not
        # inherit the scope of whatever woke the worker (a task that seceded, a client in this process).
        context.current.set(None)
        worker = self._worker()
        if worker is None:
            return
        if key in self.running:
            self._end(key, Status.INTERRUPTED, None, {})
        task = worker.state.tasks[key]  # private: see _dask_private
        destination = self._destination_of(task.annotations)
        if destination is None:
            return
        journal = destination.journal
        workflow = Scope(journal, None, destination.task_context.workflow_id)
        try:
            execution = self._open(worker, task, destination, workflow)
        except (Exception, SystemExit) as error:  # the guard: a repr may exit, and this is the event loop
            _count_lost(workflow, "recording the start of a Dask task", error)
            return
        if execution is not None:
            journal.append(execution.line(Status.RUNNING, execution.metadata, _current_thread_field(journal)))
            self.running[key] = execution
        announce_journal(worker, journal, destination.task_context)

    def _destination_of(self, annotations: Mapping[str, Any] | None) -> _Destination | None:
        """Return where a task belongs. Most tasks share the annotation of one that came just before."""
        active = runtime.get()
        annotation = (annotations or {}).get(origin.ANNOTATION_KEY)
        for destination in self._destinations:
            if destination.runtime is active and destination.annotation == annotation:
                return destination
        task_context = origin.context_of_task(annotations)
        if task_context is None:
            return None
        destination = _make_destination(annotation, active, task_context)
        if annotation is not None:  # the environment is read anew each time
            self._destinations.appendleft(destination)
        return destination

    def record_failed(self, key: Any) -> None:
        """Record an internal task that failed. It was left out when it started."""
        worker = self._worker()
        task: Any = None if worker is None else worker.state.tasks.get(key)
        destination = None if task is None else self._destination_of(task.annotations)
        if destination is None:
            return
        workflow = Scope(destination.journal, None, destination.task_context.workflow_id)
        try:
            execution = self._open(worker, task, destination, workflow, even_internal=True)
        except (Exception, SystemExit) as error:  # the guard, as above
            _count_lost(workflow, "recording a Dask task that failed", error)
            return
        if execution is None:
            return
        execution.started_at -= int(encoding.durations_of(task).get("compute", 0.0) * 1e9)
        self.running[key] = execution
        self._end(key, Status.ERROR, task, {})

    def _open(
        self,
        worker: Any,
        task: Any,
        destination: _Destination,
        workflow: Scope,
        *,
        even_internal: bool = False,
    ) -> Execution | None:
        """Open an execution. Return None for an internal task, of which only the dependencies are written."""
        active, task_context, journal = destination.runtime, destination.task_context, destination.journal
        workflow.muted = task_context.muted or not active.capturing
        call = task_spec.call_of(task.run_spec)
        inputs = {other.key: encoding.dependency_name(other.key) for other in task.dependencies}
        functions = internal_tasks.user_functions(task.key, call)
        if not (functions or even_internal or active.settings.dask.internal_tasks):
            journal.append(encode_record(_create_left_out(task.key, inputs, task_context)))
            return None
        line_prefix = b'%b,"activity_id":%b,"used":%b' % (
            destination.fields,
            _encode_json(sanitize_text("-".join(functions) or internal_tasks.activity_name(task.key, call))),
            encoding.encode_used(task.run_spec, call, inputs, active.summarizer),
        )
        if inputs:
            line_prefix += _field(b"dependencies", list(inputs.values()))
        metadata = self._metadata_of(worker, task)
        number, now = journal.next_number(), clock.now()
        scope = Scope(
            journal,
            number,
            task_context.workflow_id,
            line_prefix,
            wall_started=now,
            parent=workflow,
            muted=workflow.muted,
        )
        open_scope(scope, current=False)
        return Execution(scope, task_context, metadata, now)

    def _metadata_of(self, worker: Any, task: Any) -> bytes:
        """Encode the custom metadata of an execution: its key and run, the worker, the resources."""
        fields = self._worker_fields
        if not fields:
            fields = _field(b"worker", worker.address) + b',"worker_name":' + _encode_json(worker.name)
            self._worker_fields = fields
        if task.resource_restrictions:
            fields += _field(b"resources", dict(task.resource_restrictions))
        return b'{"dask_key":%b,"run_id":%b%b}' % (
            _encode_json(sanitize_text(task_spec.key_text(task.key))),
            _encode_json(getattr(task, "run_id", None)),
            fields,
        )

    # -- the end ------------------------------------------------------------------------------------------

    def _end(
        self, key: Any, status: Status, task: Any, added: dict[str, Any], *, forget: bool = True
    ) -> None:
        """Record the end of an execution.

        This is what ``close_task`` is for other tasks. It has a template of its own, as the start of a Dask
        task is a record already and the custom metadata grow until the end.
        """
        execution = self.running.pop(key) if forget else self.running[key]
        scope = execution.scope
        journal = scope.journal
        ended = scope.wall_started + ticks() - scope.started
        if journal.open_scopes.pop(scope.key, None) is None:  # type: ignore[arg-type]
            return  # it ended before
        try:
            line = self._encode_end(execution, status, ended, task, added)
        except (Exception, SystemExit) as error:  # the guard, as above
            _count_lost(scope, "recording the end of a Dask task", error)
            return
        journal.append(line)
        if metrics.waiting:
            metrics.settle(scope)

    def _encode_end(
        self, execution: Execution, status: Status, ended: int, task: Any, added: dict[str, Any]
    ) -> bytes:
        """Encode the record of the end of an execution."""
        added = {**encoding.durations_of(task), **added}
        worker = self._worker()
        scope = execution.scope
        generated: dict[str, Any] | None = None
        error: Error | None = None
        exception: BaseException | None = None
        if status is Status.FINISHED and worker is not None:
            generated = encoding.generated_of(worker, task.key, task)
        elif status is Status.ERROR:
            outcome, exception = encoding.outcome_of_failed(task)
            encoding.correct_left_early(scope, exception, outcome)
            status, error = outcome.status, outcome.error
            added.update(outcome.metadata)
        metadata = execution.metadata
        if added:
            metadata = metadata[:-1] + b"," + _encode_json(added)[1:]  # the names differ from those in there
        tags: list[str] = []
        extras = scope.extras
        if extras is not None:
            if extras.generated:
                generated = {**(generated or {}), **extras.generated}
            if extras.custom_metadata:
                metadata = encode({**msgspec.json.decode(metadata), **extras.custom_metadata})
            tags = [sanitize_text(tag) for tag in extras.tags]
            if exception is None and error is not None:
                exception = RuntimeError(error.message)  # what ends with the task ends with an error too
            run_end_callbacks(extras, exception)
        tail = b',"ended_at":%d%b' % (
            ended,
            b""
            if generated is None
            else b',"generated":' + metrics.encode(generated, len(scope.line_prefix)),
        )
        tail += self._thread_field(execution, task)
        if error is not None or tags:
            tail += _field(b"error", error) + _field(b"tags", tags or None)
        if scope.exact:
            tail += telemetry_at_end_field(scope)
        return execution.line(status, metadata, tail)

    def _keep_actor(self, worker: Any, key: Any) -> None:
        """Keep what stands for an execution that made an actor, and forget those of actors that are gone."""
        execution, actors = self.running[key], worker.state.actors
        self.actors = {other: kept for other, kept in self.actors.items() if other in actors}
        self.actors[key] = Execution.without_record(
            execution.scope.journal, execution.task_context, execution.scope.full_task_id()
        )

    def _thread_field(self, execution: Execution, task: Any) -> bytes:
        """Return the field that names the thread of a task, unless the header names it."""
        worker = self._worker()
        ident = None if worker is None or task is None else worker.state.threads.get(task.key)
        if ident is None:
            return _current_thread_field(execution.scope.journal)
        if ident == execution.scope.journal.main_thread:
            return b""
        thread = _threads_by_ident().get(ident)
        return b"" if thread is None else _field(b"thread", thread.name)


def _make_destination(
    annotation: Any, active: runtime.Runtime, task_context: origin.TaskContext
) -> _Destination:
    fields = _field(b"workflow_id", task_context.workflow_id) + b',"subtype":"dask_task"'
    fields += _field(b"parent_task_id", task_context.parent_task_id)
    fields += _field(b"submitted_at", task_context.submitted_at)
    return _Destination(annotation, active, task_context, origin.journal_of(task_context), fields)


def _count_lost(scope: Scope, activity: str, error: BaseException) -> None:
    """Count an event that an error cost, and go on where a value asked to exit: this is the event loop."""
    if not isinstance(error, SystemExit) or interrupted_worker(error):
        count_lost_event(scope, activity, error)
        return
    scope.journal.drop("fault")
    guard.count_internal_error(activity, error)


def _threads_by_ident() -> Mapping[int | None, threading.Thread]:
    """Return the threads of this process by identifier."""
    active = getattr(threading, "_active", None)  # the private table behind enumerate: no copy for each task
    return active if type(active) is dict else {thread.ident: thread for thread in threading.enumerate()}


def _create_left_out(key: Any, inputs: Mapping[Any, str], task_context: origin.TaskContext) -> LeftOut:
    return LeftOut(
        workflow_id=task_context.workflow_id,
        dask_key=sanitize_text(task_spec.key_text(key)),
        at=clock.now(),
        dependencies=list(inputs.values()),
    )


def _current_thread_field(journal: Journal) -> bytes:
    """Return the field that names the current thread, unless the header names it."""
    return b"" if threading.get_ident() == journal.main_thread else thread_field()


def _field(name: bytes, value: object) -> bytes:
    """Return a field of a line, with its comma in front; nothing if there is no value."""
    return b"" if value is None else b',"%b":%b' % (name, _encode_json(value))
