"""Energy of tasks and workflows, from the counters of the GPUs that their processes saw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.read.energy import EXACT, SAMPLED, Counter, sampled_energy
from flowprov.read.rows import Row
from flowprov.records import Record
from tests.journal.support import NS
from tests.read.samples import counted, every_second, gpu, ns, rows_of, sample, task, workflow
from tests.support import only


def energy(row: Row) -> dict[str, Any] | None:
    return None if row.telemetry_at_end is None else row.telemetry_at_end.get("gpu_energy")


def joules(*journal: Record) -> float | None:
    told = energy(only(rows_of(journal)))
    return None if told is None else told["joules"]


def test_the_counter_is_interpolated_between_the_samples_around_start_and_end() -> None:
    samples = counted([(10, 1000), (11, 1100), (12, 1400), (13, 1500)])
    row = only(rows_of([*samples, task(10.5, 12.25)]))
    # 1050 J at the start, 1425 J at the end
    assert energy(row) == {
        "joules": 375,
        "by_device": {"GPU-a": 375},
        "covered_s": 1.75,
        "method": SAMPLED,
    }
    assert "interpolated" in SAMPLED
    assert "whole" in SAMPLED
    assert "gpu_energy" not in row.telemetry_at_start


def test_every_device_counts() -> None:
    samples = [sample(10 + n, gpu=gpu(a=100 * n, b=7 * n)) for n in range(4)]
    told = energy(only(rows_of([*samples, task(10, 12)])))
    assert told is not None
    assert (told["joules"], told["by_device"]) == (214, {"a": 200, "b": 14})


def test_a_task_shorter_than_the_interval_has_no_energy() -> None:
    samples = counted([(10, 0), (11, 100), (12, 200)])
    assert joules(*samples, task(10.5, 11.25)) is None
    assert joules(*samples, task(10.5, 11.5)) == 100


def test_what_no_sample_covers_is_not_counted_and_that_is_said() -> None:
    row = only(rows_of([*counted([(10, 0), (11, 100), (12, 200)]), task(9, 11.5)]))
    told = energy(row)
    assert told is not None
    assert (told["joules"], told["covered_s"]) == (150, 1.5)
    for start, end in ((1, 9), (1, 10), (12, 20), (13, 20)):
        assert joules(*counted([(10, 0), (11, 100), (12, 200)]), task(start, end)) is None


def test_without_a_counter_there_is_no_energy() -> None:
    assert joules(*every_second(5), task(10, 13)) is None
    assert joules(*(sample(at, gpu=gpu(a=None)) for at in (10, 11, 12)), task(10, 12)) is None
    assert joules(*counted([(10, 5)]), task(10, 12)) is None
    assert energy(only(rows_of([*counted([(10, 0), (11, 9)]), task(10, None)]))) is None
    odd: list[Any] = [{"gpu": 3}, {"gpu": {"0": 4}}, {"gpu": {"0": {"energy_j": "x"}}}]
    assert joules(*(sample(10 + n, **each) for n, each in enumerate(odd)), task(10, 12)) is None


def test_a_task_that_asked_for_no_telemetry_has_no_energy() -> None:
    assert joules(*counted([(10, 0), (12, 9)]), task(10, 12, telemetry=False)) is None


def test_samples_in_which_the_counter_failed_are_bridged() -> None:
    samples = [sample(10, gpu=gpu(a=0)), sample(11, gpu=gpu(a=None)), sample(12, gpu=gpu(a=100))]
    assert joules(*samples, task(10, 12)) == 100
    assert joules(*samples, task(10.25, 11.75)) is None  # shorter than what is known of the counter


def test_a_counter_that_went_backwards_tells_no_energy_of_its_device() -> None:
    samples = [sample(10 + n, gpu=gpu(a=a, b=10 * n)) for n, a in enumerate((500, 600, 5, 105))]
    told = energy(only(rows_of([*samples, task(10, 13)])))
    assert told is not None
    assert told["by_device"] == {"b": 30}
    for start, end, expected in ((10, 11, 100), (12, 13, 100), (11, 12.5, None), (10, 11.25, None)):
        row = only(rows_of([*counted([(10, 500), (11, 600), (12, 5), (13, 105)]), task(start, end)]))
        assert (energy(row) or {}).get("joules") == expected


def test_a_device_that_lost_its_name_in_one_sample_is_the_same_device() -> None:
    nameless = sample(11, gpu={"0": {"energy_j": 50}})
    samples = [sample(10, gpu=gpu(a=0)), nameless, sample(12, gpu=gpu(a=100))]
    told = energy(only(rows_of([*samples, task(10, 12)])))
    assert told is not None
    assert told["by_device"] == {"a": 100}


def test_a_device_that_never_tells_its_name_goes_by_host_and_number() -> None:
    samples = [sample(10 + n, gpu={"0": {"energy_j": 10 * n}}) for n in range(3)]
    told = energy(only(rows_of([*samples, task(10, 12)])))
    assert told is not None
    assert told["by_device"] == {"node-1 gpu 0": 20}


def test_readings_of_its_own_are_taken_from_one_another() -> None:
    own: dict[str, Any] = {
        "telemetry_at_start": {"gpu": gpu(a=100, b=5, c=9)},
        "telemetry_at_end": {"gpu": gpu(a=130.5, b=4)},
    }
    row = only(rows_of([*counted([(9, 0), (10, 900), (11, 1000)]), task(9, 11, **own)]))
    assert energy(row) == {"joules": 30.5, "by_device": {"a": 30.5}, "method": EXACT}
    assert row.telemetry_at_start == own["telemetry_at_start"]
    assert energy(only(rows_of([task(9, 11, telemetry_at_start={}, telemetry_at_end={})]))) is None


def test_own_readings_of_two_messages_are_taken_from_one_another_when_merged() -> None:
    start = task(10, None, "dask-1", telemetry_at_start={"gpu": gpu(a=1)})
    end = task(10, 12, "dask-1", telemetry_at_end={"gpu": gpu(a=4)})
    told = energy(only(rows_of([start, end], merge=True)))
    assert told is not None
    assert told["joules"] == 3


def workflow_energy(*journals: Iterable[Any], name: str = "w") -> dict[str, Any] | None:
    row = only(
        [each for each in rows_of(*journals) if each.workflow_id == name and not hasattr(each, "thread")]
    )
    return energy(row)


def test_of_a_workflow_it_is_that_of_all_devices_that_its_processes_saw() -> None:
    driver = [*workflow(10, 20), *counted([(10, 0), (20, 10)], "GPU-a")]
    worker = [*counted([(9, 0), (15, 600), (21, 1200)], "GPU-b"), task(11, 12, workflow_id="w")]
    stranger = [*counted([(9, 0), (21, 99)], "GPU-c"), task(11, 12, workflow_id="other")]
    told = workflow_energy(driver, worker, stranger)
    assert told is not None
    assert told["by_device"] == {"GPU-a": 10, "GPU-b": pytest.approx(1000)}
    assert told["joules"] == pytest.approx(1010)
    assert told["covered_s"] == 10


def test_two_processes_that_see_one_device_count_it_once() -> None:
    first = [*workflow(10, 20), *counted([(10, 0), (12, 20), (20, 100)])]
    # its readings lag a little behind: taken in turns they would seem to go backwards
    second = [*counted([(9.5, -6), (10.5, 4.9), (12.001, 19.9), (20.5, 104)]), task(11, 12, workflow_id="w")]
    told = workflow_energy(first, second)
    assert told is not None
    assert told["by_device"] == {"GPU-a": pytest.approx(100, rel=0.01)}
    assert told["covered_s"] == 10


def test_processes_one_after_the_other_tell_of_one_stretch_together() -> None:
    opening, ending = workflow(10, 30)
    first = [opening, *counted([(10, 0), (15, 50)])]
    second = [*counted([(14, 40), (20, 100)]), task(14, 15, workflow_id="w")]
    third = [*counted([(25, 150), (30, 200)]), task(26, 27, workflow_id="w")]
    told = workflow_energy([*first, ending], second, third)
    assert told is not None
    assert (told["joules"], told["covered_s"]) == (200, 20)
    reset = [*counted([(25, 1), (30, 51)]), task(26, 27, workflow_id="w")]
    assert workflow_energy([*first, ending], second, reset) is None


def test_what_the_workflows_inside_drew_counts_for_those_around_them() -> None:
    outer = [*workflow(10, 20), *workflow(11, 19, "middle", parent_workflow_id="w")]
    inner = [
        *workflow(12, 18, "inner", parent_workflow_id="middle"),
        *counted([(10, 0), (15, 50), (20, 100)]),
    ]
    told = {name: workflow_energy(outer, inner, name=name) for name in ("w", "middle", "inner")}
    assert {name: each and each["joules"] for name, each in told.items()} == {
        "w": 100,
        "middle": 80,
        "inner": 60,
    }


def test_workflows_that_are_each_other_s_parents_end() -> None:
    journal = [*workflow(10, 20, parent_workflow_id="b"), *workflow(10, 20, "b", parent_workflow_id="w")]
    told = workflow_energy([*journal, *counted([(10, 0), (20, 100)])])
    assert told is not None
    assert told["joules"] == 100


def test_a_workflow_that_is_open_or_short_has_no_energy() -> None:
    samples = counted([(10, 0), (20, 100), (30, 200)])
    assert workflow_energy([*workflow(10, None), *samples]) is None
    assert workflow_energy([*workflow(11, 19), *samples]) is None


def test_a_workflow_whose_own_process_has_no_samples_has_the_energy_of_the_others() -> None:
    worker = [*counted([(10, 0), (20, 100)]), task(11, 12, workflow_id="w")]
    row = rows_of([*workflow(10, 20)], worker)[0]
    assert row.telemetry_at_start is None
    assert list(row.telemetry_at_end or {}) == ["gpu_energy"]


points = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=2, max_size=8, unique_by=lambda p: p[0]
).map(sorted)


@given(points, st.integers(-5, 60), st.integers(0, 60))
def test_energy_is_never_negative_and_never_of_more_than_the_time(
    told: list[tuple[int, int]], start: int, length: int
) -> None:
    counter = Counter([at * NS for at, _ in told], [joules for _, joules in told])
    found = sampled_energy({"a": [counter]}, ns(start), ns(start + length))
    if found is not None:
        assert found["joules"] >= 0
        assert 0 < found["covered_s"] <= length
        inside = [at for at, _ in told if start <= at <= start + length]
        rising = [joules for at, joules in told if at in inside]
        assert rising == sorted(rising)
