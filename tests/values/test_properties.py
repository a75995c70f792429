"""Properties that hold for arbitrary values."""

from __future__ import annotations

import collections
import copy
import datetime as dt
import decimal
import fractions
import json
import uuid
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov.values import Summarizer, restore
from flowprov.values.redaction import Redactor
from tests.values.support import SUMMARIZER, recorded, same

UNREDACTED = Summarizer(redactor=Redactor(enabled=False))  # what is concealed cannot be restored

text = st.text(max_size=50) | st.sampled_from(["$", "$float", "$$int", "$cut", "$str", "token", "1"])
integers = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([2**63, -(2**63), 2**64, 10**400])
json_scalars = st.none() | st.booleans() | integers | st.floats() | text
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=25,
)

any_text = st.text(st.characters(codec=None, exclude_categories=())) | st.text("\ud800\udfffa:/@$?=&")
odd_scalars = st.one_of(
    json_scalars, any_text, st.binary(), st.complex_numbers(), st.decimals(), st.fractions(), st.uuids(),
    st.datetimes(), st.dates(), st.times(), st.timedeltas(), st.functions(), st.slices(5),
    st.sampled_from([object(), object, len, Ellipsis, np.zeros(3), np.float32("nan"), Exception("x")]),
)  # fmt: skip
hashable_scalars = st.one_of(
    json_scalars, any_text, st.binary(), st.dates(), st.fractions(), st.tuples(st.integers(), any_text)
)
odd_values = st.recursive(
    odd_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.lists(inner, max_size=6).map(collections.deque),
        st.dictionaries(hashable_scalars, inner, max_size=6),
        st.dictionaries(hashable_scalars, inner, max_size=6).map(collections.ChainMap),
        st.sets(hashable_scalars, max_size=6),
        st.frozensets(hashable_scalars, max_size=6),
    ),
    max_leaves=30,
)


def _depth(value: object) -> int:
    if isinstance(value, (list, dict)):
        children = value.values() if isinstance(value, dict) else value
        return 1 + max(map(_depth, children), default=0)
    return 0


@given(json_values.filter(lambda value: _depth(value) <= 8))
def test_json_values_within_the_limits_are_restored_exactly(value: Any) -> None:
    encoded = UNREDACTED.encode(value)
    assert same(restore(msgspec.json.decode(encoded)), value)
    assert same(restore(json.loads(encoded)), value)
    assert same(restore(UNREDACTED.summarize(value)), value)


@given(st.dictionaries(text, json_values.filter(lambda value: _depth(value) <= 7), max_size=6))
def test_mappings_of_json_values_are_restored_exactly(mapping: Any) -> None:
    assert same(restore(msgspec.json.decode(UNREDACTED.encode_mapping(mapping))), mapping)
    assert UNREDACTED.encode_mapping(mapping) == UNREDACTED.encode_mapping(collections.ChainMap(mapping))


@settings(max_examples=200)
@given(odd_values)
def test_any_value_gives_valid_json_and_the_same_each_time(value: Any) -> None:
    form = recorded(value)
    assert recorded(value) == form
    assert recorded(value, key="password") is not NotImplemented


@given(st.dictionaries(hashable_scalars, odd_values, max_size=6))
def test_any_mapping_gives_an_object_with_every_value(mapping: Any) -> None:
    form = msgspec.json.decode(SUMMARIZER.encode_mapping(mapping))
    assert isinstance(form, dict)
    assert len(form) == len(mapping)


@given(odd_values)
def test_recording_does_not_change_a_value(value: Any) -> None:
    before = _shallow_repr(value)
    recorded(value)
    assert _shallow_repr(value) == before


def _shallow_repr(value: Any) -> str:
    return repr(copy.copy(value))


@given(st.lists(hashable_scalars, max_size=8, unique_by=repr))
def test_sets_are_recorded_in_an_order_that_does_not_depend_on_how_they_were_built(items: Any) -> None:
    assert recorded(set(items)) == recorded(dict.fromkeys(reversed(items), 0).keys() | set()) or len(
        {*items}
    ) != len({*map(repr, items)})


def test_the_strategies_cover_kinds_that_are_written_as_text() -> None:
    values = [decimal.Decimal("NaN"), fractions.Fraction(1, 3), uuid.UUID(int=1), dt.date.max]
    assert recorded(values) == ["NaN", "1/3", str(uuid.UUID(int=1)), "9999-12-31"]
