"""Which workflow and task is current, and how that is handed on.

Flows in: scopes that capture opens and closes. Flows out: the scope to which a new event belongs.

The current scope is the one of the context (a ContextVar: it follows threads' own contexts and asyncio
tasks), else what an adapter knows of this thread (Dask: the task that runs on it), else the innermost open
workflow of the process. A scope is restored by identity, never by a ContextVar token: tokens can only be
reset in the context that made them, and a loop may end in another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType
from typing import Any, TypeAlias, cast

import msgspec

from flowprov.clock import clock
from flowprov.journal.journal import Journal
from flowprov.line_templates import OPEN_TASK, START_FIELDS
from flowprov.records import LocalId

ENV_CAMPAIGN = "FLOWPROV_CAMPAIGN_ID"
ENV_WORKFLOW = "FLOWPROV_WORKFLOW_ID"
ENV_PARENT_TASK = "FLOWPROV_PARENT_TASK_ID"
ENV_BUFFER = "FLOWPROV__JOURNAL__PATH"  # the setting's own variable: the child writes beside its parent


CodeLocation: TypeAlias = tuple[CodeType, int]


class Extras(msgspec.Struct):
    """What was added to a task or workflow while it ran; most have none.

    Attributes
    ----------
    generated, tags, custom_metadata
        What the program added through the handle.
    on_end
        Called just before the record of the end is written, with the exception that ended the scope, or None:
        what was opened inside and lives as long (the workflow of a model) ends then.
    """

    generated: dict[str, Any] = {}
    tags: list[str] = []
    custom_metadata: dict[str, Any] = {}
    on_end: list[Callable[[BaseException | None], None]] = []


class Scope(msgspec.Struct, eq=False, weakref=True):
    """An open workflow or task: what its children and its own record need.

    Attributes
    ----------
    journal
        Where it and its children are recorded.
    key
        A task's number in that journal, the full id of a task of another process, or None for a workflow.
    workflow_id
        The workflow to which children belong.
    line_prefix
        The part of its line that says where it belongs and what it is.
    used
        Its encoded inputs; None where the opening was written when it happened (workflows, Dask tasks).
    started
        Start by the monotonic clock, in nanoseconds.
    wall_started
        Start by the wall clock, where a record of it was written when it happened.
    previous
        What the ContextVar held before; None where the parent came from elsewhere.
    parent
        The scope to which this one belongs.
    muted
        Nothing inside is recorded.
    forwards
        Whether forwards of models inside are recorded (epochs thin them).
    epoch
        The item of the innermost epoch loop.
    recorded
        Whether the scope has a record of its own; children of one that has not belong to its parent.
    left_early
        Iterations inside that were left early, for a correction should an exception turn out to be why.
    closed
        The workflow was stopped; it is muted then, so that the hot path need not look at this.
    opener
        What opened it, where its end must find it again (the capture of a module).
    exact
        Telemetry was read at its start, and is to be at its end.
    """

    journal: Journal
    key: LocalId | None
    workflow_id: str
    line_prefix: bytes = b""
    used: bytes | None = None
    started: int = 0
    wall_started: int = 0
    previous: Scope | None = None
    parent: Scope | None = None
    muted: bool = False
    forwards: bool = True
    epoch: Any = None
    recorded: bool = True
    parent_fields: bytes | None = None
    extras: Extras | None = None
    left_early: list[LeftEarly] | None = None
    closed: bool = False
    opener: object = None
    exact: bool = False

    def current_scope(self) -> Scope | None:
        """Return itself."""
        return self

    def open_line(self) -> bytes | None:
        """Give the control record that says that this scope is open; None where its opening was written."""
        if self.used is None:
            return None
        return OPEN_TASK % self.start_fields()

    def start_fields(self) -> bytes:
        """Give the fields of a task's record that are known at its start."""
        fields = (self.key, self.line_prefix, self.started + clock.offset, self.used)
        return START_FIELDS % cast("tuple[int, bytes, int, bytes]", fields)

    def ensure_extras(self) -> Extras:
        """Give the extras, made at the first call."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    def full_task_id(self) -> str | None:
        """Give the full task id, None for a workflow."""
        return None if self.key is None else self.journal.full_id(self.key)


class LeftEarly(msgspec.Struct):
    """An iteration that was left before its end, and where in the program: innermost frame first."""

    key: LocalId
    locations: list[CodeLocation]


current: ContextVar[Scope | None] = ContextVar("flowprov_scope", default=None)

# Workflows that are open in this process, innermost last. The first may be one that another process opened
# and handed to this one.
open_workflows: list[Scope] = []

# Adapters that know which scope a thread is in although its context does not say (see capture.dask).
resolvers: list[Callable[[], Scope | None]] = []


def resolve_scope() -> Scope | None:
    """Find the current scope when the ContextVar holds none."""
    for resolver in resolvers:
        scope = resolver()
        if scope is not None:
            return scope
    return open_workflows[-1] if open_workflows else None


def current_scope() -> Scope | None:
    """Give the current scope: of the context, of the thread, or of the process."""
    return current.get() or resolve_scope()


def is_open(scope: Scope) -> bool:
    """Whether this process opened a scope and has not ended it: its record is this process's to write."""
    return any(holder.current_scope() is scope for holder in list(scope.journal.open_scopes.values()))


def open_around(scope: Scope | None) -> Scope | None:
    """Find the innermost scope that has a record of its own, which this process is going to end."""
    while scope is not None:
        if scope.recorded and is_open(scope):
            return scope
        scope = scope.parent
    return None


def parent_fields_of(scope: Scope) -> bytes:
    """Give the part of a child's line that names its workflow and parent task."""
    made = scope.parent_fields
    if made is None:
        recorded: Scope | None = scope
        while recorded is not None and not recorded.recorded:
            recorded = recorded.parent
        made = b',"workflow_id":' + msgspec.json.encode(scope.workflow_id)
        if recorded is not None and recorded.key is not None:
            made += b',"parent_task_id":' + msgspec.json.encode(recorded.key)
        scope.parent_fields = made
    return made


def deactivate(scope: Scope) -> list[Scope]:
    """Make what was current before ``scope`` current again.

    Returns
    -------
    list of Scope
        Scopes inside it that never closed (a KeyboardInterrupt can jump over the end of a forward),
        innermost first: their records are still owed.
    """
    here = current.get()
    if here is scope:
        current.set(scope.previous)
        return []
    inner: list[Scope] = []
    while here is not None and here is not scope:
        inner.append(here)
        here = here.previous
    if here is None:
        return []  # another context, or closed out of order: what is current there is none of ours to change
    current.set(scope.previous)
    return inner


def carried_variables() -> dict[str, str]:
    """Give the environment variables that tell a child process where it belongs."""
    scope = current_scope()
    if scope is None:
        return {}
    journal = scope.journal
    given = {
        ENV_CAMPAIGN: journal.identity.campaign_id,
        ENV_WORKFLOW: scope.workflow_id,
        ENV_BUFFER: journal.settings.path,
    }
    parent = scope
    while parent.parent is not None and not parent.recorded:
        parent = parent.parent
    if (task_id := parent.full_task_id()) is not None:
        given[ENV_PARENT_TASK] = task_id
    return given


def inherited_ids(environ: dict[str, str] | os._Environ[str]) -> tuple[str | None, str | None, str | None]:
    """Read (campaign, workflow, parent task) that another process handed to this one."""
    return environ.get(ENV_CAMPAIGN), environ.get(ENV_WORKFLOW), environ.get(ENV_PARENT_TASK)


def reset() -> None:
    """Forget every open scope: for tests."""
    current.set(None)
    open_workflows.clear()
