"""Which module produced the first NaN: answered from recorded statistics of tensors.

Flows in: rows of any form (a DataFrame, dicts, records), recorded with ``tensor_statistics``. Flows out: the
row of one forward.
"""

from __future__ import annotations

from typing import Any

from flowprov.read.lineage import Rows, iter_fields

_FORWARDS = frozenset({"parent_forward", "child_forward"})
_WANTED = (
    "task_id",
    "parent_task_id",
    "workflow_id",
    "activity_id",
    "subtype",
    "status",
    "used",
    "generated",
    "custom_metadata",
    "started_at",
    "ended_at",
    "hostname",
    "rank",
)


def first_nonfinite(rows: Rows) -> dict[str, Any] | None:
    """Find the forward that first produced a NaN or an infinity out of inputs that had none.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` gave.

    Returns
    -------
    dict or None
        The fields of its record, ``activity_id`` and ``custom_metadata`` with ``module_path`` among them;
        None where no recorded forward did so.

    Notes
    -----
    It is the first to end, so the innermost of the recorded modules around the place: where it is a parent,
    its own code (or a child that is not recorded) produced the value between its children. The contents of
    weights are not looked at: a module with a NaN in them counts as what produced it. What came in with the
    data of the program is nobody's product: then the answer is None although outputs are not finite.
    """
    candidates = [row for row in iter_fields(rows, _WANTED) if _produced(row)]
    found = min(candidates, key=lambda row: row["ended_at"], default=None)
    # In frames of low resolution a child may seem to end together with its parent.
    while found is not None:
        inside = [row for row in candidates if row["parent_task_id"] == found["task_id"]]
        inner = min(inside, key=lambda row: row["ended_at"], default=None)
        if inner is None:
            break
        found = inner
    return found


def _produced(row: dict[str, Any]) -> bool:
    return (
        row["subtype"] in _FORWARDS
        and isinstance(row["generated"], dict)
        and _is_nonfinite(row["generated"])
        and not _is_nonfinite(row["used"])
    )


def _is_nonfinite(value: Any) -> bool:
    """Whether a tensor in recorded inputs or outputs has elements that are not finite."""
    if isinstance(value, dict):
        told = value.get("statistics")
        if isinstance(told, dict) and (told.get("nan_count") or told.get("inf_count")):
            return True
        return any(map(_is_nonfinite, value.values()))
    return isinstance(value, list) and any(map(_is_nonfinite, value))
