"""Tables of answers as DataFrames, with the types that their users expect.

Flows in: lines. Flows out: a DataFrame whose numbers are numbers and in which what is missing is NA. pyarrow
and ``to_csv`` take it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowprov.read.answers.tables import Line, columns_besides
from flowprov.read.frames import import_pandas, time_column
from flowprov.read.value_paths import as_float

if TYPE_CHECKING:
    import pandas as pd

_TIMES = ("started_at", "ended_at", "at")
_TEXTS = (
    "run_id",
    "name",
    "campaign_id",
    "campaign",
    "workflow_id",
    "task_id",
    "status",
    "hostname",
    "git_commit",
    "user",
    "error",
    "moment",
    "script",
    "working_folder",
    "packages_sha256",
    "patch_sha256",
)
_OBJECTS = ("arguments", "code", "data", "stage", "locks", "packages", "functions")
_COUNTS = ("attempts", "step", "epoch", "runs", "tasks", "errors", "size", "took_ns")
_DTYPES = {
    **dict.fromkeys(_TEXTS, "string"),
    **dict.fromkeys(_OBJECTS, "object"),
    **dict.fromkeys(_COUNTS, "Int64"),
    "git_dirty": "boolean",
}
_FLOATS = ("duration", "value")
_MAX_INT = 2**63 - 1


def answer_frame(lines: Sequence[Line], columns: Sequence[str]) -> pd.DataFrame:
    """Return lines as a DataFrame.

    Parameters
    ----------
    lines
        The lines. What they have beside the columns comes behind these, sorted by name, as far as
        :func:`columns_besides` says.
    columns
        The columns that are always there.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    import pandas as pd

    more = sorted(columns_besides(columns, lines))
    cells = {name: [line.get(name) for line in lines] for name in (*columns, *more)}
    series = {name: _series(name, column) for name, column in cells.items()}
    frame: pd.DataFrame = pd.DataFrame(series, columns=list(cells))
    return frame


def plain_frame(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Return rows as a DataFrame; a column has the type of its cells, if all of them have one.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    import_pandas()
    import pandas as pd

    cells = [[row[index] for row in rows] for index in range(len(columns))]
    frame: pd.DataFrame = (
        pd.concat([typed_series(column) for column in cells], axis=1) if cells else pd.DataFrame()
    )
    frame.columns = pd.Index(columns)
    return frame


def _series(name: str, cells: list[Any]) -> Any:
    import pandas as pd

    if name in _TIMES:
        return time_column(cells)
    if (dtype := _DTYPES.get(name)) is not None:
        return pd.Series(cells, dtype=dtype)
    if name in _FLOATS or name.startswith("metrics."):
        return pd.Series([None if cell is None else float(cell) for cell in cells], dtype="float64")
    return typed_series(cells)


def typed_series(cells: list[Any]) -> Any:
    """Return cells as truth values, integers, floats or texts if all of them are that, else as texts."""
    import pandas as pd

    known = [cell for cell in cells if cell is not None]
    kinds = set(map(type, known))
    if kinds == {bool}:
        return pd.Series(cells, dtype="boolean")
    if kinds == {int} and all(-_MAX_INT <= cell <= _MAX_INT for cell in known):
        return pd.Series(cells, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series([None if cell is None else as_float(cell) for cell in cells], dtype="float64")
    if kinds == {str}:
        return pd.Series(cells, dtype="string")
    if kinds and not any(isinstance(cell, list) for cell in known):  # of several kinds: a file takes one
        return pd.Series([None if cell is None else str(cell) for cell in cells], dtype="string")
    return pd.Series(cells, dtype=object)
