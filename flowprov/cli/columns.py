"""The columns of a table of runs as a person names them: whole, or without ``metrics.`` or ``params.``.

Flows in: names, and the columns that there are. Flows out: columns, or a message that lists those that are
near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from difflib import get_close_matches

from flowprov.read.answers.sql import TIMES

_PREFIXES = ("metrics.", "params.")  # in the order in which a name that is not whole is looked for
_MAX_NEAR = 3
_MAX_LISTED = 12
_MAX_LENGTH = 200  # of what is compared: comparing takes the square of it
# Of a short name in SQL: these mean something else there.
_TAKEN = frozenset(("rowid", "oid", "_rowid_", *TIMES))


def find_column(name: str, columns: Container[str]) -> str | None:
    """Return the column that a name means; None if there is none."""
    candidates = (name, *(f"{prefix}{name}" for prefix in _PREFIXES))
    return next((whole for whole in candidates if whole in columns), None)


def head_of(column: str, columns: Container[str]) -> str:
    """Return the head of a column: without its prefix, if that is a name by which one can ask for it."""
    short = _short(column)
    return short if find_column(short, columns) == column else column


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the columns by their names without a prefix, those that mean only one: capitals do not count."""
    taken = {*map(str.lower, columns), *_TAKEN}
    counts = Counter(_short(column).lower() for column in columns)
    return {
        short: column
        for column in columns
        if (short := _short(column)) != column and short.lower() not in taken and counts[short.lower()] == 1
    }


def describe_unknown_column(name: str, columns: Sequence[str]) -> str:
    """Return the message for a column that is not there: first those with a similar name, then metrics."""
    known = [one for one in dict.fromkeys([*map(_short, columns), *columns]) if len(one) <= _MAX_LENGTH]
    matches = get_close_matches(name, known, _MAX_NEAR) if len(name) <= _MAX_LENGTH else []
    near = [column for match in matches for column in columns if match in (column, _short(column))]
    listed = list(dict.fromkeys([*near, *_by_interest(columns)]))
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return f"there is no column {name}; there is {', '.join(listed[:_MAX_LISTED])}{more}"


def _by_interest(columns: Sequence[str]) -> Iterator[str]:
    """Yield the metrics, the parameters, and the other columns; the ends of a metric come last."""
    known = set(columns)
    ends = dict.fromkeys(name for name in columns if _of_metric(name) in known)
    for prefix in _PREFIXES:
        yield from (name for name in columns if name.startswith(prefix) and name not in ends)
    yield from (name for name in columns if not name.startswith(_PREFIXES))
    yield from ends


def _of_metric(column: str) -> str | None:
    """Return the metric of which a column holds the smallest or largest value; None if it does not."""
    metric, _, end = column.rpartition(".")
    return metric if column.startswith("metrics.") and end in ("min", "max") else None


def _short(column: str) -> str:
    prefix = next((one for one in _PREFIXES if column.startswith(one)), "")
    return column[len(prefix) :]
