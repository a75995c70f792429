"""The current scope: the open workflow or task to which a new event belongs.

Flows in: scopes that capture opens and closes. Flows out: the current scope, and the environment variables
that name it to child processes.

The current scope is that of the context: a ContextVar, which follows the contexts of threads and asyncio
tasks. Where the context has none, it is the scope that an adapter knows for this thread (Dask: the task that
runs on it), else the innermost open workflow of the process. A scope is restored by identity, never by a
ContextVar token: a token can be reset only in the context that created it, and a loop may end in another one.
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
ENV_BUFFER = "FLOWPROV__JOURNAL__PATH"  # the setting's own variable: a child uses the buffer of its parent


CodeLocation: TypeAlias = tuple[CodeType, int]


class Extras(msgspec.Struct):
    """Data that was added to a task or workflow while it ran; most tasks have none.

    Attributes
    ----------
    generated, tags, custom_metadata
        What the program added through the handle.
    on_end
        Callbacks. Each is called just before the end record of the scope is written, with the exception that
        ended the scope, or None. A workflow of a model, which lives as long as the scope, ends there.
    """

    generated: dict[str, Any] = {}
    tags: list[str] = []
    custom_metadata: dict[str, Any] = {}
    on_end: list[Callable[[BaseException | None], None]] = []


class Scope(msgspec.Struct, eq=False, weakref=True):
    """An open workflow or task, with the data that its children and its own record need.

    Attributes
    ----------
    journal
        The journal of its record and of its children's.
    key
        A task's number in that journal; the full id of a task of another process; None for a workflow.
    workflow_id
        The workflow to which children belong.
    line_prefix
        The part of its line that names its workflow, its parent and its activity.
    used
        Its encoded inputs; None if a record was written when it opened (workflows, Dask tasks).
    started
        Start by the monotonic clock, in nanoseconds.
    wall_started
        Start by the wall clock, in nanoseconds, if a record was written when it opened.
    previous
        The scope that the ContextVar held before; None if the parent came from elsewhere.
    parent
        The scope to which this one belongs.
    muted
        Whether nothing inside is recorded.
    forwards
        Whether forwards of models inside are recorded (epoch loops may leave some out).
    epoch
        The item of the innermost epoch loop.
    recorded
        Whether the scope has a record of its own; the children of a scope without one belong to its parent.
    left_early
        Iterations inside that were left early: they are corrected if an exception was the cause.
    closed
        Whether the workflow was stopped. It is muted then too, so the hot path need not read this.
    opener
        The object that opened it, if its end must find that again (the capture of a module).
    exact
        Whether telemetry was read at its start, and must be read at its end.
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
        """Return the open record of this scope; None if a record was written when it opened."""
        if self.used is None:
            return None
        return OPEN_TASK % self.start_fields()

    def start_fields(self) -> bytes:
        """Return the fields of a task's record that are known at its start."""
        fields = (self.key, self.line_prefix, self.started + clock.offset, self.used)
        return START_FIELDS % cast("tuple[int, bytes, int, bytes]", fields)

    def ensure_extras(self) -> Extras:
        """Return the extras; the first call creates them."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    def full_task_id(self) -> str | None:
        """Return the full task id; None for a workflow."""
        return None if self.key is None else self.journal.full_id(self.key)


class LeftEarly(msgspec.Struct):
    """An iteration that was left before its end, and where that happened: the innermost frame first."""

    key: LocalId
    locations: list[CodeLocation]


current: ContextVar[Scope | None] = ContextVar("flowprov_scope", default=None)

# Workflows that are open in this process, innermost last. The first may belong to another process, from which
# this one inherited it.
open_workflows: list[Scope] = []

# Functions of adapters that know the scope of a thread whose context has none (see capture.dask).
resolvers: list[Callable[[], Scope | None]] = []


def resolve_scope() -> Scope | None:
    """Return the current scope when the ContextVar holds none."""
    for resolver in resolvers:
        scope = resolver()
        if scope is not None:
            return scope
    return open_workflows[-1] if open_workflows else None


def current_scope() -> Scope | None:
    """Return the current scope: of the context, of the thread, or of the process."""
    return current.get() or resolve_scope()


def is_open(scope: Scope) -> bool:
    """Whether this process opened a scope and has not ended it, so that it must write the scope's record."""
    return any(holder.current_scope() is scope for holder in list(scope.journal.open_scopes.values()))


def open_around(scope: Scope | None) -> Scope | None:
    """Return the innermost scope around that has a record of its own and that this process will end."""
    while scope is not None:
        if scope.recorded and is_open(scope):
            return scope
        scope = scope.parent
    return None


def parent_fields_of(scope: Scope) -> bytes:
    """Return the parent fields: the part of a child's line that names its workflow and parent task."""
    encoded = scope.parent_fields
    if encoded is None:
        recorded: Scope | None = scope
        while recorded is not None and not recorded.recorded:
            recorded = recorded.parent
        encoded = b',"workflow_id":' + msgspec.json.encode(scope.workflow_id)
        if recorded is not None and recorded.key is not None:
            encoded += b',"parent_task_id":' + msgspec.json.encode(recorded.key)
        scope.parent_fields = encoded
    return encoded


def deactivate(scope: Scope) -> list[Scope]:
    """Make the scope that was current before ``scope`` current again.

    Returns
    -------
    list of Scope
        Scopes inside it that never closed, innermost first; their records are not written yet. A
        KeyboardInterrupt, for one, can jump over the end of a forward.
    """
    open_now = current.get()
    if open_now is scope:
        current.set(scope.previous)
        return []
    inner: list[Scope] = []
    while open_now is not None and open_now is not scope:
        inner.append(open_now)
        open_now = open_now.previous
    if open_now is None:
        return []  # another context, or closed out of order: leave the current scope as it is
    current.set(scope.previous)
    return inner


def propagated_variables() -> dict[str, str]:
    """Return the environment variables from which a child process learns where it belongs."""
    scope = current_scope()
    if scope is None:
        return {}
    journal = scope.journal
    variables = {
        ENV_CAMPAIGN: journal.identity.campaign_id,
        ENV_WORKFLOW: scope.workflow_id,
        ENV_BUFFER: journal.settings.path,
    }
    parent = scope
    while parent.parent is not None and not parent.recorded:
        parent = parent.parent
    if (task_id := parent.full_task_id()) is not None:
        variables[ENV_PARENT_TASK] = task_id
    return variables


def inherited_ids(environ: dict[str, str] | os._Environ[str]) -> tuple[str | None, str | None, str | None]:
    """Return the ids of campaign, workflow and parent task that this process inherited from another one."""
    return environ.get(ENV_CAMPAIGN), environ.get(ENV_WORKFLOW), environ.get(ENV_PARENT_TASK)


def reset() -> None:
    """Forget every open scope: for tests."""
    current.set(None)
    open_workflows.clear()
