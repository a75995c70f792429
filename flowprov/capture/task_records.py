"""The hot path: from the start of a task to its line in the journal.

Flows in: a function spec with the arguments and result of a call, or the encoded inputs and outputs of any
other task. Flows out: one line per task. Lines are put together by hand, as bytes, from the templates of
``line_templates``.

There is one function for each act. :func:`open_scope` opens the scope of every kind of task, and
:func:`close_task` closes it and writes the line. :func:`open_task` and ``loops`` write these out, with the
price of a call. Dask tasks end in a way of their own, as their start was written when it happened.

:func:`start_call` raises into the program only if the settings cannot be used. These stop a program at its
first event, because the alternative is days of work without a record.

An exception from outside (see ``asynchronous``) can arrive at every call in here. It passes on. The order of
the steps is such that each scope and each event is accounted for wherever it arrives: a scope that is current
can be taken back, and a scope that is listed as open has no record yet.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flowprov import guard
from flowprov.capture import metrics, replay
from flowprov.capture.additions import encode_extras
from flowprov.capture.failures import (
    append_refused,
    close_after_fault,
    close_all_abandoned,
    correct_left_early,
    discard,
    fail_start,
    outcome_of,
    run_end_callbacks,
    undo_start,
)
from flowprov.capture.workflow_records import close_workflow, implicit_workflow
from flowprov.clock import clock, ticks
from flowprov.line_templates import TASK
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope, parent_fields_of
from flowprov.values import as_name

if TYPE_CHECKING:
    from flowprov.capture.function_spec import FunctionSpec

_get = context.current.get
_set = context.current.set
_ticks = ticks
_thread_ident = threading.get_ident
_waiting = metrics.waiting


def start_call(spec: FunctionSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope | None:
    """Open the scope of a call; return None if the call is not recorded.

    Raises
    ------
    SettingsError
        If the settings cannot be used.
    BaseException
        An exception from outside. The caller passes it to :func:`undo_returned_start`.
    """
    parent = previous = _get()
    if parent is None or parent.muted:
        parent = enclosing_scope(parent)
        if parent is None:
            return None
        previous = _get()
    try:
        try:
            used = spec.encode_used(*args, **kwargs)
        except TypeError as error:
            guard.pass_on(error)
            used = spec.encode_unbound(args, kwargs)
        scope = open_task(parent, previous, spec.activity_fields, used, spec.scope_kind)
    except replay.Replay as call:
        return _start_replayed(spec, parent, previous, call.used)
    except BaseException as error:  # the guard: the user's function runs whatever fails here
        fail_start(parent, previous, "recording the start of a task", error)
        return None
    return scope


def _start_replayed(
    spec: FunctionSpec, parent: Scope, previous: Scope | None, used: bytes | None
) -> Scope | None:
    """Open the scope of a call that is recomputed; return None if it is traced."""
    if used is None:
        return None
    try:
        scope = open_task(parent, previous, spec.activity_fields, used)
        scope.ensure_extras().custom_metadata["recomputed"] = True
    except BaseException as error:  # the guard, as above
        fail_start(parent, previous, "recording the start of a task", error)
        return None
    return scope


def undo_returned_start(error: BaseException) -> None:
    """Take back the scope that :func:`start_call` returned, if an exception from outside came just then.

    Parameters
    ----------
    error
        What the caller of ``start_call`` caught around that one call. It may have come before the return:
        then ``start_call`` has taken back what there was.
    """
    trace = error.__traceback__
    came_before = trace and trace.tb_next and trace.tb_next.tb_frame.f_code is start_call.__code__
    if not came_before and (scope := _get()) is not None:
        undo_start(scope.previous, error)


def enclosing_scope(scope: Scope | None, *, implicit: bool = True) -> Scope | None:
    """Return the scope to which a new event belongs, where the ContextVar alone does not decide it.

    Parameters
    ----------
    scope
        The value of the ContextVar.
    implicit
        Whether the implicit workflow opens if no other is open.

    Returns
    -------
    Scope or None
        None if the event is not recorded.
    """
    while scope is not None and (scope.closed or _close_if_left(scope)):
        scope = scope.previous  # a workflow that was stopped in another context
    if scope is None:
        scope = context.resolve_scope() or (implicit_workflow() if implicit else None)
    return None if scope is None or scope.muted else scope


def close_with_holder(scope: Scope, holder: object) -> None:
    """Have the next event close a scope if the object that is to close it is gone before it did.

    An exception from outside can arrive as ``__exit__`` begins: at the first instruction of a function no
    code of ours can catch it. The object goes away soon after. Then the interpreter mutes the scope, so that
    the next event looks at it; a function of C does that, where no signal can arrive.
    """
    scope.opener = weakref.ref(holder, functools.partial(setattr, scope, "muted"))


def _close_if_left(scope: Scope) -> bool:
    """Close a scope whose holder is gone; return whether it was one."""
    muted: object = scope.muted
    if type(muted) is not weakref.ref:
        return False
    scope.opener, scope.closed, scope.muted = None, True, True
    if scope.key is None:
        close_workflow(scope, error=sys.exc_info()[1] or Exception("left without reaching its end"))
    else:
        close_all_abandoned([*context.deactivate(scope), scope])
    return True


def open_task(
    parent: Scope,
    previous: Scope | None,
    activity_fields: bytes,
    used: bytes,
    kind: type[Scope] = Scope,
) -> Scope:
    """Open the scope of a task whose inputs are encoded, and make it current.

    Parameters
    ----------
    parent
        The scope to which the task belongs.
    previous
        The value of the ContextVar, to be restored at the end.
    activity_fields
        The part of the line that holds activity and subtype.
    used
        The inputs, encoded.
    kind
        The class of the scope.
    """
    journal = parent.journal
    number = journal.next_number()
    line_prefix = (parent.parent_fields or parent_fields_of(parent)) + activity_fields
    if _thread_ident() != journal.main_thread:
        line_prefix += thread_field()
    scope = kind(
        journal,
        number,
        parent.workflow_id,
        line_prefix,
        used,
        0,
        0,
        previous,
        parent,
        False,
        parent.forwards,
        parent.epoch,
    )
    # open_scope, written out: its call takes 3.6 % of the instructions of a task.
    _set(scope)  # before anything can be interrupted: undo_start finds the scope there
    journal.open_scopes[number] = scope
    if journal.exact_reader is not None:
        read_telemetry_at_start(scope)
    scope.started = _ticks()
    return scope


def open_scope(scope: Scope, *, current: bool = True, telemetry: bool = True) -> None:
    """Open the scope of a task: a call, forward, backward pass, optimizer step or Dask task.

    Parameters
    ----------
    scope
        A new scope. Its journal lists it as open from now on.
    current
        Whether to make it the current scope.
    telemetry
        Whether to read telemetry for its record, if ``telemetry_capture.mode`` is ``exact``.
    """
    journal = scope.journal
    if current:
        _set(scope)
    journal.open_scopes[scope.key] = scope  # type: ignore[index]
    if telemetry and journal.exact_reader is not None:
        read_telemetry_at_start(scope)
    scope.started = _ticks()


def read_telemetry_at_start(scope: Scope) -> None:
    """Take an exact reading for the record of a scope that opens, if the settings ask for it."""
    reader = scope.journal.exact_reader
    if reader is not None:
        scope.line_prefix += b',"telemetry_at_start":' + reader()
        scope.exact = True


def telemetry_at_end_field(scope: Scope) -> bytes:
    """Return a field of a line: the exact reading at the end of a scope."""
    reader = scope.journal.exact_reader
    return b"" if reader is None else b',"telemetry_at_end":' + reader()


def end_call(scope: Scope, spec: FunctionSpec, result: Any) -> None:
    """Record a call that returned."""
    try:
        ended = _ticks()
        if scope.extras is None:
            close_task(scope, ended, spec.encode_outputs(result, scope), spec.tail)
        else:
            outputs = spec.name_outputs(result)
            close_task(
                scope, ended, *encode_outputs_and_extras(scope, outputs, spec.tags, spec.custom_metadata)
            )
    except replay.Replay:
        discard(scope)
    except BaseException as error:  # the guard; what came from outside passes on from there
        close_after_fault(scope, "recording the end of a task", error)


def end_with_error(
    scope: Scope,
    error: BaseException,
    tags: Sequence[str] = (),
    custom_metadata: Mapping[str, Any] | None = None,
    *,
    nests: bool = True,
) -> None:
    """Record a task that an exception ended. The caller raises the exception again.

    Parameters
    ----------
    scope
        The scope of the task.
    error
        The exception.
    tags, custom_metadata
        Recorded with it.
    nests
        Whether the exception ended everything that is open inside, too.
    """
    try:
        ended = _ticks()
        if replay.is_stop(error):
            metadata = {**(custom_metadata or {}), "recomputed": True, "stopped_early": True}
            close_task(scope, ended, *encode_outputs_and_extras(scope, None, tags, metadata))
            return
        outcome = outcome_of(error)
        correct_left_early(scope, error, outcome)
        metadata = {**(custom_metadata or {}), **outcome.metadata}
        generated, tail = encode_outputs_and_extras(scope, None, tags, metadata, error)
        status = outcome.status.value.encode()
        close_task(scope, ended, generated, tail + outcome.field(), status, failed=nests)
    except BaseException as fault:  # as in end_call
        close_after_fault(scope, "recording the failure of a task", fault)


def close_task(
    scope: Scope,
    ended: int,
    generated: bytes,
    tail: bytes,
    status: bytes = b"FINISHED",
    *,
    failed: bool = False,
) -> None:
    """Close the scope of a task: make the previous scope current again, and write the line.

    Parameters
    ----------
    scope
        The scope of the task.
    ended
        When it ended, by the monotonic clock, in nanoseconds.
    generated
        The ``generated`` field of the line; empty if nothing was generated.
    tail
        Further fields of the line, each with its comma in front.
    status
        The status to record.
    failed
        Whether an exception ended it, and so all that is inside.
    """
    if _get() is scope:
        _set(scope.previous)
    else:
        close_all_abandoned(context.deactivate(scope, failed=failed))
    journal = scope.journal
    if scope.key not in journal.open_scopes:
        return  # it ended before, or the process from which this one was forked opened it
    if scope.exact:
        tail += telemetry_at_end_field(scope)
    offset = clock.offset
    key: Any = scope.key
    used: Any = scope.used
    line = TASK % (
        key,
        scope.line_prefix,
        scope.started + offset,
        used,
        status,
        ended + offset,
        generated,
        tail,
    )
    try:
        journal.fast_append(line)  # journal.append, written out: the call costs 1 % of a @task (2.0 µs)
        journal.count()
    except BaseException as error:  # whatever the disk does, the program goes on; the loss is counted
        append_refused(scope, line, error)
    journal.open_scopes.pop(key, None)  # not before: a scope that is listed is not written yet
    scope.used = None
    parent = scope.parent
    if parent is not None and parent.used is None and parent.key is not None:
        context.shorten(scope)
    if _waiting:
        metrics.settle(scope)


def encode_outputs_and_extras(
    scope: Scope,
    generated: Mapping[str, Any] | None,
    tags: Sequence[str],
    custom_metadata: Mapping[str, Any],
    error: BaseException | None = None,
) -> tuple[bytes, bytes]:
    """Encode the ``generated`` field and the tail of a line, with what was given to the scope."""
    encoded = encode_extras(scope, generated, tags, custom_metadata)
    if scope.extras is not None:
        run_end_callbacks(scope.extras, error)
    return encoded


def no_telemetry_field() -> bytes:
    """Return a field of a line: no telemetry was asked for here, while other records have some."""
    return b"" if runtime.get().settings.telemetry_capture is None else b',"telemetry":false'


def thread_field() -> bytes:
    """Return a field of a line: the name of this thread. Records of the main thread do without it."""
    return b',"thread":' + msgspec.json.encode(as_name(threading.current_thread().name))
