"""The records of a workflow: opening, additions, ending; and the implicit workflow of a program.

Flows in: workflows that open and close. Flows out: one record when a workflow opens, written at once, so that
it is there if the process dies; one record for each addition; one record when the workflow ends.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov import guard, records
from flowprov.asynchronous import came_from_outside
from flowprov.capture import metrics
from flowprov.capture.additions import encode_values
from flowprov.capture.failures import (
    Outcome,
    close_all_abandoned,
    close_held,
    correct_left_early,
    count_lost_event,
    outcome_of,
    run_end_callbacks,
)
from flowprov.capture.function_spec import encode
from flowprov.capture.notebook_cells import error_of_last_cell, follow_cells
from flowprov.capture.version_records import note_ending, note_opening
from flowprov.clock import clock, ticks
from flowprov.environment import code, dagster, host
from flowprov.environment.notebook import given_parameters, is_kernel, notebook_name
from flowprov.environment.program import script_path
from flowprov.environment.repository import describe_repository
from flowprov.ids import new_id
from flowprov.journal import Journal
from flowprov.locks import create_lock
from flowprov.records import Status
from flowprov.runtime import context, launch, propagation, runtime
from flowprov.runtime.context import HeldScope, Scope
from flowprov.values import as_name

_IMPLICIT = "implicit"


def write_opening(
    journal: Journal,
    workflow_id: str,
    *,
    name: str | None,
    parent_workflow_id: str | None,
    subtype: str | None = None,
    used: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
    has_version: bool = True,
    started_at: int | None = None,
    keep: Callable[[Scope], object] | None = None,
) -> Scope:
    """Write the opening of a workflow. It counts as open until :func:`write_ending`.

    Its version is found out in the background, and its orchestrator asked, unless it has those of the
    workflow around it. It began now, or at ``started_at`` (nanoseconds since the epoch). ``keep`` is called
    with its scope at once. An exception from outside ends the workflow, if it arrives before this returns.
    """
    repository = code.repository_of_program()
    opening: Any = records.Workflow(
        workflow_id=workflow_id,
        parent_workflow_id=parent_workflow_id,
        name=name,
        subtype=subtype,
        used=_encode_field(used if parent_workflow_id is not None else _with_parameters(used)),
        custom_metadata=_encode_field(custom_metadata),
        machine_info=_encode_whole(host.machine_info()),
        settings=_encode_whole(runtime.get().settings.to_public_dict()),
        user=as_name(code.user()),
        environment_id=as_name(code.environment_id()),
        code_repository=None if repository is None else _encode_whole(describe_repository(repository)),
        orchestrator=_encode_whole(_orchestrator(subtype)) if has_version else None,
        started_at=clock.now() if started_at is None else started_at,
        status=Status.RUNNING.value,
    )
    since = ticks() - (0 if started_at is None else max(0, clock.now() - started_at))
    scope = Scope(journal, None, workflow_id, started=since, wall_started=opening.started_at)
    line, is_listed = records.encode(opening), False
    try:
        journal.append_opening(workflow_id, line)
        journal.open_scopes[workflow_id] = scope
        is_listed = True
        if has_version:
            with guard.guarded("finding out the version of code and data"):
                note_opening(journal, workflow_id, repository)
        propagation.install()
        if follow_cells(_add_parameters):
            runtime.get().at_exit.append(_close_after_failed_cell)
        if keep is not None:
            keep(scope)
    except BaseException as error:  # raised on: nobody else knows of the workflow yet
        if came_from_outside(error):
            if not is_listed:
                journal.settle(line)
                journal.open_scopes[workflow_id] = scope
            write_ending(scope, error=error)
        raise
    return scope


def _orchestrator(subtype: str | None) -> dict[str, Any] | None:
    """Return the step in which a workflow opens; the implicit one may serve several steps of a run."""
    if not runtime.get().settings.orchestrators:
        return None
    with guard.guarded("asking the orchestrator for the current step"):
        return dagster.describe_process() if subtype == _IMPLICIT else dagster.describe_step()
    return None


def _with_parameters(used: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what the outermost workflow of a notebook uses, with the parameters that a cell was given."""
    with guard.guarded("reading the parameters of a notebook"):
        return {**given_parameters(), **(used or {})} or used
    return used


def _add_parameters(workflow: Scope, parameters: Mapping[str, Any]) -> None:
    write_addition(workflow.journal, workflow.workflow_id, used=parameters)


def _close_after_failed_cell() -> None:
    """Close the workflows that a notebook left open, if its last cell failed: papermill ends it there."""
    if (error := error_of_last_cell()) is not None:
        for scope in list(context.open_workflows)[::-1]:
            if scope is not context.open_workflows.implicit and context.is_open(scope):
                close_workflow(scope, error=error)


