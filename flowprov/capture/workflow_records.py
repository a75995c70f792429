"""The records of a workflow: its opening, what is added, its ending; and the implicit workflow of a program.

Flows in: what opens and closes a workflow. Flows out: one record when it opens, written at once, so that a
process that dies leaves word of it, and one when it ends.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov import guard, records
from flowprov.capture.failures import (
    close_all_abandoned,
    correct_left_early,
    count_lost_event,
    describe_exception,
    run_end_callbacks,
)
from flowprov.capture.function_spec import encode
from flowprov.clock import clock, ticks
from flowprov.environment import code, host, launchers
from flowprov.journal import Journal
from flowprov.records import Status, new_id
from flowprov.runtime import context, propagation, runtime
from flowprov.runtime.context import Scope


def write_opening(
    journal: Journal,
    workflow_id: str,
    *,
    name: str | None,
    parent_workflow_id: str | None,
    subtype: str | None = None,
    used: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> Scope:
    """Write that a workflow opened; it counts as open until :func:`write_ending`."""
    opening: Any = records.Workflow(
        workflow_id=workflow_id,
        parent_workflow_id=parent_workflow_id,
        name=name,
        subtype=subtype,
        used=_encode_field(used),
        custom_metadata=_encode_field(custom_metadata),
        machine_info=_encode_field(host.machine_info()),
        settings=_encode_field(runtime.get().settings.to_public_dict()),
        user=code.user(),
        environment_id=code.environment_id(),
        code_repository=_encode_field(code.code_repository()),
        started_at=clock.now(),
        status=Status.RUNNING.value,
    )
    scope = Scope(journal, None, workflow_id, started=ticks(), wall_started=opening.started_at)
    journal.append(records.encode(opening))
    journal.open_scopes[workflow_id] = scope
    propagation.install()
    return scope


def write_ending(
    scope: Scope,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> None:
    """Write that a workflow ended, once, and only in the process that opened it."""
    ended = scope.wall_started + ticks() - scope.started
    if scope.journal.open_scopes.pop(scope.workflow_id, None) is None:
        return
    described = None
    if error is not None:
        described = describe_exception(error)
        correct_left_early(scope, error, described)
    extras = scope.ensure_extras()
    run_end_callbacks(extras, error)
    # The metadata of the opening is said again only where something was added to it.
    added = _with_tags(extras)
    ending: Any = records.Workflow(
        workflow_id=scope.workflow_id,
        generated=_encode_field({**(generated or {}), **extras.generated} or None),
        custom_metadata=_encode_field({**(custom_metadata or {}), **added} if added else None),
        ended_at=ended,
        status=(Status.ERROR if error is not None else Status.FINISHED).value,
        error=described,
    )
    scope.journal.append(records.encode(ending))


def close_workflow(
    scope: Scope,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> None:
    """Close a workflow that is among the open ones, with the tasks in it that never reached their end."""
    close_all_abandoned([inner for inner in context.deactivate(scope) if inner.key is not None])
    if scope in context.open_workflows:
        context.open_workflows.remove(scope)
    scope.closed = scope.muted = True
    write_ending(scope, generated, custom_metadata, error)


def write_addition(
    journal: Journal,
    workflow_id: str,
    *,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write what is to be added to a workflow, of this process or another; reading joins it with the rest."""
    addition: Any = records.Workflow(
        workflow_id=workflow_id,
        generated=_encode_field(generated),
        custom_metadata=_encode_field(custom_metadata),
    )
    journal.append(records.encode(addition))


def implicit_workflow() -> Scope | None:
    """Open the workflow of a program that opened none; None if nothing is to be captured.

    It is named after the program and closed when the process ends.

    Raises
    ------
    SettingsError
        If the settings that were found cannot be used.
    """
    held = runtime.get()
    if not held.capturing:
        return None
    with _implicit_lock:
        if not context.open_workflows:
            with guard.guarded("opening a workflow"):
                _open_implicit(held)
        return context.open_workflows[-1] if context.open_workflows else None


def _open_implicit(held: runtime.Runtime) -> None:
    name, campaign_id = _program_name(), held.campaign_id()
    scope = write_opening(
        held.journal(campaign_id),
        new_workflow_id(campaign_id, name),
        name=name,
        parent_workflow_id=None,
        subtype="implicit",
    )
    context.open_workflows.append(scope)
    held.at_exit.append(functools.partial(_close_implicit, scope))


def _close_implicit(scope: Scope) -> None:
    try:
        close_workflow(scope, error=error_of_program())
    except Exception as fault:  # the guard
        count_lost_event(scope, "closing a workflow", fault)


def error_of_program() -> BaseException | None:
    """Return the exception that ends this program, None if none does."""
    interactive = hasattr(sys, "ps1")  # there, an exception ends a line and not the program
    return None if interactive else getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def new_workflow_id(campaign_id: str, name: str) -> str:
    """Return an id for a workflow that this process opens: the same in all ranks of a job, else a new one."""
    _ordinals[name] += 1
    return launchers.workflow_id(campaign_id, name, _ordinals[name] - 1) or new_id()


_implicit_lock = threading.RLock()
_ordinals: Counter[str] = Counter()


def _program_name() -> str:
    program = sys.argv[0] if sys.argv else ""
    return "python" if program in ("", "-c", "-m") else Path(program).stem or "python"


def _encode_field(mapping: Mapping[str, Any] | None) -> Any:
    """Encode a mapping by the rules for values, as a ready part of a record."""
    return None if mapping is None else msgspec.Raw(encode(mapping))


def _with_tags(extras: context.Extras) -> dict[str, Any]:
    return {**extras.custom_metadata, **({"tags": list(extras.tags)} if extras.tags else {})}
