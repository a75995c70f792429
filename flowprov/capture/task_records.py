"""The hot path: from the start of a task to its line in the journal.

Flows in: a function spec with the arguments and result of a call, or the encoded inputs and outputs of any
other task. Flows out: one line per task. Lines are put together by hand, as bytes, from the templates of
``line_templates``.

There is one function for each act. :func:`open_scope` opens the scope of every kind of task, and
:func:`close_task` closes it and writes the line. :func:`open_task` and ``loops`` write these out, with the
price of a call. Dask tasks end in a way of their own, as their start was written when it happened.

:func:`start_call` raises into the program only if the settings cannot be used. These stop a program at its
first event, because the alternative is days of work without a record.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flowprov.capture.failures import (
    close_after_fault,
    close_all_abandoned,
    correct_left_early,
    count_lost_event,
    describe_exception,
    run_end_callbacks,
)
from flowprov.capture.function_spec import generated_field, tags_and_metadata_fields
from flowprov.capture.workflow_records import implicit_workflow
from flowprov.clock import clock, ticks
from flowprov.line_templates import TASK
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope, parent_fields_of

if TYPE_CHECKING:
    from flowprov.capture.function_spec import FunctionSpec

_get = context.current.get
_set = context.current.set
_ticks = ticks
_thread_ident = threading.get_ident


def start_call(spec: FunctionSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope | None:
    """Open the scope of a call; return None if the call is not recorded."""
    parent = previous = _get()
    if parent is None or parent.muted:
        parent = enclosing_scope(parent)
        if parent is None:
            return None
    try:
        try:
            used = spec.encode_used(*args, **kwargs)
        except TypeError:
            used = spec.encode_unbound(args, kwargs)
        return open_task(parent, previous, spec.activity_fields, used)
    except Exception as error:  # the guard: the user's function runs whatever fails here
        count_lost_event(parent, "recording the start of a task", error)
        return None


def enclosing_scope(scope: Scope | None) -> Scope | None:
    """Return the scope to which a new event belongs, where the ContextVar alone does not decide it.

    Parameters
    ----------
    scope
        The value of the ContextVar.

    Returns
    -------
    Scope or None
        None if the event is not recorded.
    """
    while scope is not None and scope.closed:
        scope = scope.previous  # a workflow that was stopped in another context
    if scope is None:
        scope = context.resolve_scope() or implicit_workflow()
    return None if scope is None or scope.muted else scope


def open_task(parent: Scope, previous: Scope | None, activity_fields: bytes, used: bytes) -> Scope:
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
    """
    journal = parent.journal
    number = journal.next_number()
    line_prefix = (parent.parent_fields or parent_fields_of(parent)) + activity_fields
    if _thread_ident() != journal.main_thread:
        line_prefix += thread_field()
    scope = Scope(
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
    journal.open_scopes[number] = scope
    if journal.exact_reader is not None:
        read_telemetry_at_start(scope)
    _set(scope)
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
    journal.open_scopes[scope.key] = scope  # type: ignore[index]
    if telemetry and journal.exact_reader is not None:
        read_telemetry_at_start(scope)
    if current:
        _set(scope)
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
    ended = _ticks()
    try:
        if scope.extras is None:
            close_task(scope, ended, spec.encode_outputs(result), spec.tail)
        else:
            outputs = spec.name_outputs(result)
            close_task(
                scope, ended, *encode_outputs_and_extras(scope, outputs, spec.tags, spec.custom_metadata)
            )
    except Exception as error:  # the guard
        close_after_fault(scope, "recording the end of a task", error)


def end_with_error(
    scope: Scope,
    error: BaseException,
    tags: Sequence[str] = (),
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Record a task that an exception ended. The caller raises the exception again."""
    ended = _ticks()
    try:
        description = describe_exception(error)
        correct_left_early(scope, error, description)
        generated, tail = encode_outputs_and_extras(scope, None, tags, custom_metadata or {}, error)
        close_task(scope, ended, generated, tail + b',"error":' + msgspec.json.encode(description), b"ERROR")
    except Exception as fault:  # the guard
        close_after_fault(scope, "recording the failure of a task", fault)


def close_task(scope: Scope, ended: int, generated: bytes, tail: bytes, status: bytes = b"FINISHED") -> None:
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
    """
    if _get() is scope:
        _set(scope.previous)
    else:
        close_all_abandoned(context.deactivate(scope))
    journal = scope.journal
    if journal.open_scopes.pop(scope.key, None) is None:  # type: ignore[arg-type]
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
    journal.count()  # journal.append, written out: the call costs 1 % of a @task (2.0 µs)
    try:
        journal.fast_append(line)
    except Exception as error:  # whatever the disk does, the program goes on; the loss is counted
        journal.append_slowly(line, error)


def encode_outputs_and_extras(
    scope: Scope,
    generated: Mapping[str, Any] | None,
    tags: Sequence[str],
    custom_metadata: Mapping[str, Any],
    error: BaseException | None = None,
) -> tuple[bytes, bytes]:
    """Encode the ``generated`` field and the tail of a line, with what handles added to the scope."""
    extras = scope.extras
    if extras is not None:
        if extras.generated:
            generated = {**(generated or {}), **extras.generated}
        tags = [*tags, *extras.tags]
        custom_metadata = {**custom_metadata, **extras.custom_metadata}
        run_end_callbacks(extras, error)
    return generated_field(generated), tags_and_metadata_fields(tags, custom_metadata)


def no_telemetry_field() -> bytes:
    """Return a field of a line: no telemetry was asked for here, while other records have some."""
    return b"" if runtime.get().settings.telemetry_capture is None else b',"telemetry":false'


def thread_field() -> bytes:
    """Return a field of a line: the name of this thread. Records of the main thread do without it."""
    return b',"thread":' + msgspec.json.encode(threading.current_thread().name)
