"""The current scope: the open workflow or task to which a new event belongs.

Flows in: scopes that capture opens and closes. Flows out: the current scope.

The current scope is that of the context: a ContextVar, which follows the contexts of threads and asyncio
tasks. Where the context has none, it is the scope that an adapter knows for this thread (Dask: the task that
runs on it), else an open workflow of the process (``open_workflows`` says which). A scope is restored by
identity, never by a ContextVar token: a token can be reset only in the context that created it, and a loop
may end in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import CodeType
from typing import Any, TypeAlias, cast

import msgspec

from flowprov.clock import clock
from flowprov.journal.journal import Journal
from flowprov.line_templates import OPEN_TASK, START_FIELDS
from flowprov.records import LocalId
from flowprov.runtime.open_workflows import OpenWorkflows

CodeLocation: TypeAlias = tuple[CodeType, int]


class Extras(msgspec.Struct):
    """Data that was added to a task or workflow while it ran; most tasks have none.

    Attributes
    ----------
    generated
        What the program added through the handle, by name, encoded when it was added.
    tags, custom_metadata
        What the program added besides.
    on_end
        Callbacks. Each is called just before the end record of the scope is written, with the exception that
        ended the scope, or None. A workflow of a model, which lives as long as the scope, ends there.
    """

    generated: dict[str, msgspec.Raw] = {}
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
        Its encoded inputs; None if a record was written when it opened (workflows, Dask tasks), and of a task
        that ended.
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
    open_in
        Id of the journal file that holds its open record, if one was written.
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
    open_in: str | None = None

    def current_scope(self) -> Scope | None:
        """Return itself."""
        return self

    def give_up(self) -> None:
        """Do nothing: nothing but itself holds it open."""

    def is_running(self) -> bool:
        """Whether it may still reach its end. A forward may not: an exception can jump over its end."""
        return True

    def open_line(self, additions: bytes = b"") -> bytes | None:
        """Return the open record of this scope; None if a record was written when it opened.

        Parameters
        ----------
        additions
            Further fields, each with its comma in front.
        """
        if self.used is None:
            return None
        return OPEN_TASK % (self.start_fields(), additions)

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


class HeldScope(Scope):
    """A scope that an object of the program holds open: an iteration of a loop, a ``task_scope``.

    It ends when that object says so, at the latest with its workflow. Such scopes need not nest: the program
    may go on with one loop while an iteration of another one is open.
    """


class StartedScope(HeldScope):
    """A held scope that the program started by a call and stops by another one.

    Exceptions pass it by: no block of code says what belongs to it.
    """


class CoroutineScope(StartedScope):
    """The scope of a coroutine. Coroutines that share a context go on beside each other, however one ends."""


class GeneratorScope(Scope):
    """The scope of a generator: taken out of the context while the body waits, with all that is inside."""


class LeftEarly(msgspec.Struct):
    """An iteration that was left before its end, and where that happened: the innermost frame first."""

    key: LocalId
    locations: list[CodeLocation]


current: ContextVar[Scope | None] = ContextVar("flowprov_scope", default=None)

open_workflows: OpenWorkflows[Scope] = OpenWorkflows()

# Whether this process records for workflows of other processes only, as a worker of Dask does. It opens no
# implicit workflow then.
is_guest = False

# Functions of adapters that know the scope of a thread whose context has none (see capture.dask).
resolvers: list[Callable[[], Scope | None]] = []


def resolve_scope() -> Scope | None:
    """Return the current scope when the ContextVar holds none."""
    for resolver in resolvers:
        scope = resolver()
        if scope is not None:
            return scope
    return open_workflows.for_caller()


def current_scope() -> Scope | None:
    """Return the current scope: of the context, of the thread, or of the process."""
    return current.get() or resolve_scope()


def journals_in_use() -> set[Journal]:
    """Return the journals of the current scope, of the open workflows, and of what was inherited."""
    scopes = [current.get(), *open_workflows]
    if open_workflows.inherited is not None:
        scopes.append(open_workflows.inherited.peek())  # to look for it now may create a journal
    return {scope.journal for scope in scopes if scope is not None}


def is_inside(scope: Scope | None, enclosing: Scope) -> bool:
    """Whether a scope belongs to another one, directly or not, or is that one."""
    while scope is not None and scope is not enclosing:
        scope = scope.parent
    return scope is not None


def is_open(scope: Scope) -> bool:
    """Whether this process opened a scope and has not ended it, so that it must write the scope's record."""
    holders = scope.journal.open_scopes
    if holders.get(scope.workflow_id if scope.key is None else scope.key) is scope:
        return True
    # An iteration is held by the pass over its loop, a forward by the capture of its module.
    return any(holder.current_scope() is scope for holder in list(holders.values()))


