"""Find the module that produced the first NaN, from the recorded statistics of tensors.

Flows in: rows in any form (a DataFrame, dicts, records), recorded with ``tensor_statistics``. Flows out: the
row of one forward.
"""

from __future__ import annotations

from typing import Any

from flowprov.read.labels import FORWARDS
from flowprov.read.lineage import Rows, iter_fields

_FIELDS = (
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
    """Return the forward that first produced a NaN or an infinity from inputs that had none.

    Parameters
    ----------
    rows
        What ``read_buffer`` or ``Buffer.records`` returned.

    Returns
    -------
    dict or None
        The fields of its record, among them ``activity_id`` and ``custom_metadata`` with ``module_path``.
        None if no recorded forward did so.

    Notes
    -----
    The forward is the first of these to end, so it is the innermost recorded module around the value. If it
    is a parent, its own code or a child that is not recorded produced the value.

    Weights are not examined: a module with a NaN in its weights counts as the producer. If the value came in
    with the program's data, no forward produced it. The result is None then, although outputs are not finite.
    """
    candidates = [row for row in iter_fields(rows, _FIELDS) if _produced_nonfinite(row)]
    first = min(candidates, key=_end_of, default=None)
    innermost: dict[str, dict[str, Any]] = {}  # the first to end inside each parent, left out once it is used
    for row in candidates:
        parent = row["parent_task_id"]
        if parent not in innermost or _end_of(row) < _end_of(innermost[parent]):
            innermost[parent] = row
    # The times of a DataFrame may be rounded: a child can seem to end together with its parent.
    while first is not None and (inner := innermost.pop(first["task_id"], None)) is not None:
        first = inner
    return first


def _end_of(row: dict[str, Any]) -> Any:
    """Return the time by which rows are compared; what has no end comes last."""
    ended_at = row["ended_at"]
    is_known = ended_at is not None and ended_at == ended_at  # noqa: PLR0124 - NaT differs from itself
    return (0, ended_at) if is_known else (1, 0)


def _produced_nonfinite(row: dict[str, Any]) -> bool:
    return (
        row["subtype"] in FORWARDS
        and isinstance(row["generated"], dict)
        and _has_nonfinite(row["generated"])
        and not _has_nonfinite(row["used"])
    )


def _has_nonfinite(value: Any) -> bool:
    """Whether a tensor in recorded inputs or outputs has elements that are not finite."""
    if isinstance(value, dict):
        statistics = value.get("statistics")
        if isinstance(statistics, dict) and (statistics.get("nan_count") or statistics.get("inf_count")):
            return True
        return any(map(_has_nonfinite, value.values()))
    return isinstance(value, list) and any(map(_has_nonfinite, value))
