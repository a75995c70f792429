"""Inheritance: to which workflow and task a child process belongs, and for how long.

Flows in, in the parent: the current scope when a child is started. Flows out: environment variables, which
name it. Flows in, in the child: the same. Flows out: the scope that the child's own workflows and tasks join.

A program that was started belongs to one workflow for its whole life. A child of multiprocessing may be a
worker of a pool, which serves one workflow after another. It asks the scoreboards of the processes above it
whether what it inherited is over. Then it belongs to the workflow that is open there now.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Protocol

import msgspec

from flowprov import guard
from flowprov.environment import launchers
from flowprov.journal import Journal
from flowprov.runtime import context
from flowprov.runtime.context import Scope
from flowprov.runtime.roll import Roll
from flowprov.runtime.scoreboard import Address, Scoreboard, ScoreboardView, open_view
from flowprov.settings import Settings
from flowprov.values import as_id

ENV_CAMPAIGN = "FLOWPROV_CAMPAIGN_ID"
ENV_WORKFLOW = "FLOWPROV_WORKFLOW_ID"
ENV_PARENT_TASK = "FLOWPROV_PARENT_TASK_ID"
ENV_SCOREBOARDS = "FLOWPROV_SCOREBOARDS"
ENV_BUFFER = "FLOWPROV__JOURNAL__PATH"  # the setting's own variable: a child uses the buffer of its parent
ENV_RANK_OF = launchers.ENV_RANK_OF
NAMES = (ENV_CAMPAIGN, ENV_WORKFLOW, ENV_PARENT_TASK, ENV_SCOREBOARDS, ENV_BUFFER, ENV_RANK_OF)


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """The slot of a scope on a scoreboard."""

    board: str
    number: int


class Heritage(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a child learns whether the scope that it inherited is over: what stands in ``ENV_SCOREBOARDS``.

    Attributes
    ----------
    boards
        The scoreboards of the processes above it, the nearest first.
    workflow, task
        The slots of the workflow and the task; None where nobody says when they end.
    made_up
        Whether nobody named the campaign: a process above made it up, and no workflow is open there.
    """

    boards: list[Address] = []
    workflow: Slot | None = None
    task: Slot | None = None
    made_up: bool = False


class OpenWorkflow(msgspec.Struct, frozen=True):
    """What a scoreboard says of the workflow that is open now."""

    campaign_id: str
    workflow_id: str
    buffer: str
    slot: int


class Process(Protocol):
    """What is asked of the runtime of this process.

    Attributes
    ----------
    capturing
        Whether anything is recorded.
    settings
        The active settings.
    """

    capturing: bool
    settings: Settings

    def known_campaign_id(self) -> str | None:
        """Return the campaign of this process; None if it needed none yet."""

    def is_campaign_made_up(self) -> bool:
        """Whether nobody named that campaign."""

    def journal(self, campaign_id: str, buffer: str | None = None) -> Journal:
        """Return the journal for a campaign."""


class Inherited:
    """The scope that this process inherited, as long as it is open; then the one that is open above.

    Parameters
    ----------
    scope
        The inherited scope; None if nothing was open.
    heritage
        How to learn whether it is over.
    views
        The scoreboards of the processes above, the nearest first.
    process
        The runtime of this process.
    """

    def __init__(
        self, scope: Scope | None, heritage: Heritage, views: list[ScoreboardView], process: Process
    ) -> None:
        self._scope = scope
        self.process = process
        self._views = views
        self._workflow = _find(heritage.workflow, views)
        self._task = _find(heritage.task, views)
        self._known: tuple[bytes | None, Scope | None] = (None, None)

    def __call__(self) -> Scope | None:
        """Return the scope that a workflow or task of this process joins; None if there is none."""
        views = self._views
        versions = views[0].version() if len(views) == 1 else b"".join([view.version() for view in views])
        known, scope = self._known
        if versions != known:
            scope = self._resolve(scope)
            self._known = (versions, scope)
        return scope

    def peek(self) -> Scope | None:
        """Return the scope that was found last. To look again may create a journal."""
        return self._known[1] or self._scope

    def keep(self) -> None:
        """Stay with the scope that was found last, whatever ends in the processes above."""
        self._views = []
        self._known = (b"", self._known[1])

    def _resolve(self, before: Scope | None) -> Scope | None:
        scope = self._scope
        if scope is not None and not _is_over(self._workflow):
            return context.workflow_of(scope) if _is_over(self._task) else scope
        for view in self._views:
            with guard.guarded("reading the scoreboard of a parent process"):
                text = view.workflow()
                if text is not None:
                    return self._join(msgspec.convert(text, OpenWorkflow), view, before)
        return None

    def _join(self, workflow: OpenWorkflow, view: ScoreboardView, before: Scope | None) -> Scope:
        if before is not None and before.key is None and before.workflow_id == workflow.workflow_id:
            return before
        journal = self.process.journal(workflow.campaign_id, workflow.buffer)
        scope = Scope(journal, None, workflow.workflow_id, muted=not self.process.capturing)
        _slots[scope] = Slot(view.address.id, workflow.slot)
        return scope


