"""The step of Dagster in which the caller runs: an op, an asset, or a notebook that dagstermill runs as one.

Flows in: Dagster's own word, if the program has loaded it. Flows out: a description of the step and its run.
Everything that flowprov knows of Dagster is here. Neither Dagster nor dagstermill is imported for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from flowprov.values import as_id, as_name

_PARTITION = "dagster/partition"
_FIRST_PARTITION, _LAST_PARTITION = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# What dagstermill writes in cells of its own: one before the person's cells, one behind them.
_PARAMETERS_CELL = "# Injected parameters"
OWN_VARIABLES = ("context",)
"""The variables that dagstermill sets beside a notebook's inputs."""

_TEARDOWN_CELL = "__dm_dagstermill._teardown()"


def run_id() -> str | None:
    """Return the id of the run of Dagster to which the caller's step belongs; None outside of a step."""
    context = _context()
    return None if context is None else as_id(_known(lambda: context.run_id))


def describe_step() -> dict[str, Any] | None:
    """Return the step in which the caller runs, with its run; None outside of a step.

    ``handle`` is its path in nested graphs, where it may have another name than ``op``. ``partition`` and
    ``asset`` are lists if there are several. What Dagster does not tell is left out; a notebook does not know
    how often it was tried.
    """
    context, run = _context(), describe_run()
    if context is None or run is None:
        return None
    handle = _known(lambda: context.op_handle) or _known(lambda: context.node_handle)
    step = {
        "op": as_name(_known(lambda: context.op_def.name) or getattr(handle, "name", None)),
        "handle": None if handle is None else as_name(str(handle)),
        "retry": _known(lambda: context.retry_number),
        "partition": _partition(context),
        "asset": _one_or_all(_assets(context)),
    }
    return {**run, **{name: value for name, value in step.items() if value is not None}}


def describe_process() -> dict[str, Any] | None:
    """Return what holds of the caller's step for its whole process: the run. A notebook is one step only."""
    return describe_step() if _notebook_context() is not None else describe_run()


def describe_run() -> dict[str, Any] | None:
    """Return the run to which the caller's step belongs, without the step; None outside of a step."""
    context = _context()
    if context is None:
        return None
    run = {
        "name": "dagster",
        "run_id": as_id(_known(lambda: context.run_id)),
        "parent_run_id": as_id(_known(lambda: context.run.parent_run_id)),
        "job": as_name(_known(lambda: context.job_name)),
        "run_config": _known(lambda: dict(context.run_config)) or None,
    }
    return {name: value for name, value in run.items() if value is not None}


def loads_parameters(cell: str) -> bool:
    """Whether dagstermill wrote a cell of a notebook to load its inputs."""
    return cell.lstrip().startswith(_PARAMETERS_CELL)


def is_teardown(cell: str) -> bool:
    """Whether dagstermill added a cell behind those of the notebook; it runs even after one has failed."""
    return _TEARDOWN_CELL in cell


def _context() -> Any:
    """Return Dagster's context of the step in which the caller runs; None outside of a step."""
    if (in_notebook := _notebook_context()) is not None:
        return in_notebook
    known_class = getattr(sys.modules.get("dagster"), "OpExecutionContext", None)
    get = getattr(known_class, "get", None)
    context = None if get is None else _known(get)  # it raises outside of a step
    return getattr(context, "op_execution_context", context)


def _notebook_context() -> Any:
    """Return the context of the notebook that dagstermill runs in this process; None if it runs none."""
    get = getattr(sys.modules.get("dagstermill"), "get_context", None)
    # Outside of a run, this method would make a context up.
    in_job = getattr(getattr(get, "__self__", None), "in_job", False)
    return _known(get) if in_job is True else None


def _known(tell: Callable[[], Any] | None) -> Any:
    """Return what Dagster tells; None if it does not."""
    try:
        return None if tell is None else tell()
    except Exception:  # what a context has differs with the kind of step, and with the version
        return None


def _partition(context: Any) -> str | list[str] | None:
    one, first, last = (
        as_name(_known(lambda tag=tag: context.get_tag(tag)))  # type: ignore[misc]
        for tag in (_PARTITION, _FIRST_PARTITION, _LAST_PARTITION)
    )
    return [first, last] if one is None and first is not None and last is not None else one


def _assets(context: Any) -> list[str]:
    if not _known(lambda: context.has_assets_def):
        return []
    keys = _known(lambda: list(context.selected_asset_keys)) or []
    return sorted(name for key in keys if (name := as_name(_known(key.to_user_string))) is not None)


def _one_or_all(names: list[str]) -> str | list[str] | None:
    return names[0] if len(names) == 1 else names or None
