"""The frame of samples has a line with all values for each sample, and rates of counters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flowprov.read import Buffer
from flowprov.records import Record, Sample
from tests.journal.support import header, write
from tests.read.samples import change, ns, sample, task


def frame_of(folder: Path, *written: Record) -> pd.DataFrame:
    return Buffer(write(folder, header(), *written)).telemetry()


def test_each_line_has_all_values_although_samples_hold_only_changes(tmp_path: Path) -> None:
    whole = sample(1, mem={"used_bytes": 5, "total_bytes": 9}, cpu={"per_core_busy_s": [1.0, 2.0]})
    frame = frame_of(tmp_path, whole, task(1, 2), change(2, mem={"used_bytes": 6}))
    assert frame["mem.used_bytes"].tolist() == [5, 6]
    assert frame["mem.total_bytes"].tolist() == [9, 9]
    assert frame["cpu.per_core_busy_s"].tolist() == [[1.0, 2.0]] * 2
    assert frame["at"].tolist() == [pd.Timestamp(ns(at), tz="UTC") for at in (1, 2)]


def cpu(user: float, idle: float, **more: float) -> dict[str, Any]:
    return {"user_s": user, "idle_s": idle, **more}


def test_utilization_is_the_busy_share_of_all_cores_since_the_sample_before(tmp_path: Path) -> None:
    frame = frame_of(
        tmp_path,
        sample(1, cpu=cpu(10, 100, system_s=1, iowait_s=5, guest_s=3)),
        sample(2, cpu=cpu(10.5, 100.75, system_s=1.5, iowait_s=5.25, guest_s=3.5)),  # 1 of 2 seconds
        sample(3, cpu=cpu(12.5, 100.75, system_s=1.5, iowait_s=5.25)),
        sample(4, cpu=cpu(12.5, 102.75, system_s=1.5, iowait_s=5.25)),
    )
    shares = frame["cpu.utilization_percent"].tolist()
    assert math.isnan(shares[0])
    assert shares[1:] == [50, 100, 0]


def test_the_use_of_the_process_is_in_percent_of_one_core(tmp_path: Path) -> None:
    frame = frame_of(
        tmp_path,
        sample(1, process={"user_s": 1, "system_s": 0.5}),
        sample(1.5, process={"user_s": 2, "system_s": 1}),
        sample(3.5, process={"user_s": 2, "system_s": 1}),
    )
    shares = frame["process.cpu_percent"].tolist()
    assert math.isnan(shares[0])
    assert shares[1:] == [300, 0]


@pytest.mark.parametrize(
    "values",
    [
        {"cpu": {"user_s": 1}},
        {"cpu": {"idle_s": 1}},
        {"cpu": 3},
        {"process": {"user_s": 1}},
        {"process": None},
    ],
)
def test_without_the_counters_there_are_no_rates(tmp_path: Path, values: dict[str, Any]) -> None:
    frame = frame_of(tmp_path, sample(1, **values), sample(2, **values))
    assert not {"cpu.utilization_percent", "process.cpu_percent"} & set(frame.columns)


def test_a_rate_is_missing_if_the_sample_before_lacks_the_counters_or_no_time_passed(tmp_path: Path) -> None:
    process = {"user_s": 1, "system_s": 1}
    frame = frame_of(
        tmp_path,
        sample(1, process=process, cpu=cpu(1, 1)),
        sample(2, mem=1),
        sample(3, process=process, cpu=cpu(2, 2)),
        sample(3, mem=2, process=process, cpu=cpu(2, 2)),
    )
    assert frame["process.cpu_percent"].isna().all()
    assert frame["cpu.utilization_percent"].isna().all()


def test_a_value_of_a_probe_is_not_replaced_by_a_rate(tmp_path: Path) -> None:
    values = {**cpu(1, 1), "utilization_percent": 77}
    frame = frame_of(tmp_path, sample(1, cpu=values), sample(2, cpu=values))
    assert frame["cpu.utilization_percent"].tolist() == [77, 77]


def test_rates_are_computed_within_a_journal_and_the_frame_has_the_lines_of_all(tmp_path: Path) -> None:
    for pid, base in ((1, 0.0), (2, 100.0)):
        write(
            tmp_path,
            header(f"j{pid}", pid=pid),
            sample(1, process={"user_s": base, "system_s": 0}),
            sample(2, process={"user_s": base + pid, "system_s": 0}),
        )
    frame = Buffer(tmp_path).telemetry()
    assert frame.sort_values(["at", "pid"])["process.cpu_percent"].tolist()[2:] == [100, 200]
    assert frame["pid"].tolist().count(1) == 2


def test_a_sample_that_a_process_wrote_to_two_journals_is_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, header(name, pid=1), sample(1, mem=1), sample(2, mem=2))
    assert Buffer(tmp_path).telemetry()["mem"].tolist() == [1, 2]


def test_deeply_nested_values_stay_in_one_cell(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(200):
        deep = {"a": deep}
    frame = frame_of(tmp_path, Sample(at=ns(1), values=deep))
    assert len(frame.columns) == 4
