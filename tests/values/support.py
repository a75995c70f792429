"""What the tests of values share."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from flowprov.values import Summarizer

SUMMARISER = Summarizer()


def recorded(value: object, *, key: str | None = None, summariser: Summarizer = SUMMARISER) -> Any:
    """Give back what a reader finds of a value, after checking all that holds for every value."""
    encoded = summariser.encode(value, key=key)
    assert type(encoded) is bytes
    assert b"\n" not in encoded
    strict = json.loads(encoded.decode("utf-8", "strict"), parse_constant=_refuse)
    assert msgspec.json.decode(encoded) == strict
    assert msgspec.to_builtins(summariser.summarize(value, key=key)) == strict
    inside = msgspec.json.decode(summariser.encode_mapping({"x": value}))
    if key is None:
        assert inside == {"x": strict}
    return strict


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def same(left: object, right: object) -> bool:
    """Compare values of JSON's kinds by type too; NaN is equal to NaN, and 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right


def words(text: str) -> list[str]:
    """Split a list of names that is long enough to be written as text."""
    return text.split()
