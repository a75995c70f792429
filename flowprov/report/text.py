"""Numbers, times and names as a report shows them.

Flows in: recorded values. Flows out: short texts. What was recorded may be of any length and say anything: it
is cut, and what breaks a line or turns the direction of writing is escaped. HTML is escaped by the templates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from flowprov.display import cut_apart, printable
from flowprov.read.value_paths import as_float

UNKNOWN = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_NS = 2**63 - 1
_JOULES_PER_KWH = 3_600_000


def shown(value: Any, most: int = 80) -> str:
    """Return a recorded value as text of one line, of a long one the beginning."""
    text = value if isinstance(value, str) else _plain(value)
    return printable(text) if len(text) <= most else f"{printable(text[: most - 1])}…"


def shown_apart(a: Any, b: Any, most: int = 80) -> tuple[str, str]:
    """Return two recorded values that differ as texts in which that is seen."""
    one, other = (value if isinstance(value, str) else _plain(value) for value in (a, b))
    if one == other:  # rounded, or a text and a number
        one, other = (UNKNOWN if value is None else repr(value) for value in (a, b))
    first, second = cut_apart(one, other, most)
    return printable(first), printable(second)


def _plain(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, (bool, int, float)):
        return format_number(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)


def format_number(value: float | None) -> str:
    """Return a number with four digits; integers whole, as far as they are short."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _signed(f"{value:,}") if abs(value) < 10**12 else _signed(f"{as_float(value):.3e}")
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else _signed(f"{'-' if value < 0 else ''}∞")
    if value and not 1e-4 <= abs(value) < 1e7:
        return _signed(f"{value:.3g}" if abs(value) < 1e-4 else f"{value:.3e}")
    return _signed(f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}")


def _signed(text: str) -> str:
    return text.replace("-", _MINUS)


def format_duration(seconds: float | None) -> str:
    """Return a duration with its two largest units."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if seconds < 59.95:
        factor, unit = next((f, u) for f, u in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")) if seconds * f < 1000)
        return f"{seconds * factor:.3g} {unit}"
    whole = round(seconds)
    days, hours = divmod(whole // 3600, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s"


def format_energy(joules: float | None) -> str:
    """Return an energy: joules, from a tenth of a kilowatt-hour on kilowatt-hours."""
    if joules is None:
        return UNKNOWN
    if joules >= _JOULES_PER_KWH / 10:
        return f"{joules / _JOULES_PER_KWH:.3g} kWh"
    return f"{joules / 1000:.3g} kJ" if joules >= 1000 else f"{joules:.3g} J"


def format_time(nanoseconds: int | None) -> str:
    """Return a time in UTC, to the second."""
    if nanoseconds is None or not 0 <= nanoseconds <= _MAX_NS:
        return UNKNOWN
    at = _EPOCH + timedelta(seconds=nanoseconds // 10**9)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def listed(texts: Iterable[str], most: int = 4) -> str:
    """Return texts in a row, of many the first ones."""
    found = list(texts)
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def short_id(identifier: str) -> str:
    """Return the end of an id, in which those of a campaign differ."""
    head, dash, number = identifier.rpartition("-")
    return f"{head[-4:]}{dash}{number}" if len(number) <= 8 and head else identifier[-8:]