def _find(slot: Slot | None, views: list[ScoreboardView]) -> tuple[ScoreboardView, int] | None:
    for view in views:
        if slot is not None and view.address.id == slot.board:
            return view, slot.number
    return None


def _is_over(place: tuple[ScoreboardView, int] | None) -> bool:
    return place is not None and place[0].is_over(place[1])


# -- in the parent -----------------------------------------------------------------------------------------

_board: Scoreboard | None = None
_roll: Roll | None = None
_has_boards = hasattr(os, "memfd_create")
_board_lock = threading.RLock()
_views: list[ScoreboardView] = []
_slots: weakref.WeakKeyDictionary[Scope, Slot] = weakref.WeakKeyDictionary()


def variables(process: Process | None) -> dict[str, str]:
    """Return the environment variables from which a child process learns where it belongs."""
    scope = context.current_scope()
    if scope is not None:
        journal = scope.journal
        campaign_id, buffer = journal.identity.campaign_id, journal.settings.path
        found = {ENV_WORKFLOW: scope.workflow_id}
        if (task_id := context.recorded(scope).full_task_id()) is not None:
            found[ENV_PARENT_TASK] = task_id
    elif process is not None and (known := process.known_campaign_id()) is not None:
        campaign_id, buffer, found = known, process.settings.journal.path, {}
    else:
        return {}
    if (rank := launchers.rank_variables()) is not None:
        found[ENV_RANK_OF] = rank
    heritage = heritage_of(scope)
    if scope is None and process is not None and process.is_campaign_made_up():
        heritage = msgspec.structs.replace(heritage, made_up=True)
    encoded = msgspec.json.encode(heritage).decode()
    return {**found, ENV_CAMPAIGN: campaign_id, ENV_BUFFER: buffer, ENV_SCOREBOARDS: encoded}


def heritage_of(scope: Scope | None) -> Heritage:
    """Return how a child learns whether a scope that it inherits is over."""
    board = _own_board()
    boards = [view.address for view in _views]
    if board is not None:
        boards.insert(0, board.address)
    if scope is None:
        return Heritage(boards)
    task = context.recorded_task(scope)
    return Heritage(boards, _slot_of(context.workflow_of(scope)), None if task is None else _slot_of(task))


def _slot_of(scope: Scope) -> Slot | None:
    """Return the slot of a scope that children inherit; None if nobody says when it ends."""
    slot = _slots.get(scope)
    board = _own_board()
    if slot is None and board is not None and context.is_open(scope):
        try:
            number = board.new_slot()
        except OSError:  # no memory: nobody says when it ends
            return None
        slot = _slots[scope] = Slot(board.address.id, number)

        def end(_: BaseException | None) -> None:
            _slots.pop(scope, None)
            board.mark_over(number)

        scope.ensure_extras().on_end.append(end)
    return slot


def _own_board() -> Scoreboard | None:
    global _board, _roll, _has_boards  # noqa: PLW0603 - one for each process
    if (_board is None or not _board.is_reachable()) and _has_boards:
        with _board_lock:
            if _board is None or not _board.is_reachable():
                try:
                    board = Scoreboard()
                    _roll = Roll(board.address.id)
                    board.address = msgspec.structs.replace(board.address, roll=_roll.path)
                except OSError:  # a sandbox, or no more files: children take what they inherited for open
                    _has_boards = False
                    return None
                if _board is None:
                    context.open_workflows.observers.append(_publish)
                    _board = board
                else:  # the program has closed the descriptor of the other one
                    former, _board = _board.address.id, board
                    for scope in [scope for scope, slot in _slots.items() if slot.board == former]:
                        del _slots[scope]
        _publish()
    return _board


