"""Values inside of values, by their paths: ``model.layers``.

Flows in: a mapping, as it was recorded. Flows out: its values, each with the names that lead to it, joined by
dots. A mapping that describes an object (``{"$type": …}``) or a tensor is one value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_BITS_OF_FLOAT = 1_024  # integers of fewer bits are below its largest number
_MAX_DEPTH = 32  # of values in one another; flowprov records fewer


def value_paths(values: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the path of each value, behind a prefix, and the value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and depth < _MAX_DEPTH and not describes_object(value):
            yield from value_paths(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def is_scalar(value: object) -> bool:
    """Whether a value is a text, a number, a truth value or None."""
    return value is None or isinstance(value, (str, int, float))


def is_number(value: object) -> bool:
    """Whether a value is a number; a truth value is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_float(number: float) -> float:
    """Return a number as a float; an integer that is too large for one becomes infinite."""
    try:
        return float(number)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf") if number > 0 else float("-inf")


def as_metric(number: float) -> float:
    """Return a number as metrics hold it: an integer stays one, if a float can hold its size."""
    return as_float(number) if isinstance(number, int) and number.bit_length() >= _BITS_OF_FLOAT else number


def describes_object(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping stands for a tensor, or for something else that JSON does not know."""
    return ("type" in value and "shape" in value) or any(str(key).startswith("$") for key in value)
