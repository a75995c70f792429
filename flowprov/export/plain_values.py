"""Recorded values as every JSON reader takes them.

Flows in: values that were read. Flows out: the same for JSON, in which there is no NaN, no infinity and no
half of a surrogate pair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from flowprov.read.value_paths import is_scalar, value_paths

_MAX_INTEGER = 2**53  # beyond it, readers that know only doubles would read another number
_MAX_PATHS = 200  # of one mapping
_MAX_TEXT = 10_000  # characters


def plain(value: Any) -> Any:
    """Return a value as JSON holds it everywhere."""
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, int):
        return value if -_MAX_INTEGER <= value <= _MAX_INTEGER else str(value)
    return plain_text(str(value))


def plain_text(text: str) -> str:
    """Return a text that UTF-8 holds, of a very long one the beginning."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}... ({len(text)} characters)"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_json(value: Any) -> str:
    """Return a plain value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def flat_values(values: Mapping[str, Any] | None) -> dict[str, bool | int | float | str]:
    """Return values by their paths, ``optimizer.lr``: scalars as they are, others as JSON; none that is None.

    Of very many the first ones are kept, and ``...`` says how many there are besides.
    """
    found: dict[str, bool | int | float | str] = {}
    left_out = 0
    for path, value in value_paths(values or {}):
        if value is None:
            continue
        if len(found) >= _MAX_PATHS:
            left_out += 1
            continue
        shown = plain(value)
        found[plain_text(path)] = shown if is_scalar(shown) else plain_text(to_json(shown))
    if left_out:
        found["..."] = left_out
    return found
