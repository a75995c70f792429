"""Rows as a table: a DataFrame or a list of dicts, always with all columns.

Flows in: tasks and workflows. Flows out: a table. It is built column by column; nothing is done per row and
cell that can be done per column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from flowprov.errors import MissingExtraError
from flowprov.records import Error, JsonObject, Task, Workflow

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
"""The columns of a table, in their order. ``type`` is "task" or "workflow".

``telemetry_at_start`` and ``telemetry_at_end`` hold readings by kind (``cpu``, ``mem``, ``gpu``, …) with
``sampled_at``, in nanoseconds since the epoch, and ``distance_s``, the seconds from the start or the end of
the row to the sample, negative where it was taken before; see :func:`flowprov.read_buffer`.
"""

TIMES = ("submitted_at", "started_at", "ended_at")
_ALL_MISSING: dict[str, Any] = dict.fromkeys(COLUMNS)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NOT_A_TIME = -(2**63)  # how NaT is stored
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
    import pandas as pd

    runs = [(kind, list(run)) for kind, run in groupby(rows, type)]
    cells = {name: _cells(runs, name) for name in COLUMNS}
    series: dict[str, Any] = {
        name: time_column(column) if name in TIMES else pd.Series(column, dtype=object)
        for name, column in cells.items()
    }
    series["duration"] = (series["ended_at"] - series["started_at"]).dt.total_seconds()
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


def _cells(runs: Sequence[tuple[type, Sequence[Task | Workflow]]], name: str) -> list[Any]:
    """Give one column; what rows of a kind do not have is None. Runs are neighbours of one kind."""
    cells: list[Any] = []
    for kind, run in runs:
        if name == "type":
            cells += ["task" if kind is Task else "workflow"] * len(run)
        elif name in kind.__struct_fields__:  # type: ignore[attr-defined]
            cells += map(attrgetter(name), run)
        else:
            cells += [None] * len(run)
    return [_plain_error(error) for error in cells] if name == "error" else cells


def time_column(column: Iterable[int | None]) -> pd.Series[pd.Timestamp]:
    """Turn a column of nanoseconds into times; what no clock can have said is missing."""
    import pandas as pd

    known = [_NOT_A_TIME if at is None or not 0 <= at <= _LATEST else at for at in column]
    times: Any = pd.Series(known, dtype="int64").astype("datetime64[ns]").dt.tz_localize("UTC")
    return times  # type: ignore[no-any-return]


def _to_dict(row: Task | Workflow) -> dict[str, Any]:
    made: dict[str, Any] = {**_ALL_MISSING, **msgspec.structs.asdict(row)}
    made.pop("telemetry", None)  # a word of the writer to whoever joins samples
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


if TYPE_CHECKING:
    import pandas as pd

Unfolded: TypeAlias = Iterable[tuple[int, JsonObject]]

_DEEPEST = 32  # what is nested more deeply stays in its cell
# Where a processor's time goes; guests' time is in user and nice already (``proc_stat(5)``).
_CPU_TIMES = ("user_s", "nice_s", "system_s", "idle_s", "iowait_s", "irq_s", "softirq_s", "steal_s")
_CPU_IDLE = ("idle_s", "iowait_s")
_PROCESS_TIMES = ("user_s", "system_s")


def samples_to_frame(journals: Iterable[tuple[Unfolded, str, int]]) -> pd.DataFrame:
    """Build a DataFrame of telemetry samples.

    Parameters
    ----------
    journals
        The samples of each journal, unfolded and as they were written, with its host and process.

    Returns
    -------
    pandas.DataFrame
        As :meth:`flowprov.Buffer.telemetry` says.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    import pandas as pd

    lines: dict[tuple[str, int, int], dict[str, Any]] = {}
    for samples, hostname, pid in journals:
        before: tuple[int, Mapping[str, Any]] | None = None
        for at, values in samples:
            # A process that records in several journals writes each sample to all of them.
            lines.setdefault((hostname, pid, at), {**_rates(before, at, values), **_flat(values)})
            before = at, values
    frame = pd.DataFrame(list(lines.values()), index=range(len(lines)))
    frame = frame.drop(columns=["at", "hostname", "pid"], errors="ignore")
    frame.insert(0, "at", time_column([at for _, _, at in lines]))
    frame.insert(1, "hostname", pd.Series([hostname for hostname, _, _ in lines], dtype=object))
    frame.insert(2, "pid", pd.Series([pid for _, pid, _ in lines], dtype="int64"))
    ordered: pd.DataFrame = frame.sort_values("at", kind="stable", ignore_index=True)
    return ordered


def _rates(
    before: tuple[int, Mapping[str, Any]] | None, at: int, values: Mapping[str, Any]
) -> dict[str, float]:
    """Give shares of processors since the sample before; NaN where the counters are there and it is not."""
    earlier_at, earlier = before or (at, {})
    rates: dict[str, float] = {}
    if (now := _processors(values)) is not None:
        busy, total = _since(_processors(earlier), now)
        rates["cpu.utilization_percent"] = min(max(100 * busy / total, 0.0), 100.0) if total > 0 else math.nan
    if (now := _process(values)) is not None:
        busy, _ = _since(_process(earlier), now)
        seconds = (at - earlier_at) / 1e9
        rates["process.cpu_percent"] = max(100 * busy / seconds, 0.0) if seconds > 0 else math.nan
    return rates


def _since(before: tuple[float, float] | None, now: tuple[float, float]) -> tuple[float, float]:
    return (math.nan, math.nan) if before is None else (now[0] - before[0], now[1] - before[1])


def _processors(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Give the busy seconds of all cores and all their seconds; None where they are not told."""
    times = _seconds(values.get("cpu"), _CPU_TIMES)
    if "idle_s" not in times or len(times) == 1:
        return None
    total = sum(times.values())
    return total - sum(times.get(name, 0.0) for name in _CPU_IDLE), total


def _process(values: Mapping[str, Any]) -> tuple[float, float] | None:
    times = _seconds(values.get("process"), _PROCESS_TIMES)
    return (sum(times.values()), 0.0) if len(times) == len(_PROCESS_TIMES) else None


def _seconds(kind: object, names: Iterable[str]) -> dict[str, float]:
    """Pick counters that are numbers."""
    if not isinstance(kind, Mapping):
        return {}
    return {name: kind[name] for name in names if isinstance(kind.get(name), (int, float))}


def _flat(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Name what is nested by its path, with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            flat.update(_flat(value, f"{prefix}{name}.", depth + 1))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
