"""The notebook in which this process runs, as far as its environment tells.

Flows in: the shell of IPython, if IPython is loaded. Flows out: its name, and the parameters with which
papermill or dagstermill run it.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from flowprov.environment import dagster

UNNAMED = "notebook"
_PARAMETERS = "# Parameters"  # the first line of the cell that papermill adds
_NOT_PARSED = (SyntaxError, ValueError, MemoryError, RecursionError)


def ipython_shell() -> Any:
    """Return the shell of IPython; None if there is none. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def notebook_name() -> str | None:
    """Return the name of the notebook that this process serves; None if it serves none.

    Jupyter tells it in ``JPY_SESSION_NAME``, and VS Code in a variable of the notebook. Any other notebook is
    called ``notebook``.
    """
    shell = ipython_shell()
    if getattr(shell, "kernel", None) is None:
        return None
    for told in (shell.user_ns.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")):
        if isinstance(told, str) and told.endswith(".ipynb"):
            return PurePath(told.replace("\\", "/")).stem or UNNAMED
    return UNNAMED


def is_kernel() -> bool:
    """Whether this process is the kernel of a notebook."""
    return getattr(ipython_shell(), "kernel", None) is not None


def given_parameters() -> dict[str, Any]:
    """Return the parameters that a cell of this notebook was given; none if it has no such cell yet."""
    if not is_kernel():
        return {}
    shell = ipython_shell()
    history = getattr(getattr(shell, "history_manager", None), "input_hist_raw", [])
    for cell in reversed(history):
        if (found := parameters_in(cell, shell.user_ns)) is not None:
            return found
    return {}


def parameters_in(cell: object, namespace: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a cell of parameters sets; None for any other cell.

    Parameters
    ----------
    cell
        Its source. Nothing of it runs again.
    namespace
        The variables of the notebook after the cell, for values that are not written out in it.
    """
    if not isinstance(cell, str):
        return None
    by_dagster = dagster.loads_parameters(cell)
    if not by_dagster and cell.lstrip().partition("\n")[0].strip() != _PARAMETERS:
        return None
    try:
        body = ast.parse(cell).body
    except _NOT_PARSED:
        return {}
    found: dict[str, Any] = {}
    for name, value in filter(None, map(_assignment, body)):
        if by_dagster and name in dagster.OWN_VARIABLES:
            continue
        try:
            found[name] = ast.literal_eval(value)
        except _NOT_PARSED:
            if name in namespace:
                found[name] = namespace[name]
    return found


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """Return name and value of an assignment to one variable."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return None
    return (target.id, value) if isinstance(target, ast.Name) else None
