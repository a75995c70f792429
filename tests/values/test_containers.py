"""Containers: their items, their order, and the limits on them."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import os
import threading
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import pytest

from flowprov.values import Limits, Summarizer, restore
from tests.values.support import ASKING, SUMMARIZER, recorded


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float


@dataclasses.dataclass
class Config:
    """A dataclass."""

    lr: float = 0.1
    hidden: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
    password: str = "pw"  # noqa: S105 - the point of the test


class Settings(msgspec.Struct):
    """A msgspec Struct."""

    batch: int = 32


class Attrs:
    """Declares its fields as attrs does."""

    __attrs_attrs__ = (types.SimpleNamespace(name="depth"),)

    def __init__(self) -> None:
        self.depth = 4


class Broken(Mapping[str, int]):
    """A mapping that raises."""

    def __getitem__(self, key: str) -> int:
        raise OSError("gone")

    def __len__(self) -> int:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        yield "a"


class Keyless(Broken):
    """A mapping whose keys cannot be read either."""

    def __iter__(self) -> Iterator[str]:
        raise OSError("gone")


class Rude(dict[str, int]):
    """A dict whose methods raise."""

    def items(self) -> Any:
        """Raise."""
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")


class RudeList(list[int]):
    """A list whose iteration raises."""

    def __iter__(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, "a", None), [1, "a", None]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1, "a", None}, ["a", 1, None]),
        (set(), []),
        (collections.deque([1, 2], maxlen=2), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1, "token": "x"}.items(), {"a": 1, "token": {"$redacted": True}}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.ChainMap({"a": 1}, {"a": 2, "b": 3}), {"a": 1, "b": 3}),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.UserList([1, 2]), [1, 2]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (argparse.Namespace(lr=0.5), {"lr": 0.5}),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (Config(), {"lr": 0.1, "hidden": [1, 2], "password": {"$redacted": True}}),
        (Settings(), {"batch": 32}),
        (Attrs(), {"depth": 4}),
        (Rude(a=1), {"a": 1}),
        (RudeList([1, 2]), [1, 2]),
        (time.gmtime(0)[:3], [1970, 1, 1]),
    ],
)
def test_containers_are_kept_by_their_items(value: Any, expected: Any) -> None:
    form = recorded(value)
    assert form == expected
    if isinstance(form, dict):
        assert list(form) == list(expected)


def test_a_structure_sequence_is_kept_by_its_fields() -> None:
    assert recorded(time.gmtime(0))["tm_year"] == 1970


def test_the_environment_is_never_recorded() -> None:
    assert recorded(os.environ) == {"$redacted": True, "type": "os._Environ"}


def test_a_mapping_that_raises_is_marked_as_unreadable() -> None:
    form = recorded({"before": 1, "broken": Broken(), "after": 2}, summarizer=ASKING)
    assert form["before"] == 1
    assert form["after"] == 2
    assert form["broken"] == {"a": {"$read_error": "OSError: gone"}}
    assert msgspec.json.decode(SUMMARIZER.encode_mapping(Broken())) == form["broken"]
    keyless = recorded({"before": 1, "broken": Keyless(), "after": 2}, summarizer=ASKING)
    expected = {"$type": "tests.values.test_containers.Keyless", "read_error": "OSError: gone"}
    assert keyless == {"before": 1, "broken": expected, "after": 2}
    assert msgspec.json.decode(SUMMARIZER.encode_mapping(Keyless())) == expected


def test_an_object_that_occurs_twice_is_no_cycle() -> None:
    shared = [1]
    assert recorded([shared, shared]) == [[1], [1]]


def test_cycles_are_cut_with_a_marker() -> None:
    cyclic: list[object] = [1]
    cyclic.append({"again": cyclic})
    assert recorded(cyclic) == [1, {"again": {"$cycle": True}}]
    values: dict[str, object] = {}
    values["self"] = values
    assert recorded(values) == {"self": {"$cycle": True}}


def test_lists_of_five_thousand_levels_are_cut_at_the_limit() -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    form = recorded(deep)
    for _ in range(8):
        (form,) = form if isinstance(form, list) else (form,)
    assert form == {"$depth": "list"}


def test_long_containers_are_cut_and_keep_their_true_length() -> None:
    assert recorded([0] * 101) == [0] * 100 + [{"$cut": 101}]
    assert recorded(set(range(5_000)))[-1] == {"$cut": 5_000}
    assert recorded(set(range(500))) == [*range(100), {"$cut": 500}]
    form = recorded({str(i): i for i in range(2_000)})
    assert len(form) == 101
    assert form["$cut"] == 2_000
    assert len(recorded({(i, "x") for i in range(100)})) == 100
    assert recorded({(i, "x") for i in range(130)})[-1] == {"$cut": 130}
    many = recorded(collections.ChainMap({str(i): i for i in range(2_000)}))
    assert len(many) == 101
    assert many["$cut"] == 2_000


def test_the_number_of_values_in_one_value_is_bounded() -> None:
    form = recorded([[0] * 100] * 100)
    assert sum(len(row) for row in form if isinstance(row, list)) <= 1_000 + 100
    assert form[-1] == {"$cut": 100}
    wide = [{str(i): "x" for i in range(100)} for _ in range(100)]
    assert len(SUMMARIZER.encode(wide)) < 20_000


def test_the_limits_hold_for_each_value_of_a_mapping_by_itself() -> None:
    wide = [[0] * 90] * 10
    form = msgspec.json.decode(SUMMARIZER.encode_mapping({"a": wide, "b": wide, "token": "s", "c": wide}))
    assert form == {"a": wide, "b": wide, "token": {"$redacted": True}, "c": wide}


def test_a_mapping_of_very_many_values_is_cut() -> None:
    form = msgspec.json.decode(SUMMARIZER.encode_mapping({str(i): i for i in range(1_500)}))
    assert len(form) == 1_001
    assert form["$cut"] == 1_500


def test_limits_can_be_set() -> None:
    small = Summarizer(Limits(max_string=3, max_items=2, max_depth=1, max_nodes=10, max_repr=4))
    assert recorded("abcd", summarizer=small) == {"$str": "abc", "length": 4}
    assert recorded([1, [2], 3], summarizer=small) == [1, {"$depth": "list"}, {"$cut": 3}]
    assert recorded({"a" * 9: 1}, summarizer=small) == {"aaaa…": 1}


def test_keys_that_are_no_strings_are_written_as_json_writes_them() -> None:
    value = {
        1: "a",
        2.5: "b",
        None: "c",
        False: "d",
        (1, "x", None): "e",
        float("nan"): "f",
        Point: "g",
    }
    assert list(recorded(value)) == [
        "1",
        "2.5",
        "null",
        "false",
        '[1,"x",null]',
        "NaN",
        "tests.values.test_containers.Point",
    ]
    assert recorded({object(): 1}) == {"<object>": 1}
    assert recorded({b"raw": 1}) == {"<bytes>": 1}


def test_keys_with_the_same_text_lose_no_value() -> None:
    assert recorded({1: "a", "1": "b", "1#2": "c"}) == {"1": "a", "1#2": "b", "1#2#2": "c"}
    assert recorded({object(): 1, object(): 2}) == {"<object>": 1, "<object>#2": 2}


def test_a_users_keys_that_look_like_markers_stay_data() -> None:
    for value in ({"$float": "NaN"}, {"$cut": 3}, {"$$x": {"$y": 1}}, {"$": 1}):
        assert restore(recorded(value)) == value
        assert recorded(value) != value


def test_restore_leaves_other_markers_and_does_not_change_its_argument() -> None:
    form = {"a": [{"$float": "NaN"}, {"$type": "x"}, {"$int": "no number"}, {"$float": "other"}]}
    assert restore(form["a"][1]) == {"$type": "x"}  # type: ignore[arg-type]
    restored: Any = restore(form)  # type: ignore[arg-type]
    assert restored["a"][1:] == form["a"][1:]
    assert form["a"][0] == {"$float": "NaN"}


def test_restore_follows_any_depth() -> None:
    deep: Any = {"$int": "0x10"}
    for _ in range(100_000):
        deep = [deep]
    restored: Any = restore(deep)
    while isinstance(restored, list):
        (restored,) = restored
    assert restored == 16


def test_a_dict_that_other_threads_change_is_recorded_or_marked_as_unreadable() -> None:
    changing: dict[str, int] = {str(i): i for i in range(50)}
    stop = threading.Event()

    def churn() -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            changing[f"new{i % 40}"] = i
            changing.pop(f"new{(i + 20) % 40}", None)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            form = msgspec.json.decode(SUMMARIZER.encode_mapping({"inner": changing}))["inner"]
            assert form.get("7") == 7 or "read_error" in form
            assert isinstance(msgspec.json.decode(SUMMARIZER.encode_mapping(changing)), dict)
    finally:
        stop.set()
        thread.join()
