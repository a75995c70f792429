"""Scalars: which stay as they are, and which become a marker."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import sys
import uuid
from typing import Any

import numpy as np
import pytest

from flowprov.values import restore
from tests.values.support import recorded, same


class Level(enum.IntEnum):
    """An enum of integers."""

    HIGH = 3


class Mode(str, enum.Enum):
    """An enum of strings."""

    TRAIN = "train"


class Color(enum.Enum):
    """An enum."""

    RED = (1, 0, 0)


class Shouting(str):
    """A string that overrides its methods."""

    __slots__ = ()

    def __str__(self) -> str:
        return "overridden"

    def __len__(self) -> int:
        raise ValueError("no length")


class Lying(int):
    """An integer that overrides its methods."""

    def __pos__(self) -> int:
        return 0

    def __index__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "value", [None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e300, "", "é\n", "日本"]
)
def test_json_scalars_stay_as_they_are(value: Any) -> None:
    assert same(recorded(value), value)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 2**63, -(2**63) - 1, 10**600, -(10**600), 2**4000, -(2**4000)],
)
def test_numbers_that_json_cannot_hold_are_restored(value: Any) -> None:
    form = recorded(value)
    assert next(iter(form)).startswith("$")
    assert same(restore(form), value)


def test_an_integer_of_a_million_bits_is_recorded_by_its_length() -> None:
    assert recorded(2**1_000_000) == {"$int_bits": 1_000_001, "negative": False}
    assert recorded(-(2**20_000)) == {"$int_bits": 20_001, "negative": True}


def test_big_integers_are_kept_under_the_lowest_limit_of_digits() -> None:
    if not hasattr(sys, "set_int_max_str_digits"):
        pytest.skip("this Python has no limit of digits")
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        for bits in (2047, 2048, 2049, 4096, 4097):
            recorded(2**bits - 1)
        assert restore(recorded(2**2048 - 1)) == 2**2048 - 1
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Level.HIGH, 3),
        (Mode.TRAIN, "train"),
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (np.float16(0.25), 0.25),
        (np.longdouble("0.25"), 0.25),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), {"$int": str(2**64 - 1)}),
        (np.bool_(True), True),
        (np.str_("abc"), "abc"),
        (np.float64("nan"), {"$float": "NaN"}),
        (np.float32("-inf"), {"$float": "-Infinity"}),
        (np.complex64(1 + 2j), {"$complex": [1.0, 2.0]}),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.timedelta64(5, "D"), "5 days"),
        (np.dtype("float32"), "float32"),
        (complex(math.nan, 1), {"$complex": [{"$float": "NaN"}, 1.0]}),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(3, 4), "3/4"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "2024-01-02T03:04:05+00:00"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.time(3, 4, 5), "03:04:05"),
        (dt.timedelta(days=1, seconds=2, microseconds=3), "PT86402.000003S"),
        (dt.timedelta(seconds=-1.5), "-PT1.500000S"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (pathlib.PurePosixPath("/data/x"), "/data/x"),
        (range(0, 9, 2), {"$range": [0, 9, 2]}),
        (slice(None, 3), {"$slice": [None, 3, None]}),
        (Color.RED, {"$enum": "tests.values.test_scalars.Color.RED", "value": [1, 0, 0]}),
    ],
)
def test_scalars_of_other_kinds_are_kept_in_their_usual_form(value: Any, expected: Any) -> None:
    assert same(recorded(value), expected)


def test_subclasses_that_override_everything_are_kept_as_their_plain_values() -> None:
    assert same(recorded(Shouting("abc")), "abc")
    assert same(recorded(Lying(7)), 7)
    assert same(recorded({Shouting("k"): Lying(7), Mode.TRAIN: 1}), {"k": 7, "train": 1})
    assert same(recorded({"train": 1}), recorded({Mode.TRAIN: 1}))


def test_strings_within_the_limit_stay_and_longer_ones_are_cut_with_their_length() -> None:
    assert recorded("a" * 1_000) == "a" * 1_000
    assert recorded("a" * 1_001) == {"$str": "a" * 1_000, "length": 1_001}


def test_lone_surrogates_are_escaped_and_marked() -> None:
    assert recorded("ab\udcff") == {"$str": "ab\\udcff", "escaped": True}
    assert recorded(["\ud800", {"\ud800": 1}]) == [{"$str": "\\ud800", "escaped": True}, {"\\ud800": 1}]


def test_bytes_are_kept_by_length_and_digest_of_at_most_256_kibibytes() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for value in (b"", bytearray(), memoryview(b"")):
        assert recorded(value) == {"$bytes": 0, "sha256": empty}
    long = b"a" * (2**18 + 1)
    form = recorded(long)
    assert form["$bytes"] == 2**18 + 1
    assert form["digest_of_first"] == 2**18
    assert form["sha256"] == recorded(long[:-1])["sha256"]
    assert recorded(memoryview(long)[::2]) == {"$bytes": 2**17 + 1}


def test_a_bytearray_can_be_resized_after_it_was_recorded() -> None:
    value = bytearray(b"abc")
    recorded(value)
    value.extend(b"def")
    assert value == b"abcdef"
