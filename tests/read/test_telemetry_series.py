"""Changes become full readings, and samples are chosen by their distance from a start and an end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.journal.merge_patch import diff
from flowprov.read.telemetry_join import Series, full_readings
from flowprov.records import Sample
from tests.journal.support import payloads
from tests.read.samples import change, every_second, ns, sample


def readings_of(*samples: Sample) -> list[dict[str, Any]]:
    return [values for _, values in full_readings(samples)]


def test_changes_are_merged_into_the_sample_before() -> None:
    assert readings_of(
        sample(1, cpu={"user_s": 1, "idle_s": 5}, gpu={"0": {"power_w": 3}}),
        change(2, cpu={"user_s": 2}),
        change(3, gpu=None, mem={"used_bytes": 7}),
        sample(4, mem={"used_bytes": 8}),
    ) == [
        {"cpu": {"user_s": 1, "idle_s": 5}, "gpu": {"0": {"power_w": 3}}},
        {"cpu": {"user_s": 2, "idle_s": 5}, "gpu": {"0": {"power_w": 3}}},
        {"cpu": {"user_s": 2, "idle_s": 5}, "mem": {"used_bytes": 7}},
        {"mem": {"used_bytes": 8}},
    ]


def test_changes_without_a_whole_sample_before_them_make_a_reading_by_themselves() -> None:
    assert readings_of(change(1, cpu={"user_s": 2}), change(2, mem=1)) == [
        {"cpu": {"user_s": 2}},
        {"cpu": {"user_s": 2}, "mem": 1},
    ]


def test_an_empty_sample_has_the_reading_of_the_sample_before() -> None:
    assert readings_of(sample(1, mem=1), Sample(at=2)) == [{"mem": 1}, {"mem": 1}]


@pytest.fixture
def usual_recursion_limit() -> Iterator[None]:
    """Set the limit with which Python starts; some libraries raise it for good."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("usual_recursion_limit")
def test_changes_that_are_nested_too_deeply_are_ignored() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    assert readings_of(sample(1, mem=1), Sample(at=2, changes=deep), change(3, mem=2)) == [
        {"mem": 1},
        {"mem": 2},
    ]


def test_readings_share_the_values_that_did_not_change() -> None:
    first, second = readings_of(
        sample(1, cpu={"user_s": 1}, mem={"used_bytes": 7}), change(2, cpu={"user_s": 2})
    )
    assert first["mem"] is second["mem"]


@given(st.lists(payloads, min_size=1, max_size=5))
def test_any_readings_that_were_written_as_changes_are_restored(readings: list[dict[str, Any]]) -> None:
    readings = [_without_null(reading) for reading in readings]
    written = [Sample(at=0, values=readings[0])]
    written += [Sample(at=n, changes=diff(a, b)) for n, (a, b) in enumerate(pairwise(readings), 1)]
    assert list(full_readings(written)) == list(enumerate(readings))


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(inner) for name, inner in value.items() if inner is not None}
    return value


def test_samples_are_sorted_by_time_even_if_the_clock_was_set_back() -> None:
    series = Series([sample(5, mem=1), change(3, cpu=1), change(4, mem=2)])
    assert series.times == [ns(3), ns(4), ns(5)]
    assert series.values == [{"mem": 1, "cpu": 1}, {"mem": 2, "cpu": 1}, {"mem": 1}]


def indices(start: float | None, end: float | None, samples: list[Sample] | None = None) -> tuple[Any, Any]:
    return Series(every_second(5) if samples is None else samples).indices_around(ns(start), ns(end))


def test_a_long_task_has_the_latest_before_its_start_and_the_earliest_after_its_end() -> None:
    assert indices(10.5, 12.5) == (0, 3)
    assert indices(10.999999999, 12.000000001) == (0, 3)


def test_a_sample_at_exactly_the_start_or_end_is_chosen() -> None:
    assert indices(11, 13) == (1, 3)
    assert indices(11, 12) == (1, 2)


def test_before_the_first_sample_and_after_the_last_the_nearest_is_chosen() -> None:
    assert indices(1, 12.5) == (0, 3)
    assert indices(11.5, 100) == (1, 4)
    assert indices(1, 100) == (0, 4)
    assert indices(1, 8) == (0, 0)
    assert indices(50, 100) == (4, 4)


def test_a_task_shorter_than_the_interval_has_only_the_nearest_sample() -> None:
    assert indices(11.1, 11.2) == (1, 1)
    assert indices(11.8, 11.9) == (2, 2)
    assert indices(11.8, 12.1) == (2, 2)  # the sample was taken while the task ran
    assert indices(11, 11.999999999) == (1, 1)
    assert indices(11.25, 11.75) == (1, 1)  # of two equally near samples the earlier
    assert indices(9.9, 10.1) == (0, 0)
    assert indices(14.1, 14.2) == (4, 4)


def test_in_a_gap_the_distance_between_its_two_samples_counts_as_the_interval() -> None:
    gap = [sample(10), sample(11), sample(60), sample(61)]
    assert indices(12, 40, gap) == (1, 1)
    assert indices(30, 58, gap) == (2, 2)
    assert indices(10.5, 59, gap) == (0, 2)
    assert indices(10.5, 11.2, gap) == (1, 1)


def test_an_unknown_moment_has_no_sample() -> None:
    assert indices(11.9, None) == (1, None)
    assert indices(None, 11.1) == (None, 2)
    assert indices(None, 99) == (None, 4)
    assert indices(None, None) == (None, None)
    assert indices(11, 12, []) == (None, None)


def search_all(times: list[int], started: int, ended: int) -> tuple[int, int]:
    """Return the indices of the samples for a start and an end, by looking at every sample."""
    numbers = range(len(times))
    before = max((index for index in numbers if times[index] <= started), default=0)
    after = next((index for index in numbers if index > before), None)
    if after is None:
        return before, before
    if ended - started < times[after] - times[before]:
        distances = {index: max(started - times[index], times[index] - ended, 0) for index in (before, after)}
        nearest = min(distances, key=lambda index: (distances[index], index))
        return nearest, nearest
    return before, next((i for i in numbers if times[i] >= ended and i >= before), len(times) - 1)


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=12).map(sorted),
    st.integers(-5, 70),
    st.integers(0, 40),
)
def test_the_chosen_samples_equal_those_of_a_search_through_all(
    times: list[int], started: int, length: int
) -> None:
    series = Series([Sample(at=at, values={}) for at in times])
    assert series.indices_around(started, started + length) == search_all(times, started, started + length)
