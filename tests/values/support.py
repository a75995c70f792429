"""Helpers that the tests of values share."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from flowprov.values import Limits, Summarizer

SUMMARIZER = Summarizer()
ASKING = Summarizer(Limits(object_reprs=True))  # asks objects of unknown classes what they hold


def recorded(value: object, *, key: str | None = None, summarizer: Summarizer = SUMMARIZER) -> Any:
    """Return a recorded value as a reader gets it, after checking what must hold for every value."""
    encoded = summarizer.encode(value, key=key)
    assert type(encoded) is bytes
    assert b"\n" not in encoded
    decoded = json.loads(encoded.decode("utf-8", "strict"), parse_constant=_refuse)
    assert msgspec.json.decode(encoded) == decoded
    assert msgspec.to_builtins(summarizer.summarize(value, key=key)) == decoded
    mapping = msgspec.json.decode(summarizer.encode_mapping({"x": value}))
    if key is None:
        assert mapping == {"x": decoded}
    return decoded


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def same(left: object, right: object) -> bool:
    """Whether two JSON values are equal, types included; NaN equals NaN, and 0.0 differs from -0.0."""
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
    """Return the names of a blank-separated list."""
    return text.split()
