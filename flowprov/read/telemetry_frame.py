"""Telemetry as a time series: a line for each sample, with all values it stands for.

Flows in: the samples of each journal. Flows out: a DataFrame, with rates where the samples hold counters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from flowprov.read.frame import import_pandas, time_column
from flowprov.records import JsonObject

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
