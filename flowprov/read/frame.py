"""Rows as a table: a DataFrame or a list of dicts, always with all columns.

Flows in: tasks and workflows. Flows out: a table. It is built column by column; nothing is done per row and
cell that can be done per column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from flowprov.errors import MissingExtraError
from flowprov.records import Error, Sample, Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "type",
    "campaign_id",
    "workflow_id",
    "parent_workflow_id",
    "task_id",
    "parent_task_id",
    "group_id",
    "name",
    "activity_id",
    "subtype",
    "status",
    "submitted_at",
    "started_at",
    "ended_at",
    "duration",
    "used",
    "generated",
    "custom_metadata",
    "error",
    "tags",
    "dependencies",
    "telemetry_at_start",
    "telemetry_at_end",
    "hostname",
    "pid",
    "rank",
    "thread",
    "user",
    "environment_id",
    "machine_info",
    "settings",
    "code_repository",
)
"""The columns of a table, in their order. ``type`` is "task" or "workflow"."""

TIMES = ("submitted_at", "started_at", "ended_at")
_ALL_MISSING: dict[str, Any] = dict.fromkeys(COLUMNS)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NOT_A_TIME = -(2**63)  # numpy's NaT
_LATEST = 2**63 - 1


def to_frame(rows: Sequence[Task | Workflow]) -> pd.DataFrame:
    """Build a DataFrame.

    Returns
    -------
    pandas.DataFrame
        Times are ``datetime64[ns, UTC]`` with NaT where missing, ``duration`` is float seconds with NaN where
        unknown, all other columns are objects with None where missing.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    import numpy as np
    import pandas as pd

    is_workflow = np.fromiter((type(row) is Workflow for row in rows), dtype=bool, count=len(rows))
    filled: dict[str, Any] = {}
    for kind, name in ((Task, "task"), (Workflow, "workflow")):
        chosen = is_workflow if kind is Workflow else ~is_workflow
        of_kind = [row for row in rows if type(row) is kind]
        if not of_kind:
            continue
        _column(filled, "type", len(rows))[chosen] = name
        for field in kind.__struct_fields__:
            cells: Iterable[Any] = map(attrgetter(field), of_kind)
            if field == "error":
                cells = map(_plain_error, cells)
            values = np.fromiter(cells, dtype=object, count=len(of_kind))
            _column(filled, field, len(rows))[chosen] = values
    table = {name: _column(filled, name, len(rows)) for name in COLUMNS}
    times = {name: _nanoseconds(table[name]) for name in TIMES}
    series = {name: pd.Series(column, dtype=object) for name, column in table.items()}
    for name, column in times.items():
        series[name] = pd.Series(pd.DatetimeIndex(column.view("datetime64[ns]")).tz_localize("UTC"))
    started, ended = times["started_at"], times["ended_at"]
    known = (started != _NOT_A_TIME) & (ended != _NOT_A_TIME)
    series["duration"] = pd.Series(np.where(known, (ended - started) / 1e9, np.nan))
    frame: pd.DataFrame = pd.DataFrame(series, columns=list(COLUMNS), copy=False)
    return frame


def to_dicts(rows: Sequence[Task | Workflow]) -> list[dict[str, Any]]:
    """Build a list of dicts with the keys of :data:`COLUMNS`.

    Returns
    -------
    list of dict
        Times are ``datetime`` in UTC, to the microsecond; ``duration`` is float seconds, of nanoseconds.
        What is missing is None.
    """
    return [_to_dict(row) for row in rows]


def samples_to_frame(samples: Sequence[tuple[Sample, str, int]]) -> pd.DataFrame:
    """Build a DataFrame of telemetry samples: when, host, process, and a column for each reading.

    Parameters
    ----------
    samples
        Each sample with its host and process.
    """
    import_pandas()
    import numpy as np
    import pandas as pd

    at = _nanoseconds(np.fromiter((sample.at for sample, _, _ in samples), dtype=object, count=len(samples)))
    frame = pd.DataFrame([_flat(sample.values) for sample, _, _ in samples], index=range(len(samples)))
    for name in ("at", "hostname", "pid"):
        frame = frame.drop(columns=name, errors="ignore")
    frame.insert(0, "at", pd.DatetimeIndex(at.view("datetime64[ns]")).tz_localize("UTC"))
    frame.insert(1, "hostname", pd.Series([host for _, host, _ in samples], dtype=object))
    frame.insert(2, "pid", pd.Series([pid for _, _, pid in samples], dtype="int64"))
    ordered: pd.DataFrame = frame.sort_values("at", kind="stable", ignore_index=True)
    return ordered


def import_pandas() -> None:
    """Import pandas.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import pandas as pd  # noqa: F401 - from now on it can be imported
    except ImportError as error:
        raise MissingExtraError("pandas", "pandas", "read records as a DataFrame") from error


def _column(filled: dict[str, Any], name: str, length: int) -> Any:
    """Give the column of that name, made of None at the first call."""
    import numpy as np

    if name not in filled:
        filled[name] = np.full(length, None, dtype=object)
    return filled[name]


def _nanoseconds(column: Any) -> Any:
    """Turn a column of integers into times; what no clock can have said is missing."""
    import numpy as np

    return np.fromiter(
        (_NOT_A_TIME if at is None or not 0 <= at <= _LATEST else at for at in column),
        dtype="int64",
        count=len(column),
    )


def _to_dict(row: Task | Workflow) -> dict[str, Any]:
    made: dict[str, Any] = {**_ALL_MISSING, **msgspec.structs.asdict(row)}
    made["type"] = "workflow" if isinstance(row, Workflow) else "task"
    made["error"] = _plain_error(row.error)
    if row.started_at is not None and row.ended_at is not None:
        made["duration"] = (row.ended_at - row.started_at) / 1e9
    for name in TIMES:
        made[name] = _as_datetime(made[name])
    return made


def _as_datetime(at: int | None) -> datetime | None:
    if at is None or not 0 <= at <= _LATEST:
        return None
    return _EPOCH + timedelta(microseconds=at // 1000)


def _plain_error(error: Error | None) -> dict[str, Any] | None:
    return None if error is None else msgspec.structs.asdict(error)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name what is nested by its path, with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
