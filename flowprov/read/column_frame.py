"""The rows of a campaign as a DataFrame, column by column from the lines of its journals.

Flows in: the journals of a campaign. Flows out: the DataFrame that follows from its rows. Tasks that stand by
themselves become cells without a record in between; all others are folded into rows first.

numpy comes with pandas, so this module is imported where a DataFrame is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flowprov.journal.summary import JournalSummary
from flowprov.read.frames import COLUMNS, TIME_COLUMNS, cells_of, column_of, error_as_dict
from flowprov.read.row_frame import RowFrame
from flowprov.read.rows import Row, fold_in_order
from flowprov.read.shared_values import SharedIds, SharedObjects, SharedTexts
from flowprov.read.task_lines import NotPlainError, TaskLine, TaskLines
from flowprov.records import NOT_A_RECORD, Header, Record, Task, Workflow

_NOT_A_TIME = -(2**63)  # how pandas stores NaT
_NO_TIME = sys.maxsize  # rows without any time come last
_IDS = ("task_id", "parent_task_id", "group_id")
_TEXTS = ("workflow_id", "campaign_id", "activity_id", "subtype", "status", "hostname", "thread")
_NUMBERS = ("pid", "rank")
_FROM_HEADER = ("campaign_id", "hostname", "thread", *_NUMBERS)
_OBJECTS = ("used", "generated", "custom_metadata")
_NOT_IN_LINES = ("attempt", "telemetry_at_start", "telemetry_at_end", "dependencies")
_CELL_OF_LINE = {
    name: attrgetter(name)
    for name in COLUMNS
    if name in TaskLine.__struct_fields__ and name not in _NOT_IN_LINES
}
_BEHIND = 1 << 44  # more than a journal has bytes
_MAX_JOURNALS = 1 << 18


class _Block(NamedTuple):
    """Some rows, as columns.

    Attributes
    ----------
    length
        How many rows there are.
    places
        Where each of them stands among all records of the campaign.
    columns
        Each column: an array, or the value that all its cells have.
    """

    length: int
    places: Any
    columns: dict[str, Any]


def column_frame(
    journals: Sequence[JournalSummary], *, workflow_id: str | None = None, merge: bool = False
) -> pd.DataFrame:
    """Return the rows of a campaign as :func:`flowprov.read.frames.to_frame` does.

    Equal values of different rows may be one object.

    Parameters
    ----------
    journals
        The journals of the campaign.
    workflow_id
        Only this workflow and its tasks.
    merge
        Whether to merge the messages of a task into one row.

    Raises
    ------
    NotPlainError
        If the rows of the campaign follow only from all its records together.
    """
    if len(journals) > _MAX_JOURNALS:
        raise NotPlainError
    reading = _Reading(workflow_id)
    numbered = enumerate(journals)
    folded = fold_in_order(
        ((journal, reading.rest_of(journal, number * _BEHIND)) for number, journal in numbered), merge=merge
    )
    if any(index.last > 1 for index in folded.attempts.values()):
        raise NotPlainError
    places = [*reading.places, *range(len(journals) * _BEHIND, len(journals) * _BEHIND + len(folded.rows))]
    chosen = {
        places[first]: row
        for row, first in zip(folded.rows, folded.firsts, strict=True)
        if workflow_id in (None, row.workflow_id)
    }
    return _frame([*reading.blocks, _block_of_rows(list(chosen.values()), list(chosen))])


class _Reading:
    """Reads the journals of a campaign, one after the other.

    Attributes
    ----------
    blocks
        The tasks that stand by themselves.
    places
        The places of all other messages of tasks, and of the first one of each workflow.
    """

    def __init__(self, workflow_id: str | None) -> None:
        self.blocks: list[_Block] = []
        self.places: list[int] = []
        self._workflow_id = workflow_id
        self._workflows: set[str] = set()
        self._texts = SharedTexts()
        self._values = SharedObjects()

    def rest_of(self, journal: JournalSummary, base: int) -> Iterator[Record]:
        """Read a journal, and yield its records but those of tasks that stand by themselves.

        Parameters
        ----------
        journal
            The journal.
        base
            The place at which it begins.
        """
        lines, ids = TaskLines(journal), SharedIds(journal.header)
        blocks, numbers = [], []
        for block in lines.blocks():
            wanted = (self._workflow_id in (None, task.workflow_id) for task in block.tasks)
            if chosen := list(compress(zip(*block, strict=True), wanted)):
                tasks, positions = zip(*chosen, strict=True)
                places = np.fromiter(positions, np.int64, len(positions)) + base
                try:
                    blocks.append(self._block_of(tasks, places, journal.header, ids))
                except NOT_A_RECORD as error:  # a value is no object: then its line is no record
                    raise NotPlainError from error
                numbers.append(np.fromiter((task.task_id for task in tasks), np.int64, len(tasks)))
        self.blocks += _without(lines.special, blocks, numbers)
        for position, record in lines.rest():
            if type(record) is Task:
                self.places.append(base + position)
            elif isinstance(record, Workflow) and record.workflow_id not in self._workflows:
                self._workflows.add(record.workflow_id)
                self.places.append(base + position)
            yield record

    def _block_of(self, tasks: Sequence[TaskLine], places: Any, header: Header, ids: SharedIds) -> _Block:
        """Return tasks as columns, with what only the header of their journal holds."""
        columns: dict[str, Any] = dict.fromkeys(COLUMNS)
        length = len(tasks)
        for name, get_cell in _CELL_OF_LINE.items():
            cells: list[Any] = list(map(get_cell, tasks))
            default = getattr(header, name) if name in _FROM_HEADER else None
            if name in _OBJECTS:
                columns[name] = _objects(map(self._values.__getitem__, map(bytes, cells)), length)
            elif cells.count(None) == length:
                columns[name] = default
            elif name in TIME_COLUMNS:
                columns[name] = _times(cells)
            elif name in _IDS:
                columns[name] = _objects(map(ids.__getitem__, cells), length)
            elif name in _NUMBERS:
                columns[name] = _objects((default if cell is None else cell for cell in cells), length)
            elif name in _TEXTS:
                known = (cell or default for cell in cells) if name in _FROM_HEADER else cells
                columns[name] = _objects(map(self._texts.__getitem__, known), length)
            else:
                columns[name] = _objects(map(error_as_dict, cells) if name == "error" else cells, length)
        return _Block(length, places, {**columns, "type": "task", "attempt": 1})


def _block_of_rows(rows: Sequence[Row], places: Sequence[int]) -> _Block:
    runs = [(kind, list(run)) for kind, run in groupby(rows, type)]
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        cells = cells_of(runs, name)
        columns[name] = _times(cells) if name in TIME_COLUMNS else _objects(cells, len(cells))
    return _Block(len(rows), np.array(places, np.int64), columns)


def _without(special: set[int], blocks: Sequence[_Block], numbers: Sequence[Any]) -> Iterator[_Block]:
    """Yield blocks without the tasks of some numbers."""
    left_out = np.fromiter(special, np.int64, len(special))
    for block, of_block in zip(blocks, numbers, strict=True):
        kept = ~np.isin(of_block, left_out) if special else np.ones(len(of_block), bool)
        if kept.all():
            yield block
        else:
            columns = {
                name: cells[kept] if isinstance(cells, np.ndarray) else cells
                for name, cells in block.columns.items()
            }
            yield _Block(int(kept.sum()), block.places[kept], columns)


def _objects(cells: Iterable[Any], length: int) -> Any:
    return np.fromiter(cells, dtype=object, count=length)


def _times(cells: Sequence[int | None]) -> Any:
    """Return times as an array, with that of NaT where there is none."""
    if _NOT_A_TIME in cells:
        raise NotPlainError
    return np.fromiter((_NOT_A_TIME if at is None else at for at in cells), np.int64, len(cells))


# From blocks to one table.


def _frame(blocks: list[_Block]) -> pd.DataFrame:
    """Return a DataFrame of the rows of some blocks, sorted by their start; the blocks are emptied."""
    times = {name: _joined(blocks, name, np.int64, _NOT_A_TIME) for name in TIME_COLUMNS}
    sort_by = np.full(len(times["started_at"]), _NO_TIME, np.int64)
    for name in ("ended_at", "submitted_at", "started_at"):
        known = times[name] != _NOT_A_TIME
        sort_by[known] = times[name][known]
    places = np.concatenate([block.places for block in blocks])
    order = np.lexsort((places, sort_by))
    target = np.empty_like(order)  # where each row comes to stand
    target[order] = np.arange(len(order))
    series: dict[str, Any] = dict.fromkeys(COLUMNS)
    for name in TIME_COLUMNS:
        column = times[name][order]
        column[column < 0] = _NOT_A_TIME  # no clock can give it
        series[name] = pd.Series(column).astype("datetime64[ns]").dt.tz_localize("UTC")
    series["duration"] = (series["ended_at"] - series["started_at"]).dt.total_seconds()
    for name in COLUMNS:
        if series[name] is None:
            series[name] = column_of(name, _joined(blocks, name, object, None, target))
    frame: pd.DataFrame = RowFrame(series, columns=list(COLUMNS), copy=False)
    return frame


def _joined(blocks: Sequence[_Block], name: str, kind: Any, missing: Any, target: Any = None) -> Any:
    """Return a column of all blocks as one array, and remove it from them."""
    joined = np.empty(sum(block.length for block in blocks), kind)
    first = 0
    for block in blocks:
        cells = block.columns.pop(name)
        rows = slice(first, first + block.length)
        joined[rows if target is None else target[rows]] = missing if cells is None else cells
        first += block.length
    return joined
