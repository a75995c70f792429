"""Each kind of value in the table is recorded within the budget of a record, without running foreign code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flowprov.values import Limits, Summarizer, restore
from tests.values import hostile
from tests.values.kinds import KINDS
from tests.values.kinds_of_packages import kinds_of_packages
from tests.values.support import SUMMARIZER

ALL_KINDS = {**KINDS, **kinds_of_packages()}
LIMITS = Limits()
FULL = LIMITS.allowance()
REST = LIMITS.allowance(LIMITS.max_bytes)
SMALL = Limits(max_bytes=4_096)


def test_the_table_has_more_than_200_kinds() -> None:
    assert len(KINDS) > 200


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL_KINDS.items()])
def test_a_kind_is_recorded_within_its_budget_and_without_foreign_code(make: Callable[[], Any]) -> None:
    value = make()
    hostile.CALLS.clear()
    assert_recorded(SUMMARIZER.encode_mapping({"x": value, "lr": 0.1}), FULL)
    assert_recorded(SUMMARIZER.encode_mapping({"x": value, "lr": 0.1}, LIMITS.max_bytes), REST)
    assert_recorded(SUMMARIZER.encode_mapping({"x": [value], "y": {"z": (value,)}, "lr": 0.1}), FULL)
    assert_recorded(Summarizer(SMALL).encode_mapping({"x": value, "lr": 0.1}), SMALL.allowance())
    assert len(SUMMARIZER.encode(value)) <= FULL
    assert count_nodes(SUMMARIZER.summarize(value)) <= LIMITS.max_total + LIMITS.max_entries
    SUMMARIZER.encode(value, key="token")
    assert hostile.CALLS == []


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL_KINDS.items()])
def test_a_kind_is_recorded_when_no_time_is_left(make: Callable[[], Any]) -> None:
    value = make()
    encoded = Summarizer(Limits(max_seconds=0.0)).encode_mapping({"x": value, "y": [[value]], "lr": 0.1})
    assert_recorded(encoded, FULL)


def assert_recorded(encoded: bytes, max_bytes: int) -> None:
    assert len(encoded) <= max_bytes
    form = msgspec.json.decode(encoded)
    assert form == json.loads(encoded)
    assert form["lr"] == 0.1
    assert "x" in form
    restore(form)


def count_nodes(form: Any) -> int:
    if isinstance(form, dict):
        return 1 + sum(map(count_nodes, form.values()))
    return 1 + sum(map(count_nodes, form)) if isinstance(form, list) else 1
