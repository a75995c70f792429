"""Cells of a notebook: what an exception left when it ended a cell.

Flows in: IPython's word on how each cell ended. Flows out: the records of iterations, calls and forwards that
the exception ended.

A notebook keeps the traceback of the last exception, and with it the loop that the exception left. So the
loop may not notice that it was left, and nothing encloses the cell that would see the exception.
"""

from __future__ import annotations

from typing import Any

from flowprov import guard
from flowprov.capture.failures import close_abandoned, correct_left_early, outcome_of
from flowprov.clock import ticks
from flowprov.environment.notebook import ipython_shell
from flowprov.runtime import context
from flowprov.runtime.context import HeldScope, Scope

_followed: Any = None
_began = 0  # when the current cell began, by the monotonic clock


def follow_cells() -> None:
    """Listen to how cells end, if this process runs a shell of IPython; a second call does nothing."""
    global _followed  # noqa: PLW0603 - one shell for each process
    shell = ipython_shell()
    if shell is None or shell is _followed:
        return
    _followed = shell
    with guard.guarded("following the cells of a notebook"):
        shell.events.register("pre_run_cell", _begin_cell)
        shell.events.register("post_run_cell", _end_cell)


def _begin_cell(_: Any = None) -> None:
    global _began  # noqa: PLW0603 - cells run one after the other
    _began = ticks()


def _end_cell(result: Any) -> None:
    with guard.guarded("recording how a cell ended"):
        error = getattr(result, "error_in_exec", None)
        workflows = list(context.open_workflows)
        if isinstance(error, BaseException):
            for workflow in workflows:
                if workflow.left_early:
                    correct_left_early(workflow, error, outcome_of(error))
            for scope in _left_by_cell():
                close_abandoned(scope, error)
                context.deactivate(scope)
        for workflow in workflows:
            workflow.left_early = None  # the exceptions of the next cell are others


def _left_by_cell() -> list[Scope]:
    """Return the open scopes that cannot go on after the cell that opened them, innermost first.

    A workflow or a ``task_scope`` that was started in the cell goes on: another cell stops it.
    """
    left: list[Scope] = []
    scope = context.current.get()
    while scope is not None:
        if scope.key is not None and scope.started >= _began and _cannot_go_on(scope):
            left.append(scope)
        scope = scope.previous
    return left


def _cannot_go_on(scope: Scope) -> bool:
    return not isinstance(scope, HeldScope) or b'"subtype":"iteration"' in scope.line_prefix
