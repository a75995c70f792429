"""The energy of tasks and workflows, from the counters of the GPUs that their processes sampled."""

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
from tests.read.samples import counter_samples, every_second, gpu, ns, rows_of, sample, task, workflow
from tests.support import only


def energy(row: Row) -> dict[str, Any] | None:
    return None if row.telemetry_at_end is None else row.telemetry_at_end.get("gpu_energy")


def joules(*journal: Record) -> float | None:
    result = energy(only(rows_of(journal)))
    return None if result is None else result["joules"]


def test_the_counter_is_interpolated_between_the_samples_around_start_and_end() -> None:
    samples = counter_samples([(10, 1000), (11, 1100), (12, 1400), (13, 1500)])
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


def test_the_energy_of_all_devices_is_added_up() -> None:
    samples = [sample(10 + n, gpu=gpu(a=100 * n, b=7 * n)) for n in range(4)]
    result = energy(only(rows_of([*samples, task(10, 12)])))
    assert result is not None
    assert (result["joules"], result["by_device"]) == (214, {"a": 200, "b": 14})


def test_a_task_shorter_than_the_interval_has_no_energy() -> None:
    samples = counter_samples([(10, 0), (11, 100), (12, 200)])
    assert joules(*samples, task(10.5, 11.25)) is None
    assert joules(*samples, task(10.5, 11.5)) == 100


def test_time_that_no_sample_covers_is_not_counted_and_covered_s_says_so() -> None:
    row = only(rows_of([*counter_samples([(10, 0), (11, 100), (12, 200)]), task(9, 11.5)]))
    result = energy(row)
    assert result is not None
    assert (result["joules"], result["covered_s"]) == (150, 1.5)
    for start, end in ((1, 9), (1, 10), (12, 20), (13, 20)):
        assert joules(*counter_samples([(10, 0), (11, 100), (12, 200)]), task(start, end)) is None


def test_without_a_counter_there_is_no_energy() -> None:
    assert joules(*every_second(5), task(10, 13)) is None
    assert joules(*(sample(at, gpu=gpu(a=None)) for at in (10, 11, 12)), task(10, 12)) is None
    assert joules(*counter_samples([(10, 5)]), task(10, 12)) is None
    assert energy(only(rows_of([*counter_samples([(10, 0), (11, 9)]), task(10, None)]))) is None
    odd: list[Any] = [{"gpu": 3}, {"gpu": {"0": 4}}, {"gpu": {"0": {"energy_j": "x"}}}]
    assert joules(*(sample(10 + n, **values) for n, values in enumerate(odd)), task(10, 12)) is None


def test_a_task_without_telemetry_has_no_energy() -> None:
    assert joules(*counter_samples([(10, 0), (12, 9)]), task(10, 12, telemetry=False)) is None


def test_the_counter_is_interpolated_across_samples_in_which_it_failed() -> None:
    samples = [sample(10, gpu=gpu(a=0)), sample(11, gpu=gpu(a=None)), sample(12, gpu=gpu(a=100))]
    assert joules(*samples, task(10, 12)) == 100
    assert joules(*samples, task(10.25, 11.75)) is None  # shorter than the time between its two values


def test_a_counter_that_went_backwards_gives_no_energy_for_its_device() -> None:
    samples = [sample(10 + n, gpu=gpu(a=a, b=10 * n)) for n, a in enumerate((500, 600, 5, 105))]
    result = energy(only(rows_of([*samples, task(10, 13)])))
    assert result is not None
    assert result["by_device"] == {"b": 30}
    for start, end, expected in ((10, 11, 100), (12, 13, 100), (11, 12.5, None), (10, 11.25, None)):
        row = only(rows_of([*counter_samples([(10, 500), (11, 600), (12, 5), (13, 105)]), task(start, end)]))
        assert (energy(row) or {}).get("joules") == expected


def test_a_device_without_its_uuid_in_one_sample_is_the_same_device() -> None:
    without_uuid = sample(11, gpu={"0": {"energy_j": 50}})
    samples = [sample(10, gpu=gpu(a=0)), without_uuid, sample(12, gpu=gpu(a=100))]
    result = energy(only(rows_of([*samples, task(10, 12)])))
    assert result is not None
    assert result["by_device"] == {"a": 100}


def test_a_device_without_a_uuid_is_named_by_its_host_and_number() -> None:
    samples = [sample(10 + n, gpu={"0": {"energy_j": 10 * n}}) for n in range(3)]
    result = energy(only(rows_of([*samples, task(10, 12)])))
    assert result is not None
    assert result["by_device"] == {"node-1 gpu 0": 20}


def test_the_energy_of_exact_readings_is_their_difference() -> None:
    exact: dict[str, Any] = {
        "telemetry_at_start": {"gpu": gpu(a=100, b=5, c=9)},
        "telemetry_at_end": {"gpu": gpu(a=130.5, b=4)},
    }
    row = only(rows_of([*counter_samples([(9, 0), (10, 900), (11, 1000)]), task(9, 11, **exact)]))
    assert energy(row) == {"joules": 30.5, "by_device": {"a": 30.5}, "method": EXACT}
    assert row.telemetry_at_start == exact["telemetry_at_start"]
    assert energy(only(rows_of([task(9, 11, telemetry_at_start={}, telemetry_at_end={})]))) is None


