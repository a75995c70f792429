"""Values inside JSON in SQL, as numbers where all of them are numbers.

Flows in: a statement for duckdb, and the tables on which it will run. Flows out: the same statement, in which
``generated->>'$.loss'`` is a number, as it is in SQLite.

``->>`` gives a text in duckdb. The largest of texts is not the largest number, and nobody would see that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_VALUE = re.compile(
    r"(?P<column>(?:\b\w+\.)?\b(?P<name>used|generated|custom_metadata))\s*->>\s*'(?P<path>[^']+)'",
    re.IGNORECASE,
)
_WHOLE = frozenset({"BIGINT", "UBIGINT", "HUGEINT"})
_NUMBERS = _WHOLE | {"DOUBLE"}
_NOTHING = frozenset({None, "NULL"})


def with_numbers(statement: str, types_of: Callable[[str, str], Iterable[str | None]]) -> str:
    """Return a statement in which values that are all numbers, or all truth values, are that.

    Parameters
    ----------
    statement
        The statement.
    types_of
        Returns the types of all values under a path in a column, as ``json_type`` of duckdb names them.
    """
    known: dict[tuple[str, str], str | None] = {}

    def typed(match: re.Match[str]) -> str:
        place = match["name"].lower(), match["path"]
        if place not in known:
            known[place] = _common_type(types_of(*place))
        text, kind = f"({match['column']} ->> '{match['path']}')", known[place]
        if kind == "boolean":
            return f"try_cast(try_cast({text} as boolean) as integer)"  # 1 and 0, as in SQLite
        return text if kind is None else f"try_cast({text} as {kind})"

    return _VALUE.sub(typed, statement)


def _common_type(types: Iterable[str | None]) -> str | None:
    """Return the type of duckdb that holds values of some types of JSON; None for a text."""
    found = set(types) - _NOTHING
    if not found:
        return None
    if found == {"BOOLEAN"}:
        return "boolean"
    if found <= _WHOLE:
        return "hugeint"
    return "double" if found <= _NUMBERS else None