def open_around(scope: Scope | None) -> Scope | None:
    """Return the innermost scope around that has a record of its own and that this process will end."""
    while scope is not None:
        if scope.recorded and is_open(scope):
            return scope
        scope = scope.parent
    return None


def shorten(scope: Scope) -> None:
    """Have a scope that ended refer to none around it that ended before.

    Contexts outlive scopes: callbacks that schedule themselves would hold a chain of all that ever ended.
    A task that ended has no inputs any more.
    """
    while (parent := scope.parent) is not None and parent.parent is not None and _has_ended(parent):
        scope.parent = parent.parent
    while (previous := scope.previous) is not None and _has_ended(previous):
        scope.previous = previous.previous


def _has_ended(scope: Scope) -> bool:
    """Whether a task has ended, and nobody looks for its scope; a generator may go on behind its end."""
    return scope.used is None and scope.key is not None and type(scope) is not GeneratorScope


def workflow_of(scope: Scope) -> Scope:
    """Return the scope of the workflow around a scope."""
    while scope.key is not None and scope.parent is not None:
        scope = scope.parent
    return scope


def recorded(scope: Scope) -> Scope:
    """Return the innermost scope around, or itself, that has a record of its own."""
    while scope.parent is not None and not scope.recorded:
        scope = scope.parent
    return scope


def recorded_task(scope: Scope) -> Scope | None:
    """Return the innermost task around, or itself, that has a record.

    It is None directly in a workflow: a task around that is not the caller's.
    """
    innermost = recorded(scope)
    return None if innermost.key is None else innermost


def parent_fields_of(scope: Scope) -> bytes:
    """Return the parent fields: the part of a child's line that names its workflow and parent task."""
    encoded = scope.parent_fields
    if encoded is None:
        encoded = b',"workflow_id":' + msgspec.json.encode(scope.workflow_id)
        if (task := recorded_task(scope)) is not None:
            encoded += b',"parent_task_id":' + msgspec.json.encode(task.key)
        scope.parent_fields = encoded
    return encoded


def deactivate(scope: Scope, *, failed: bool = False) -> list[Scope]:
    """Take a scope that ends out of the context.

    Parameters
    ----------
    scope
        The scope.
    failed
        Whether an exception ended it, and so all that is inside.

    Returns
    -------
    list of Scope
        Scopes inside it that will not reach an end of their own, innermost first; their records are not
        written yet. A KeyboardInterrupt, for one, can jump over the end of a forward.

    Notes
    -----
    A call that ends takes everything out of the context that was opened in it. A held scope takes itself
    out: what was opened later may go on.
    """
    innermost = current.get()
    if innermost is scope:
        current.set(scope.previous)
        return []
    inner: list[Scope] = []
    opened = innermost
    while opened is not None and opened is not scope:
        inner.append(opened)
        opened = opened.previous
    if opened is None:
        return []  # another context, or closed before: leave the current scope as it is
    if not isinstance(scope, HeldScope):
        current.set(scope.previous)
        passed_by = StartedScope if failed else HeldScope
        return [other for other in inner if not isinstance(other, passed_by)]
    running = [
        other for other in inner if (isinstance(other, StartedScope) if failed else other.is_running())
    ]
    for outer, nested in zip([*running[1:], scope.previous], running, strict=False):
        nested.previous = outer
    current.set(running[0] if running else scope.previous)
    return [other for other in inner if other not in running]


def reset() -> None:
    """Forget every open scope: for tests."""
    global is_guest  # noqa: PLW0603 - once per process
    is_guest = False
    current.set(None)
    open_workflows.clear()