def test_the_energy_of_exact_readings_in_two_messages_is_their_difference_when_merged() -> None:
    start = task(10, None, "dask-1", telemetry_at_start={"gpu": gpu(a=1)})
    end = task(10, 12, "dask-1", telemetry_at_end={"gpu": gpu(a=4)})
    result = energy(only(rows_of([start, end], merge=True)))
    assert result is not None
    assert result["joules"] == 3


def workflow_energy(*journals: Iterable[Any], name: str = "w") -> dict[str, Any] | None:
    row = only(
        [item for item in rows_of(*journals) if item.workflow_id == name and not hasattr(item, "thread")]
    )
    return energy(row)


def test_the_energy_of_a_workflow_covers_all_devices_that_its_processes_sampled() -> None:
    driver = [*workflow(10, 20), *counter_samples([(10, 0), (20, 10)], "GPU-a")]
    worker = [*counter_samples([(9, 0), (15, 600), (21, 1200)], "GPU-b"), task(11, 12, workflow_id="w")]
    foreign = [*counter_samples([(9, 0), (21, 99)], "GPU-c"), task(11, 12, workflow_id="other")]
    result = workflow_energy(driver, worker, foreign)
    assert result is not None
    assert result["by_device"] == {"GPU-a": 10, "GPU-b": pytest.approx(1000)}
    assert result["joules"] == pytest.approx(1010)
    assert result["covered_s"] == 10


def test_a_device_that_two_processes_sample_counts_once() -> None:
    first = [*workflow(10, 20), *counter_samples([(10, 0), (12, 20), (20, 100)])]
    # Its readings lag a little. In turns with the first process's they would seem to go backwards.
    second = [
        *counter_samples([(9.5, -6), (10.5, 4.9), (12.001, 19.9), (20.5, 104)]),
        task(11, 12, workflow_id="w"),
    ]
    result = workflow_energy(first, second)
    assert result is not None
    assert result["by_device"] == {"GPU-a": pytest.approx(100, rel=0.01)}
    assert result["covered_s"] == 10


def test_processes_that_sample_one_after_the_other_cover_the_time_together() -> None:
    opening, ending = workflow(10, 30)
    first = [opening, *counter_samples([(10, 0), (15, 50)])]
    second = [*counter_samples([(14, 40), (20, 100)]), task(14, 15, workflow_id="w")]
    third = [*counter_samples([(25, 150), (30, 200)]), task(26, 27, workflow_id="w")]
    result = workflow_energy([*first, ending], second, third)
    assert result is not None
    assert (result["joules"], result["covered_s"]) == (200, 20)
    reset = [*counter_samples([(25, 1), (30, 51)]), task(26, 27, workflow_id="w")]
    assert workflow_energy([*first, ending], second, reset) is None


def test_the_energy_of_inner_workflows_counts_for_the_outer_workflows() -> None:
    outer = [*workflow(10, 20), *workflow(11, 19, "middle", parent_workflow_id="w")]
    inner = [
        *workflow(12, 18, "inner", parent_workflow_id="middle"),
        *counter_samples([(10, 0), (15, 50), (20, 100)]),
    ]
    results = {name: workflow_energy(outer, inner, name=name) for name in ("w", "middle", "inner")}
    assert {name: result and result["joules"] for name, result in results.items()} == {
        "w": 100,
        "middle": 80,
        "inner": 60,
    }


def test_workflows_that_are_each_others_parents_do_not_loop_forever() -> None:
    journal = [*workflow(10, 20, parent_workflow_id="b"), *workflow(10, 20, "b", parent_workflow_id="w")]
    result = workflow_energy([*journal, *counter_samples([(10, 0), (20, 100)])])
    assert result is not None
    assert result["joules"] == 100


def test_an_open_workflow_and_one_shorter_than_the_interval_have_no_energy() -> None:
    samples = counter_samples([(10, 0), (20, 100), (30, 200)])
    assert workflow_energy([*workflow(10, None), *samples]) is None
    assert workflow_energy([*workflow(11, 19), *samples]) is None


def test_a_workflow_whose_own_process_has_no_samples_has_the_energy_of_the_others() -> None:
    worker = [*counter_samples([(10, 0), (20, 100)]), task(11, 12, workflow_id="w")]
    row = rows_of([*workflow(10, 20)], worker)[0]
    assert row.telemetry_at_start is None
    assert list(row.telemetry_at_end or {}) == ["gpu_energy"]


points = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=2, max_size=8, unique_by=lambda p: p[0]
).map(sorted)


@given(points, st.integers(-5, 60), st.integers(0, 60))
def test_energy_is_never_negative_and_covers_at_most_the_given_time(
    series: list[tuple[int, int]], start: int, length: int
) -> None:
    counter = Counter([at * NS for at, _ in series], [joules for _, joules in series])
    result = sampled_energy({"a": [counter]}, ns(start), ns(start + length))
    if result is not None:
        assert result["joules"] >= 0
        assert 0 < result["covered_s"] <= length
        inside = [at for at, _ in series if start <= at <= start + length]
        rising = [joules for at, joules in series if at in inside]
        assert rising == sorted(rising)