def write_ending(
    scope: Scope,
    custom_metadata: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> None:
    """Write the end of a workflow, once, and only in the process that opened it."""
    ended = scope.wall_started + ticks() - scope.started
    if scope.workflow_id not in scope.journal.open_scopes:
        return
    outcome = Outcome(Status.FINISHED, None, {}) if error is None else outcome_of(error)
    if error is not None:
        correct_left_early(scope, error, outcome)
    extras = scope.ensure_extras()
    run_end_callbacks(extras, error)
    # The metadata of the opening is written again only if something was added to it.
    added = {**extras.custom_metadata, **tags_as_metadata(extras.tags), **outcome.metadata}
    ending: Any = records.Workflow(
        workflow_id=scope.workflow_id,
        generated=_encode_field(extras.generated or None),
        custom_metadata=_encode_field({**(custom_metadata or {}), **added} if added else None),
        ended_at=ended,
        status=outcome.status.value,
        error=outcome.error,
    )
    line = records.encode(ending)
    try:
        # Only now: an exception from outside that arrived before has this called again.
        if scope.journal.open_scopes.pop(scope.workflow_id, None) is None:
            return
        scope.journal.append(line)
    except BaseException:  # raised on; it may have arrived before anything was appended
        if scope.workflow_id not in scope.journal.open_scopes:
            scope.journal.settle(line)
        raise
    else:
        with guard.guarded("finding out the version of code and data"):
            note_ending(scope.journal, scope.workflow_id)


def close_workflow(
    scope: Scope,
    custom_metadata: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> None:
    """Close an open workflow, and the tasks in it that are still open.

    An exception that came from outside passes through; nothing else is raised. The call may be repeated then.
    """
    try:
        inner_scopes = context.deactivate(scope, failed=error is not None)
        close_all_abandoned([inner for inner in inner_scopes if inner.key is not None])
        for holder in list(scope.journal.open_scopes.values()):
            held = holder.current_scope()
            if isinstance(held, HeldScope) and context.is_inside(held, scope):
                close_held(held)
        context.open_workflows.remove(scope)
        scope.closed = scope.muted = True
        write_ending(scope, custom_metadata, error)
    except Exception as fault:  # the guard
        count_lost_event(scope, "closing a workflow", fault)


def write_addition(
    journal: Journal,
    workflow_id: str,
    *,
    used: Mapping[str, Any] | None = None,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an addition to a workflow of this process or another. Readers merge it with the other records."""
    addition: Any = records.Workflow(
        workflow_id=workflow_id,
        used=_encode_field(used),
        generated=_encode_field(generated),
        custom_metadata=_encode_field(custom_metadata),
    )
    journal.append(records.encode(addition))


def add_to_workflow(
    scope: Scope,
    *,
    used: Mapping[str, Any] | None = None,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write what the program gave to a workflow; the process that opened it repeats it at the end."""
    if generated is not None:
        encoded = encode_values(generated)
        scope.ensure_extras().generated.update(encoded)
        generated = encoded
    write_addition(
        scope.journal, scope.workflow_id, used=used, generated=generated, custom_metadata=custom_metadata
    )
    if metrics.waiting:
        metrics.settle(scope)


def implicit_workflow() -> Scope | None:
    """Open the workflow of a program that opened none; return None if nothing is captured.

    The workflow has the name of the program, and closes when the process ends.

    Raises
    ------
    SettingsError
        If the settings cannot be used.
    """
    active = runtime.get()
    if not active.capturing:
        return None
    if context.is_guest and not context.open_workflows:
        guard.warn_once(
            "guest",
            "flowprov does not record what process %d runs outside of a workflow: it works for workflows of "
            "other processes. flowprov.workflow opens one there; flowprov.bind carries one into a thread.",
            os.getpid(),
        )
        return None
    with _implicit_lock:
        if (scope := context.open_workflows.for_caller()) is None:  # another thread may have been faster
            with guard.guarded("opening a workflow"):
                _open_implicit(active)
            scope = context.open_workflows.for_caller()
        return scope


def _open_implicit(active: runtime.Runtime) -> None:
    name, campaign_id = _program_name(), active.campaign_id()

    def keep(scope: Scope) -> None:
        context.open_workflows.add_implicit(scope)
        if active.ended:
            _close_implicit(scope)  # there is no other end to wait for
        else:
            active.at_exit.append(functools.partial(_close_implicit, scope))

    write_opening(
        active.journal(campaign_id),
        new_workflow_id(campaign_id, name),
        name=name,
        parent_workflow_id=None,
        subtype=_IMPLICIT,
        keep=keep,
    )


def _close_implicit(scope: Scope) -> None:
    close_workflow(scope, error=error_of_program())
    # What the program does at its very end (handlers of atexit, finalizers) belongs to it all the same.
    context.open_workflows.add_implicit(Scope(scope.journal, None, scope.workflow_id))


def error_of_program() -> BaseException | None:
    """Return the exception that ends this program, or that ended the last cell of a notebook; else None."""
    if is_kernel():
        return error_of_last_cell()
    interactive = hasattr(sys, "ps1")  # there, an exception ends a line of input and not the program
    return None if interactive else getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def new_workflow_id(campaign_id: str, name: str) -> str:
    """Return the id of a workflow that this process opens: the same in all ranks of a job, else a new one."""
    _ordinals[name] += 1
    return launch.workflow_id(campaign_id, name, _ordinals[name] - 1) or new_id()


_implicit_lock = create_lock()
_ordinals: Counter[str] = Counter()


def _program_name() -> str:
    if (notebook := notebook_name()) is not None:
        return notebook
    path = script_path()
    return "python" if path in (None, "-c", "-m") else Path(as_name(path, "")).stem or "python"


def _encode_field(mapping: Mapping[str, Any] | None) -> Any:
    """Encode a mapping with the summarizer, as a field of a record."""
    return None if mapping is None else msgspec.Raw(encode(mapping))


def _encode_whole(mapping: Mapping[str, Any] | None) -> Any:
    """Encode what flowprov itself found out: on a busy machine it must not lose its end to the time limit."""
    return (
        None if mapping is None else msgspec.Raw(runtime.get().unhurried_summarizer.encode_mapping(mapping))
    )


def tags_as_metadata(tags: list[str]) -> dict[str, Any]:
    """Return the tags of a workflow as metadata; encoded, so that none is cut."""
    return {"tags": msgspec.Raw(msgspec.json.encode(tags))} if tags else {}
