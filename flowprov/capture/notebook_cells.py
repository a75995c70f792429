"""Cells of a notebook: what an exception left when it ended a cell.

Flows in: IPython's word on how each cell ended. Flows out: the records of iterations, calls and forwards that
the exception ended; the exception that ended the last cell; parameters that a cell was given.

A notebook keeps the traceback of the last exception, and with it the loop that the exception left. So the
loop may not notice that it was left, and nothing encloses the cell that would see the exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowprov import guard
from flowprov.capture.failures import close_abandoned, correct_left_early, outcome_of
from flowprov.clock import ticks
from flowprov.environment import dagster
from flowprov.environment.notebook import ipython_shell, is_kernel, parameters_in
from flowprov.runtime import context
from flowprov.runtime.context import HeldScope, Scope

_followed: Any = None
_began = 0  # when the current cell began, by the monotonic clock
_last_error: BaseException | None = None  # of the last cell; IPython keeps it, too
_on_parameters: Callable[[Scope, dict[str, Any]], None] | None = None


def follow_cells(on_parameters: Callable[[Scope, dict[str, Any]], None]) -> bool:
    """Listen to how cells end, if this process runs a shell of IPython.

    Parameters
    ----------
    on_parameters
        Called with the outermost open workflow and parameters that a cell was given after it opened.

    Returns
    -------
    bool
        Whether this is the first call for a shell; a second one does nothing.
    """
    global _followed, _on_parameters
    shell = ipython_shell()
    if shell is None or shell is _followed:
        return False
    _followed, _on_parameters = shell, on_parameters
    with guard.guarded("following the cells of a notebook"):
        shell.events.register("pre_run_cell", _begin_cell)
        shell.events.register("post_run_cell", _end_cell)
    return True


def error_of_last_cell() -> BaseException | None:
    """Return the exception that ended the last cell of this notebook; None if none did."""
    return _last_error if is_kernel() else None


def _begin_cell(_: Any = None) -> None:
    global _began  # noqa: PLW0603 - cells run one after the other
    _began = ticks()


def _end_cell(result: Any) -> None:
    with guard.guarded("reading the parameters of a notebook"):
        _note_end(getattr(getattr(result, "info", None), "raw_cell", ""), result)
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


def _note_end(cell: object, result: Any) -> None:
    """Note the exception that ended a cell, and record parameters that it was given."""
    global _last_error  # noqa: PLW0603 - cells run one after the other
    if isinstance(cell, str) and dagster.is_teardown(cell):
        return
    error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
    _last_error = error if isinstance(error, BaseException) else None
    parameters = parameters_in(cell, ipython_shell().user_ns)
    outermost = next(iter(context.open_workflows), None)
    if parameters and outermost is not None and _on_parameters is not None:
        _on_parameters(outermost, parameters)


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
