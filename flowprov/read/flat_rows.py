"""Rows with a column for each value, in place of columns that hold dictionaries.

Flows in: a table of rows. Flows out: the same table, in which ``used``, ``generated`` and ``custom_metadata``
are columns like ``used.lr``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flowprov.read.answers.answer_frames import typed_series
from flowprov.read.overlay import MERGED_FIELDS
from flowprov.read.value_paths import is_scalar, value_paths
from flowprov.values import to_json_text

if TYPE_CHECKING:
    import pandas as pd


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


def _values(cell: Any, field: str) -> Iterator[tuple[str, Any]]:
    for path, value in value_paths(cell, f"{field}.") if isinstance(cell, Mapping) else ():
        yield path, value if is_scalar(value) else to_json_text(value)