def roll() -> Roll | None:
    """Return the roll of this process; None if it has started no child from a workflow."""
    return _roll


def _publish() -> None:
    board = _board
    if board is None:
        return
    with guard.guarded("publishing the open workflow to child processes"):
        scope = context.open_workflows.for_children()
        slot = None if scope is None else _slot_of(scope)
        if scope is None or slot is None or slot.board != board.address.id:
            board.publish(None)
            return
        journal = scope.journal
        board.publish(
            OpenWorkflow(journal.identity.campaign_id, scope.workflow_id, journal.settings.path, slot.number)
        )


# -- in the child ------------------------------------------------------------------------------------------


def inherited_ids(environ: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Return the ids of campaign, workflow and parent task that this process inherited from another one."""
    campaign_id, workflow_id, task_id = map(environ.get, (ENV_CAMPAIGN, ENV_WORKFLOW, ENV_PARENT_TASK))
    return as_id(campaign_id), as_id(workflow_id), as_id(task_id)


def inherited_heritage(environ: Mapping[str, str]) -> Heritage:
    """Return what this process inherited besides ids; nothing if a person set the ids."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(environ.get(ENV_SCOREBOARDS, "{}"), type=Heritage)
    return Heritage()


_follows = False
_forking = threading.local()


def follow() -> None:
    """Say that this process is a child of multiprocessing: it may serve one workflow after another."""
    global _follows  # noqa: PLW0603 - once per process
    _follows = True
    _forking.__dict__.clear()


def join(process: Process) -> None:
    """Join the workflow and the task that the environment variables name, unless they are over."""
    workflows = context.open_workflows
    if workflows.inherited is not None or len(workflows):
        return
    campaign_id, workflow_id, task_id = inherited_ids(os.environ)
    heritage = inherited_heritage(os.environ)
    _views[:] = filter(None, map(open_view, heritage.boards))
    scope = None
    if campaign_id is not None and workflow_id is not None:
        scope = _scope_of(process, campaign_id, workflow_id, task_id)
        remember(context.workflow_of(scope), heritage.workflow)
        remember(scope, heritage.task)
    inherited = Inherited(scope, heritage, list(_views), process)
    if _follows:
        workflows.inherited = inherited
    elif inherited() is not None:
        inherited.keep()
        workflows.inherited = inherited


def _scope_of(process: Process, campaign_id: str, workflow_id: str, task_id: str | None) -> Scope:
    journal = process.journal(campaign_id)
    scope = Scope(journal, None, workflow_id, muted=not process.capturing)
    if task_id is None:
        return scope
    return Scope(journal, task_id, workflow_id, parent=scope, muted=scope.muted)


def parents() -> list[Address]:
    """Return the scoreboards of the processes above this one, the nearest first."""
    return [view.address for view in _views]


def serve(process: Process) -> None:
    """Have what was inherited join the journals of a new runtime from now on."""
    inherited = context.open_workflows.inherited
    if isinstance(inherited, Inherited):
        inherited.process = process


def remember(scope: Scope, slot: Slot | None) -> None:
    """Note the slot of a scope of another process, for children that inherit the scope from this one."""
    if slot is not None:
        _slots[scope] = slot


def before_fork() -> None:
    """Note the current scope of the thread that forks, for the child."""
    scope = context.current_scope()
    _forking.heritage = (scope, heritage_of(scope))


def after_fork_in_child() -> None:
    """Read the scoreboard that the parent writes; the child has none yet."""
    global _board, _roll, _board_lock  # noqa: PLW0603 - one for each process
    _board_lock, _roll = threading.RLock(), None
    if _board is not None:
        _views.insert(0, _board.view())
        context.open_workflows.observers.remove(_publish)
        _board = None


def enter_forked_child(process: Process) -> None:
    """Take what was open at the fork for inherited, in a child of multiprocessing.

    Any other forked child goes on in the middle of its parent's code, so the context stays as it is.
    """
    if (noted := _forking.__dict__.pop("heritage", None)) is None:
        return  # it was not forked, or restored what its parent sent it
    scope, heritage = noted
    context.current.set(None)
    context.open_workflows.clear()
    context.open_workflows.inherited = Inherited(scope, heritage, list(_views), process)


def reset() -> None:
    """Forget everything: for tests."""
    global _board, _roll, _follows
    _board, _roll, _follows = None, None, False
    _views.clear()
    _slots.clear()
    context.open_workflows.observers.clear()
