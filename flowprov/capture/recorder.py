"""The hot path: from the start of a step to its line in the journal.

Flows in: a site and the arguments and results of a call (or a loop's item, or a model's tensors). Flows out:
one line per step. Lines are assembled by hand, as bytes, from pieces that were made before; ``records``
defines what they mean, and a test reads every kind of them back.

``begin`` never raises into the program, except for settings that cannot be used: these stop a program at its
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
_thread = threading.get_ident


def start_call(site: FunctionSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope | None:
    """Open the scope of a call; None if it is not to be recorded."""
    parent = previous = _get()
    if parent is None or parent.muted:
        parent = enclosing_scope(parent)
        if parent is None:
            return None
    try:
        try:
            used = site.encode_used(*args, **kwargs)
        except TypeError:
            used = site.encode_misfit(args, kwargs)
        return open_task(parent, previous, site.fragment, used)
    except Exception as error:  # the guard: the user's function runs whatever happens to us
        count_lost_event(parent, "recording the start of a task", error)
        return None


def enclosing_scope(scope: Scope | None) -> Scope | None:
    """Find the scope to which a new event belongs, where the ContextVar alone does not tell.

    Parameters
    ----------
    scope
        What the ContextVar holds.

    Returns
    -------
    Scope or None
        None if the event is not to be recorded.
    """
    while scope is not None and scope.closed:
        scope = scope.previous  # a workflow that was stopped in another context than this one
    if scope is None:
        scope = context.resolve_scope() or implicit_workflow()
    return None if scope is None or scope.muted else scope


def open_task(parent: Scope, previous: Scope | None, fragment: bytes, used: bytes) -> Scope:
    """Open the scope of a task whose inputs are encoded, and make it current.

    Parameters
    ----------
    parent
        The scope to which it belongs.
    previous
        What the ContextVar holds, to be restored at the end.
    fragment
        The part of its line that says what it is: activity and subtype.
    used
        Its inputs, encoded.
    """
    journal = parent.journal
    number = journal.next_number()
    place = (parent.parent_fields or parent_fields_of(parent)) + fragment
    if _thread() != journal.main_thread:
        place += thread_field()
    scope = Scope(
        journal,
        number,
        parent.workflow_id,
        place,
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
    """Open the scope of a task: the one way for calls, forwards, backward passes, optimizer steps and Dask.

    Parameters
    ----------
    scope
        New; its journal lists it among the open ones from now on.
    current
        Make it current.
    telemetry
        Read telemetry for its record, where ``telemetry_capture.mode`` is exact.
    """
    journal = scope.journal
    journal.open_scopes[scope.key] = scope  # type: ignore[index]
    if telemetry and journal.exact_reader is not None:
        read_telemetry_at_start(scope)
    if current:
        _set(scope)
    scope.started = _ticks()


def read_telemetry_at_start(scope: Scope) -> None:
    """Read telemetry for the record of a scope that opens: ``telemetry_capture.mode: exact``."""
    reading = scope.journal.exact_reader
    if reading is not None:
        scope.line_prefix += b',"telemetry_at_start":' + reading()
        scope.exact = True


def telemetry_at_end_field(scope: Scope) -> bytes:
    """Read telemetry for the record of a scope that ended: the part of a line that says so."""
    reading = scope.journal.exact_reader
    return b"" if reading is None else b',"telemetry_at_end":' + reading()


def end_call(scope: Scope, site: FunctionSpec, result: Any) -> None:
    """Record a call that returned."""
    ended = _ticks()
    try:
        if scope.extras is None:
            close_task(scope, ended, site.encode_outputs(result), site.tail)
        else:
            outputs = site.name_outputs(result)
            close_task(
                scope, ended, *encode_outputs_and_extras(scope, outputs, site.tags, site.custom_metadata)
            )
    except Exception as error:  # the guard
        close_after_fault(scope, "recording the end of a task", error)


def end_with_error(
    scope: Scope,
    error: BaseException,
    tags: Sequence[str] = (),
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Record a task that an exception ended; the exception is the caller's to raise on."""
    ended = _ticks()
    try:
        described = describe_exception(error)
        correct_left_early(scope, error, described)
        generated, tail = encode_outputs_and_extras(scope, None, tags, custom_metadata or {}, error)
        close_task(scope, ended, generated, tail + b',"error":' + msgspec.json.encode(described), b"ERROR")
    except Exception as fault:  # the guard
        close_after_fault(scope, "recording the failure of a task", fault)


def close_task(scope: Scope, ended: int, generated: bytes, tail: bytes, status: bytes = b"FINISHED") -> None:
    """Make the enclosing scope current again and write the line.

    Parameters
    ----------
    scope
        What ended.
    ended
        When, by the monotonic clock.
    generated
        What was generated, encoded; empty if nothing was.
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
        return  # ended before, or opened by the process from which this one was forked
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
    journal.count()  # journal.append, written out
    try:
        journal.fast_append(line)
    except Exception as error:  # whatever the disk does, the program goes on; it is counted
        journal.append_slowly(line, error)


def encode_outputs_and_extras(
    scope: Scope,
    generated: Mapping[str, Any] | None,
    tags: Sequence[str],
    custom_metadata: Mapping[str, Any],
    error: BaseException | None = None,
) -> tuple[bytes, bytes]:
    """Encode what was generated and the tail, with what was added to the scope while it ran."""
    extras = scope.extras
    if extras is not None:
        if extras.generated:
            generated = {**(generated or {}), **extras.generated}
        tags = [*tags, *extras.tags]
        custom_metadata = {**custom_metadata, **extras.custom_metadata}
        run_end_callbacks(extras, error)
    return generated_field(generated), tags_and_metadata_fields(tags, custom_metadata)


def no_telemetry_field() -> bytes:
    """Give the part of a line that says that no telemetry was asked for, where other records have some."""
    return b"" if runtime.get().settings.telemetry_capture is None else b',"telemetry":false'


def thread_field() -> bytes:
    """Name the thread, in records of all threads but the main one."""
    return b',"thread":' + msgspec.json.encode(threading.current_thread().name)
