"""Build tables: rows as a DataFrame or a list of dicts, and telemetry samples as a DataFrame.

Flows in: tasks and workflows, or the samples of journals. Flows out: a table. A table of rows always has all
columns. It is built column by column, as work per column is much cheaper than work per cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from flowprov.errors import MissingExtraError
from flowprov.records import Error, JsonObject, Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

Readings: TypeAlias = Iterable[tuple[int, JsonObject]]  # the time of each sample and its full reading

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
    "attempt",
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
    "orchestrator",
)
"""The columns of a table of rows, in their order. ``type`` is "task" or "workflow".

``telemetry_at_start`` and ``telemetry_at_end`` hold a reading by kind (``cpu``, ``mem``, ``gpu``, …). They
also hold ``sampled_at``, in nanoseconds since the epoch, and ``distance_s``: the seconds from the start or
the end of the row to the sample, negative if the sample was taken before. See :func:`flowprov.read_buffer`.
"""

TIME_COLUMNS = ("submitted_at", "started_at", "ended_at")
_CATEGORIES = ("type", "subtype", "status")
_INTEGERS = ("attempt", "pid", "rank")
_EMPTY_ROW: dict[str, Any] = dict.fromkeys(COLUMNS)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NAT = -(2**63)  # how pandas stores NaT
_MAX_INT64 = 2**63 - 1

_MAX_DEPTH = 32  # what is nested more deeply stays in its cell
_MAX_COLUMNS = 1_000  # of a table of samples
_MAX_NUMBER = 1e18  # what is larger is no reading
# Where a processor's time goes. The time of guests is already in user and nice (``proc_stat(5)``).
_CPU_TIMES = ("user_s", "nice_s", "system_s", "idle_s", "iowait_s", "irq_s", "softirq_s", "steal_s")
_CPU_IDLE_TIMES = ("idle_s", "iowait_s")
_PROCESS_TIMES = ("user_s", "system_s")


def to_frame(rows: Sequence[Task | Workflow]) -> pd.DataFrame:
    """Return rows as a DataFrame.

    Returns
    -------
    pandas.DataFrame
        Times are ``datetime64[ns, UTC]``, NaT if missing. ``duration`` is float seconds, NaN if unknown.
        ``type``, ``subtype`` and ``status`` are categories, NaN if missing. ``attempt``, ``pid`` and ``rank``
        are ``Int64``, NA if missing. All other columns are objects, None if missing. pyarrow, and so
        ``to_parquet``, gets those of nested values as JSON texts.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    from flowprov.read.row_frame import RowFrame

    runs = [(kind, list(run)) for kind, run in groupby(rows, type)]
    cells = {name: cells_of(runs, name) for name in COLUMNS}
    series: dict[str, Any] = {name: column_of(name, column) for name, column in cells.items()}
    series["duration"] = (series["ended_at"] - series["started_at"]).dt.total_seconds()
    frame: pd.DataFrame = RowFrame(series, columns=list(COLUMNS), copy=False)
    return frame


def to_dicts(rows: Sequence[Task | Workflow]) -> list[dict[str, Any]]:
    """Return rows as dicts with the keys of :data:`COLUMNS`.

    Returns
    -------
    list of dict
        Times are ``datetime`` in UTC, to the microsecond. ``duration`` is float seconds, computed from
        nanoseconds. Missing values are None.
    """
    return [_to_dict(row) for row in rows]


def samples_to_frame(journals: Iterable[tuple[Readings, str, int]]) -> pd.DataFrame:
    """Return telemetry samples as a DataFrame.

    Parameters
    ----------
    journals
        For each journal its full readings, in the order in which they were written, its host and its process.

    Returns
    -------
    pandas.DataFrame
        As :meth:`flowprov.Buffer.telemetry` returns it.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    import pandas as pd

    from flowprov.read.row_frame import RowFrame

    lines: dict[tuple[str, int, int], dict[str, Any]] = {}
    columns: dict[str, None] = {}
    for readings, hostname, pid in journals:
        for at, flat in flat_readings(readings, columns):
            # A process that records in several journals writes each sample to all of them.
            lines.setdefault((hostname, pid, at), flat)
    frame: pd.DataFrame = RowFrame(list(lines.values()), index=range(len(lines)))
    frame = frame.drop(columns=["at", "hostname", "pid"], errors="ignore")
    frame.insert(0, "at", time_column([at for _, _, at in lines]))
    frame.insert(1, "hostname", pd.Series([hostname for hostname, _, _ in lines], dtype=object))
    frame.insert(2, "pid", pd.Series([pid for _, pid, _ in lines], dtype="int64"))
    ordered: pd.DataFrame = frame.sort_values("at", kind="stable", ignore_index=True)
    return ordered


def flat_readings(readings: Readings, columns: dict[str, None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the time of each reading of a process, and its values by their paths, with the rates.

    Parameters
    ----------
    readings
        The readings of one process, in the order in which they were written.
    columns
        The paths that there are so far, which grow up to a limit; further ones are left out.
    """
    before: tuple[int, Mapping[str, Any]] | None = None
    flat: dict[str, Any] = {}
    for at, values in readings:
        if before is None or values is not before[1]:
            flat = _within(columns, _flatten(values))
        yield at, {**usage_rates(before, at, values), **flat}
        before = at, values


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


