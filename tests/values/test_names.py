"""Names: what a program gives as a name becomes text that can be recorded, whatever it is."""

from __future__ import annotations

import enum
import itertools
import pathlib
import uuid
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.values import as_dict, as_id, as_mapping, as_name, as_names
from tests.values import odd
from tests.values.test_properties import any_text, odd_values


class Phase(enum.Enum):
    """An enum of which the values are no names."""

    TRAIN = 1


class Text(str, enum.Enum):
    """An enum of text; its ``name`` is overridden."""

    TRAIN = "value"

    @property
    def name(self) -> str:
        """Raise."""
        raise RuntimeError("no name")


class Level(enum.IntFlag):
    """Flags, of which a combination may have no name."""

    A = 1
    B = 2


class OddText(str):
    """Text that lies about itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return OddText("told")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("fit", "fit"),
        ("größe", "größe"),
        ("caf\udce9", "caf\\udce9"),
        ("", ""),
        (np.str_("fold"), "fold"),
        (OddText("x"), "told"),
        (Phase.TRAIN, "TRAIN"),
        (Text.TRAIN, "TRAIN"),
        (Level.A, "A"),
        (b"fit", "fit"),
        (b"caf\xe9", "caf\\xe9"),
        (bytearray(b"fit"), "fit"),
        (memoryview(b"fit")[::-1], "tif"),
        (np.bytes_(b"fit"), "fit"),
        (pathlib.PurePosixPath("a/caf\udce9"), "a/caf\\udce9"),
        (3, "3"),
        (True, "True"),
        (np.float64(0.5), "0.5"),
        (("a", 1), "('a', 1)"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_name_is_text(value: Any, name: str) -> None:
    assert as_name(value) == name
    assert type(as_name(value)) is str


def test_none_stands_for_the_default() -> None:
    assert as_name(None) is None
    assert as_name(None, "loop") == "loop"
    assert as_name("", "loop") == ""


@pytest.mark.parametrize("cls", [odd.Failing, odd.Panicking, odd.NoString, odd.Endless, odd.BadMessage])
def test_a_str_that_raises_gives_a_name_that_says_so(cls: type) -> None:
    assert "without a readable name" in str(as_name(cls()))


def test_a_name_is_cut_and_an_id_stays_its_own() -> None:
    assert as_name("x" * 5_000) == "x" * 999 + "…"
    first, second = as_id("x" * 5_000 + "1"), as_id("x" * 5_000 + "2")
    assert first is not None
    assert second is not None
    assert len(first) == len(second) == 1_000
    assert first != second


def test_an_id_can_travel_in_an_environment_variable() -> None:
    assert as_id("a\0b") == "a\\x00b"
    assert as_id("") is None
    assert as_id(None) is None
    assert as_id(0) == "0"


def test_several_names_are_taken_from_anything() -> None:
    assert as_names(None) == []
    assert as_names("best") == ["best"]
    assert as_names(b"best") == ["best"]
    assert as_names(7) == ["7"]
    assert as_names(Phase.TRAIN) == ["TRAIN"]
    assert as_names(["a", None, 3, Phase.TRAIN]) == ["a", "3", "TRAIN"]
    assert as_names(name for name in ("a", "b")) == ["a", "b"]
    assert as_names(np.array(["a", "b"])) == ["a", "b"]
    assert as_names({"stage": "dev", "fold": 3}) == ["stage=dev", "fold=3"]
    assert len(as_names(itertools.count())) == 1_001


def test_named_values_are_taken_from_anything() -> None:
    values = {"a": 1}
    assert as_mapping(values, "used") is values
    assert as_mapping(None, "used") == {}
    assert as_mapping([("a", 1), ("b", 2)], "used") == {"a": 1, "b": 2}
    assert as_mapping(["ab", "cd"], "used") == {"used": ["ab", "cd"]}
    assert as_mapping([(1, 2, 3)], "used") == {"used": [(1, 2, 3)]}
    assert as_mapping(0.5, "used") == {"used": 0.5}
    assert as_dict(values, "used") == values
    assert as_dict(values, "used") is not values


@given(any_text | st.binary() | odd_values)
def test_every_value_gives_a_name_an_id_and_names(value: Any) -> None:
    _check(value)


@pytest.mark.parametrize("position", range(len(odd.odd_objects())))
def test_every_odd_object_gives_a_name_an_id_and_names(position: int) -> None:
    _check(odd.odd_objects()[position])


def _check(value: Any) -> None:
    names = [as_name(value, "default"), as_id(value) or "", *as_names(value)]
    for name in names:
        assert type(name) is str
        assert len(name) <= 1_000
        msgspec.json.encode(name)
    assert "\0" not in names[1]
    assert isinstance(as_dict(value, "name"), dict)
    as_mapping(value, "name")
