"""Some rounds of the fuzzer of values; tests/soak plays longer."""

from __future__ import annotations

from tests.fuzzing.frame import fuzz
from tests.fuzzing.values import ValueTarget


def test_whatever_calls_are_given_they_return_and_their_records_keep_within_bounds_and_secrets() -> None:
    assert fuzz(ValueTarget(), 16, rounds=30) == 30