def column_of(name: str, cells: Sequence[Any]) -> Any:
    """Return a column of rows with the type of its values."""
    import pandas as pd

    if name in TIME_COLUMNS:
        return time_column(cells)
    if name in _CATEGORIES:
        return pd.Series(cells, dtype="category")
    if name in _INTEGERS:
        return pd.Series(
            [cell if cell is None or abs(cell) <= _MAX_INT64 else None for cell in cells], dtype="Int64"
        )
    return pd.Series(cells, dtype=object)


def time_column(column: Iterable[int | None]) -> pd.Series[pd.Timestamp]:
    """Return a column of nanoseconds as times; values that no clock can give become NaT."""
    import pandas as pd

    nanoseconds = [_NAT if at is None or not 0 <= at <= _MAX_INT64 else at for at in column]
    times: Any = pd.Series(nanoseconds, dtype="int64").astype("datetime64[ns]").dt.tz_localize("UTC")
    return times  # type: ignore[no-any-return]


# Rows.


def cells_of(runs: Sequence[tuple[type, Sequence[Task | Workflow]]], name: str) -> list[Any]:
    """Return one column, with None for kinds of rows without it. A run is a series of rows of one kind."""
    cells: list[Any] = []
    for kind, run in runs:
        if name == "type":
            cells += ["task" if kind is Task else "workflow"] * len(run)
        elif name in kind.__struct_fields__:  # type: ignore[attr-defined]
            cells += map(attrgetter(name), run)
        else:
            cells += [None] * len(run)
    return [error_as_dict(error) for error in cells] if name == "error" else cells


def _to_dict(row: Task | Workflow) -> dict[str, Any]:
    fields: dict[str, Any] = {**_EMPTY_ROW, **msgspec.structs.asdict(row)}
    fields.pop("telemetry", None)  # only tells the reader not to join samples
    fields["type"] = "workflow" if isinstance(row, Workflow) else "task"
    fields["error"] = error_as_dict(row.error)
    if row.started_at is not None and row.ended_at is not None:
        fields["duration"] = (row.ended_at - row.started_at) / 1e9
    for name in TIME_COLUMNS:
        fields[name] = as_datetime(fields[name])
    return fields


def as_datetime(at: int | None) -> datetime | None:
    """Return a time in UTC, to the microsecond; None if it is unknown, or outside of what others can hold."""
    if at is None or not 0 <= at <= _MAX_INT64:
        return None
    return _EPOCH + timedelta(microseconds=at // 1000)


def error_as_dict(error: Error | None) -> dict[str, Any] | None:
    """Return an error as a table of rows holds it."""
    return None if error is None else msgspec.structs.asdict(error)


# Samples.


def _within(columns: dict[str, None], flat: dict[str, Any]) -> dict[str, Any]:
    """Return a flat reading without the values that would make a table of too many columns."""
    new = [name for name in flat if name not in columns]
    columns.update(dict.fromkeys(new[: _MAX_COLUMNS - len(columns)]))
    if len(columns) < _MAX_COLUMNS:
        return flat
    return {name: value for name, value in flat.items() if name in columns}


def usage_rates(
    before: tuple[int, Mapping[str, Any]] | None, at: int, values: Mapping[str, Any]
) -> dict[str, float]:
    """Return the use of processors since the reading before; NaN if that does not have the counters."""
    earlier_at, earlier = before or (at, {})
    rates: dict[str, float] = {}
    if (now := _cpu_seconds(values)) is not None:
        busy, total = _difference(_cpu_seconds(earlier), now)
        rates["cpu.utilization_percent"] = min(max(100 * busy / total, 0.0), 100.0) if total > 0 else math.nan
    if (now := _process_seconds(values)) is not None:
        busy, _ = _difference(_process_seconds(earlier), now)
        seconds = (at - earlier_at) / 1e9
        rates["process.cpu_percent"] = max(100 * busy / seconds, 0.0) if seconds > 0 else math.nan
    return rates


def _difference(before: tuple[float, float] | None, now: tuple[float, float]) -> tuple[float, float]:
    return (math.nan, math.nan) if before is None else (now[0] - before[0], now[1] - before[1])


def _cpu_seconds(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the busy seconds of all cores and all their seconds; None without the counters."""
    times = _pick_numbers(values.get("cpu"), _CPU_TIMES)
    if "idle_s" not in times or len(times) == 1:
        return None
    total = sum(times.values())
    return total - sum(times.get(name, 0.0) for name in _CPU_IDLE_TIMES), total


def _process_seconds(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the busy seconds of the process, and 0; None without the counters."""
    times = _pick_numbers(values.get("process"), _PROCESS_TIMES)
    return (sum(times.values()), 0.0) if len(times) == len(_PROCESS_TIMES) else None


def _pick_numbers(kind: object, names: Iterable[str]) -> dict[str, float]:
    """Return the named values of a kind of telemetry that are numbers."""
    if not isinstance(kind, Mapping):
        return {}
    numbers = {name: kind[name] for name in names if isinstance(kind.get(name), (int, float))}
    return {name: number for name, number in numbers.items() if abs(number) < _MAX_NUMBER}


def _flatten(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Return nested values under their paths, with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            flat.update(_flatten(value, f"{prefix}{name}.", depth + 1))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
