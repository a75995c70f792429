"""A DataFrame that every writer of Arrow, Parquet and Feather can write, whatever its cells hold.

Flows in: a table of rows or samples. Flows out: the same DataFrame to the program; to pyarrow, columns of one
type each. Recorded values have no common type: one call used a number, another one a text; one model has
a dropout and another has none. So a column that holds objects is written as JSON.

A frame of this type is a ``pandas.DataFrame`` in every other respect, and is pickled as one;
``pandas.DataFrame(frame)`` is a plain one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from flowprov.display import printable_lines
from flowprov.values import to_json_text

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

JSON_COLUMNS = frozenset(
    (
        "used",
        "generated",
        "custom_metadata",
        "error",
        "tags",
        "dependencies",
        "telemetry_at_start",
        "telemetry_at_end",
        "machine_info",
        "settings",
        "code_repository",
        "orchestrator",
    )
)
"""The columns of rows that are always written as JSON, so that all files have the same columns."""


class RowFrame(pd.DataFrame):
    """A DataFrame whose columns pyarrow can convert."""

    @property
    def _constructor(self) -> Any:
        return RowFrame

    @property
    def _constructor_sliced(self) -> Any:
        return RowColumn

    def __repr__(self) -> str:
        return printable_lines(super().__repr__())  # pandas escapes tabs and line breaks alone

    def __reduce__(self) -> Any:
        return pd.DataFrame, (pd.DataFrame(self),)  # whoever reads the pickle need not have flowprov


class RowColumn(pd.Series):
    """A column of a :class:`RowFrame`."""

    @property
    def _constructor(self) -> Any:
        return RowColumn

    @property
    def _constructor_expanddim(self) -> Any:
        return RowFrame

    def __repr__(self) -> str:
        return printable_lines(super().__repr__())

    def __reduce__(self) -> Any:
        return pd.Series, (pd.Series(self),)

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array | pa.ChunkedArray:  # noqa: A002
        """Return the column for pyarrow, which calls this method; objects as JSON.

        Only pyarrow calls it, so it is installed. See "Controlling conversion to pyarrow.Array with the
        ``__arrow_array__`` protocol" in its documentation.
        """
        import pyarrow as pa

        column = pd.Series(self)
        if self.dtype != object:
            return pa.array(column, type=type, from_pandas=True)
        if type is None and self.name in JSON_COLUMNS:
            return pa.array(map(_to_json, column), pa.string())
        try:
            array = pa.array(column, type=type, from_pandas=True)
        except (pa.ArrowException, OverflowError):
            if type is not None:
                raise
        else:
            if type is not None or not pa.types.is_nested(array.type):
                return array
        return pa.array(map(_to_json, column), pa.string())


def _to_json(value: Any) -> str | None:
    """Return a cell as JSON; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN: it is missing
        return None
    return to_json_text(value)
