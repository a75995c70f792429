"""What MLflow would refuse, or cut silently, is rewritten with a mark."""

from __future__ import annotations

import math
import posixpath
import re

from hypothesis import given
from hypothesis import strategies as st

from flowprov.export.mlflow.limits import (
    MAX_EXPERIMENT_NAME,
    MAX_NAME,
    Point,
    as_stored,
    batches,
    fit_experiment_name,
    fit_name,
    fit_value,
)
from flowprov.read.value_paths import as_float


@given(st.text())
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    fitted = fit_name(name)
    assert re.fullmatch(r"[/\w.\- :]+", fitted)
    assert len(fitted) <= MAX_NAME
    assert posixpath.normpath(fitted) == fitted
    assert not fitted.startswith(("/", ".."))


def test_a_name_that_mlflow_takes_stays_and_others_never_become_one() -> None:
    plain = ["lr", "model.layers", "train_batch/loss", "a b:c-d", "größe"]
    assert [fit_name(name) for name in plain] == plain
    odd = ["a[0]", "a(0)", "a_0_", "../a", "a", "/a", "a/", ".", "", "x" * 300, "x" * 299]
    assert len({fit_name(name) for name in odd}) == len(odd)
    assert fit_name("a[0]").startswith("a_0__")
    assert len(fit_experiment_name("e" * 600)) == MAX_EXPERIMENT_NAME


def test_a_cut_value_says_how_long_it_was() -> None:
    assert fit_value("x" * 6_000, 6_000) == "x" * 6_000
    fitted = fit_value("x" * 6_001, 6_000)
    assert len(fitted) == 6_000
    assert fitted.endswith("x… [cut: 6,001 characters]")


def test_numbers_that_are_no_float_are_the_nearest_one() -> None:
    assert [as_float(number) for number in (3, 10**400, -(10**400))] == [3.0, math.inf, -math.inf]
    assert as_stored(-math.inf) == -1.7976931348623157e308
    assert math.isnan(as_stored(math.nan))


def test_calls_hold_no_more_than_mlflow_takes() -> None:
    points = [Point("loss", float(step), step, 0) for step in range(2_500)]
    params = [(f"p{number}", "x" * 5_000) for number in range(250)]
    tags = [(f"t{number}", "v") for number in range(101)]
    calls = list(batches(points, params, tags))
    assert max(len(call.metrics) for call in calls) == 1_000
    assert max(len(call.params) for call in calls) <= 100
    assert max(sum(map(len, call.params.values())) for call in calls) <= 250_000
    assert [point for call in calls for point in call.metrics] == points
    assert {name: value for call in calls for name, value in call.params.items()} == dict(params)
    assert {name: value for call in calls for name, value in call.tags.items()} == dict(tags)
    assert list(batches([], [], [])) == []
