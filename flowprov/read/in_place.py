"""Closed journals whose tasks duckdb reads where they are, without a Parquet file.

Flows in: journals. Flows out: what duckdb must know of each to read its tasks, and the few records from which
all other rows follow. Each journal is read once by flowprov's own reader, which decides: duckdb alone would
read damaged lines as nothing. A journal of which duckdb counts other tasks is left to that reader.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from flowprov.journal.summary import JournalSummary
from flowprov.read.parquet_files import TASK_COLUMNS, connect, import_duckdb, quoted
from flowprov.read.shared_values import SharedObjects
from flowprov.read.task_lines import NotPlainError, TaskLines
from flowprov.records import NOT_A_RECORD, Header, Record
from flowprov.values.markers import escape_surrogates

logger = logging.getLogger("flowprov")

_OBJECTS = tuple(map(attrgetter, ("used", "generated", "custom_metadata")))
_IDS = ("task_id", "parent_task_id", "group_id")
_OF_HEADER = {
    "filename": "varchar",
    "journal_id": "varchar",
    **dict.fromkeys(("campaign_id", "hostname", "thread"), "varchar"),
    **dict.fromkeys(("pid", "rank"), "bigint"),
}


class JournalInPlace(NamedTuple):
    """A journal whose tasks duckdb reads.

    Attributes
    ----------
    path, header
        Of the journal.
    special
        The numbers of the tasks that do not stand by themselves: duckdb leaves them out.
    usual
        How many records of other tasks there are.
    rest
        The records of special tasks, and all others from which rows follow.
    """

    path: Path
    header: Header
    special: set[int]
    usual: int
    rest: list[Record]


def read_in_place(
    journals: Iterable[JournalSummary], *, with_telemetry: bool = True
) -> dict[Path, JournalInPlace]:
    """Return what duckdb must know of the journals that it can read, by their paths.

    Journals are left out that are open or damaged, that continue the numbers of another one, and whose tasks
    depend on others.
    """
    found = {}
    for journal in journals:
        if journal.footer is None or journal.header.first_number or journal.header_lost:
            continue
        if escape_surrogates(path := str(journal.path)) is path:  # duckdb takes no other names
            try:
                read = _read(journal, with_telemetry=with_telemetry)
            except (NotPlainError, *NOT_A_RECORD):
                continue
            if read is not None:
                found[journal.path] = read
    if not found:
        return {}
    counts = _counted_by_duckdb(list(found.values()))
    return {path: one for path, one in found.items() if counts.get(str(path), 0) == one.usual}


def _read(journal: JournalSummary, *, with_telemetry: bool) -> JournalInPlace | None:
    """Read a journal; return None if it is damaged."""
    lines, changes = TaskLines(journal, with_telemetry=with_telemetry), _ChangedByReading()
    numbers = array("q")
    for block in lines.blocks():
        in_block = [int(task.task_id) for task in block.tasks]
        numbers.extend(in_block)
        for get_text in _OBJECTS:
            changed = list(map(changes.__getitem__, map(bytes, map(get_text, block.tasks))))
            lines.special.update(compress(in_block, changed))
    if lines.damaged:
        return None
    usual = len(numbers) - sum(map(lines.special.__contains__, numbers) if lines.special else ())
    rest = [record for _, record in lines.rest()]
    return JournalInPlace(journal.path, journal.header, lines.special, usual, rest)


class _ChangedByReading(SharedObjects):
    """Says whether the object that some JSON holds is another one than its text says: it holds markers."""

    def __missing__(self, text: bytes) -> Any:
        """Decode JSON, and remember what is to be said of it."""
        super().__missing__(text)
        changed = b"$" in text or text == b"null"
        if text in self:
            self[text] = changed
        return changed


def tasks_in_journals(connection: Any, journals: Sequence[JournalInPlace]) -> str:
    """Return a SELECT of the tasks in journals, with the columns that Parquet files have of them.

    Parameters
    ----------
    connection
        To duckdb, in which tables are created for the SELECT.
    journals
        The journals.
    """
    columns: list[list[Any]] = [
        [str(one.path) for one in journals],
        *([getattr(one.header, name) for one in journals] for name in list(_OF_HEADER)[1:]),
    ]
    unnested = ", ".join(
        f"unnest(${number}::{kind}[]) as {name}" for number, (name, kind) in enumerate(_OF_HEADER.items(), 1)
    )
    connection.execute(f"create or replace table journal_headers as select {unnested}", columns)
    special = [(str(one.path), str(number)) for one in journals for number in one.special]
    connection.execute(
        "create or replace table special_tasks as select unnest($1::varchar[]) as filename, "
        "unnest($2::varchar[]) as task_id",
        [[path for path, _ in special], [number for _, number in special]],
    )
    names = ", ".join(quoted(str(one.path)) for one in journals)
    kinds = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in TASK_COLUMNS.items())
    selected = ", ".join(_completed(name) for name in TASK_COLUMNS if name != "type")
    return (
        f"select line.filename, {selected} from read_json([{names}], format = 'newline_delimited', "  # noqa: S608 - quoted
        f"columns = {{{kinds}}}, filename = true) as line "
        "join journal_headers as header on header.filename = line.filename "
        "where line.type = 'task' and not exists (select 1 from special_tasks as special "
        "where special.filename = line.filename and special.task_id = line.task_id::varchar)"
    )


def _completed(name: str) -> str:
    """Return the SQL for a field of a task with what only the header of its journal holds."""
    if name in _IDS:
        return (
            f"case when line.{name} is null or line.{name}::varchar = 'null' then null "
            f"when line.{name}::varchar like '\"%' then line.{name} ->> '$' "
            f"else header.journal_id || '-' || line.{name}::varchar end as {name}"
        )
    if name in ("campaign_id", "hostname", "thread"):
        return f"coalesce(nullif(line.{name}, ''), header.{name}) as {name}"
    return f"coalesce(line.{name}, header.{name}) as {name}" if name in ("pid", "rank") else f"line.{name}"


def _counted_by_duckdb(journals: Sequence[JournalInPlace]) -> dict[str, int]:
    """Return how many tasks duckdb reads in each journal; of none if it cannot read them."""
    duckdb = import_duckdb()
    with connect(memory_limit="1GB", threads="4") as connection:  # it would keep the files in memory
        tasks = tasks_in_journals(connection, journals)
        try:
            rows = connection.execute(
                f"select filename, count(task_id) from ({tasks}) group by all"  # noqa: S608 - ours
            ).fetchall()
        except duckdb.Error as error:
            logger.debug("duckdb cannot read journals in place: %s", error)
            return {}
    return dict(rows)
