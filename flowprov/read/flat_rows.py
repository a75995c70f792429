"""Rows with a column for each value, in place of columns that hold dictionaries.

Flows in: a table of rows. Flows out: the same table, in which ``used``, ``generated`` and ``custom_metadata``
are columns like ``used.lr``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flowprov.read.answers.answer_frames import typed_series
from flowprov.read.overlay import MERGED_FIELDS
from flowprov.values import to_json_text

if TYPE_CHECKING:
    import pandas as pd

_MAX_DEPTH = 32


def flat_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a DataFrame of rows with a column for each value, numbers as numbers."""
    columns: dict[str, list[Any]] = {}
    for field in MERGED_FIELDS:
        for position, cell in enumerate(frame[field]):
            for path, value in _values(cell, field):
                columns.setdefault(path, [None] * len(frame))[position] = value
    flat = frame.drop(columns=list(MERGED_FIELDS))
    added = {path: typed_series(cells) for path, cells in columns.items() if path not in flat.columns}
    whole: pd.DataFrame = flat.assign(**added)
    return whole


def flat_dicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return dictionaries with an entry for each value; a row has those that it has values for."""
    return [
        {
            **{name: value for name, value in row.items() if name not in MERGED_FIELDS},
            **{path: value for field in MERGED_FIELDS for path, value in _values(row[field], field)},
        }
        for row in rows
    ]


def _values(cell: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(cell, Mapping):
        return
    for name, value in cell.items():
        described = isinstance(value, Mapping) and any(str(key).startswith("$") for key in value)
        if isinstance(value, Mapping) and value and not described and depth < _MAX_DEPTH:
            yield from _values(value, f"{path}.{name}", depth + 1)
        elif value is None or isinstance(value, (str, int, float)):
            yield f"{path}.{name}", value
        else:
            yield f"{path}.{name}", to_json_text(value)
