"""SQL over the tables of answers, in duckdb: it reads Parquet files beside journals where they are.

Flows in: tables as dictionaries, Parquet files, and a statement. Flows out: its columns and rows. What is
asked runs in memory, and duckdb is told to refuse all but one SELECT: no statement writes a file, reads
another one, attaches a database or loads an extension.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from flowprov.read.answers.sql import TIMES, cell, distinct_names, quoted_name, time_text
from flowprov.read.answers.statements import memory_error, reason_of, run_interruptibly, statement_error
from flowprov.read.answers.tables import Line
from flowprov.read.frames import COLUMNS
from flowprov.read.in_place import JournalInPlace, tasks_in_journals
from flowprov.read.json_paths import with_numbers
from flowprov.read.parquet_files import connect, import_duckdb, quoted, raise_if_unreadable

_TELEMETRY = ("telemetry_at_start", "telemetry_at_end")
_TYPES = {
    **dict.fromkeys(TIMES, "timestamp"),
    **dict.fromkeys(("attempt", "pid", "rank"), "bigint"),
    "duration": "double",
}
# What a Parquet file holds of a task, as the table has it.
_IN_FILE = {
    "type": "'task'",
    "attempt": "1",
    "duration": "(ended_at - started_at) / 1e9",
    **{
        name: f"case when {name} >= 0 then make_timestamp({name} // 1000) end"
        for name in ("submitted_at", "started_at", "ended_at")
    },
    **{name: f"{name}::varchar" for name in ("used", "generated", "custom_metadata", "tags", "dependencies")},
    "error": "case when error is not null then json_object('type', error->>'type', 'message', "
    "coalesce(error->>'message', ''), 'traceback', error->>'traceback')::varchar end",
}
_WITH_VALUES = ("tasks", "workflows")
# Functions for dates that people know from SQLite. They take a time, a text, or 'now'.
_MOMENT = (
    "try_cast(case when moment::varchar = 'now' then now()::varchar else moment::varchar end as timestamp)"
)
_MACROS = (
    f"julianday(moment) as julian({_MOMENT})",
    f"unixepoch(moment) as cast(floor(epoch({_MOMENT})) as bigint)",
)
SPILL_ABOVE = "1GB"
_MAX_THREADS = 4  # that share this memory: each reads a journal through buffers of its own
_NOT_OF_TASKS = (
    "parent_workflow_id",
    "name",
    "user",
    "environment_id",
    "machine_info",
    "settings",
    "code_repository",
    "orchestrator",
    *_TELEMETRY,  # where there is any, rows are not read from files
)


class UnreadableJournalsError(Exception):
    """A statement failed on journals that duckdb reads where they are: they, too, may be the reason."""


class DuckTables:
    """Tables in memory, in Parquet files and in journals, on which statements run.

    Parameters
    ----------
    spill
        A folder to which duckdb may write what does not fit into :data:`SPILL_ABOVE`. Without one it takes
        the memory that it needs.
    """

    def __init__(self, spill: str | None = None) -> None:
        duckdb = self._duckdb = import_duckdb()
        self._of_statements = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
        self._connection = _connection()
        if spill is not None:
            self._connection.execute(f"set temp_directory = {quoted(spill)}")
            self._connection.execute(f"set memory_limit = {quoted(SPILL_ABOVE)}")
            self._connection.execute(f"set threads = {min(_MAX_THREADS, os.cpu_count() or 1)}")
        self._names: list[str] = []
        self._files: list[Path] = []
        self._journals: list[Path] = []
        self._locked = False

    def add(self, name: str, columns: Sequence[str], lines: Sequence[Line]) -> None:
        """Create a table and fill it; what a line has beside the columns is left out."""
        selected, cells = _selected(columns, lines)
        self._connection.execute(f"create table {quoted_name(name)} as select {selected}", cells)
        self._names.append(name)

    def append(self, name: str, columns: Sequence[str], lines: Sequence[Line]) -> None:
        """Add lines to a table that has these columns."""
        selected, cells = _selected(columns, lines)
        self._connection.execute(f"insert into {quoted_name(name)} select {selected}", cells)

    def clear(self, name: str) -> None:
        """Remove the lines of a table."""
        self._connection.execute(f"truncate {quoted_name(name)}")

    def add_files(
        self,
        name: str,
        files: Sequence[Path],
        journals: Sequence[JournalInPlace] = (),
        left_out: Sequence[str] = (),
    ) -> None:
        """Add the tasks in Parquet files, but for some, and those in journals, to a table of rows.

        Raises
        ------
        UnreadableFilesError, UnreadableJournalsError
            If one of them cannot be read.
        """
        sources = []
        if files:
            listed = ", ".join(quoted(str(path)) for path in files)
            others = ", ".join(map(quoted, left_out)) or quoted("")
            sources.append(
                f"(select * from read_parquet([{listed}]) where line is null "  # noqa: S608 - quoted
                f"and task_id not in ({others}))"
            )
        if journals:
            sources.append(f"({tasks_in_journals(self._connection, journals)})")
        if not sources:
            return
        columns = ", ".join(
            f"{'null' if column in _NOT_OF_TASKS else _IN_FILE.get(column, column)} as {quoted_name(column)}"
            for column in COLUMNS
        )
        added = "".join(f" union all by name select {columns} from {one}" for one in sources)  # noqa: S608 - quoted
        self._files = list(files)
        self._journals = [one.path for one in journals]
        self._connection.execute(f"alter table {quoted_name(name)} rename to other_{name}")
        try:
            self._connection.execute(
                f"create view {quoted_name(name)} as select * from other_{name}{added}"  # noqa: S608 - quoted
            )
        except self._duckdb.IOException as error:  # files were removed meanwhile
            self._raise_if_unreadable(error)
            raise

    def any_names_column(self, statements: Sequence[str], columns: Sequence[str]) -> bool:
        """Whether one of some statements reads a column, by its plan; also if it cannot be planned.

        Planning opens what a statement names, so it is done where nothing can be opened.

        Raises
        ------
        UsageError
            If a statement would do anything but read.
        """
        asked = [statement for statement in statements if self._require_select(statement)]
        created = self._connection.execute("select sql from duckdb_tables()").fetchall()
        with _connection() as planner:
            planner.execute("set enable_external_access = false")
            planner.execute("set disabled_optimizers = 'statistics_propagation,empty_result_pullup'")
            try:
                for (sql,) in created:
                    planner.execute(sql)
                plans = [
                    row[1]
                    for statement in asked
                    for row in planner.execute(f"explain (format json) {statement}").fetchall()
                ]
            except (self._duckdb.Error, ValueError):
                return True
        return any(column in plan for plan in plans for column in columns)

    def select(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run a statement that reads.

        Returns
        -------
        list of str, list of tuple
            The names of the columns, and the rows.

        Raises
        ------
        UsageError
            If the statement is wrong, would do anything but read, or takes too much memory.
        UnreadableFilesError
            If Parquet files are damaged.
        UnreadableJournalsError
            If it fails, and journals are read where they are.
        """
        if not self._require_select(statement):
            return [], []
        try:
            statement = with_numbers(statement, self._json_types)
            self._lock()
            columns, rows = run_interruptibly(lambda: self._fetch(statement), self._connection.interrupt)
        except self._duckdb.OutOfMemoryException as error:  # rows in Python would take more
            raise memory_error(reason_of(error)) from error
        except (self._duckdb.Error, ValueError) as error:
            self._raise_if_unreadable(error)
            raise statement_error(reason_of(error), self._names) from error
        return columns, [tuple(map(_plain, row)) for row in rows]

    def _raise_if_unreadable(self, error: Exception) -> None:
        """Raise if an error may come from files or journals that duckdb cannot read."""
        raise_if_unreadable(self._connection, self._files, error)
        if self._journals and not isinstance(error, self._of_statements):
            raise UnreadableJournalsError from error

    def _json_types(self, column: str, path: str) -> set[str | None]:
        """Return the types of all values under a path in the rows of tasks and workflows."""
        tables = [quoted_name(name) for name in self._names if name in _WITH_VALUES]
        found = " union ".join(f"select distinct json_type({column}, $1) from {name}" for name in tables)  # noqa: S608 - quoted
        return {kind for (kind,) in self._connection.execute(found, [path]).fetchall()} if tables else set()

    def _fetch(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = self._connection.execute(statement)
        rows = cursor.fetchall()
        return [column[0] for column in cursor.description or ()], rows

    def _require_select(self, statement: str) -> bool:
        """Return whether there is a statement at all; raise if it would do anything but read."""
        try:
            statements = self._duckdb.extract_statements(statement)
        except (self._duckdb.Error, ValueError) as error:
            raise statement_error(reason_of(error), self._names) from error
        if any(one.type != self._duckdb.StatementType.SELECT for one in statements) or len(statements) > 1:
            raise statement_error("it may only read", self._names)
        return bool(statements)

    def _lock(self) -> None:
        if self._locked:
            return
        self._locked = True
        allowed = ", ".join(quoted(str(path)) for path in (*self._files, *self._journals))
        for setting in (
            f"allowed_paths = [{allowed}]",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"set {setting}")


def _connection() -> Any:
    """Return a connection to an empty database in memory, in which statements run."""
    connection = connect(python_enable_replacements="false", autoinstall_known_extensions="false")
    for setting in ("old_implicit_casting = true", "timezone = 'UTC'", "temp_directory = ''"):
        connection.execute(f"set {setting}")
    for macro in _MACROS:
        connection.execute(f"create macro {macro}")
    return connection


def _selected(columns: Sequence[str], lines: Sequence[Line]) -> tuple[str, list[list[Any]]]:
    """Return what a SELECT selects to return lines, and the cells of each column, which it takes."""
    selected = []
    cells: list[list[Any]] = []
    for column, known_as in zip(columns, distinct_names(columns), strict=True):
        kind, values = _typed(column, [cell(column, line.get(column)) for line in lines])
        cells.append(values)
        stored = "varchar" if kind == "timestamp" else kind
        selected.append(f"try_cast(unnest(${len(cells)}::{stored}[]) as {kind}) as {quoted_name(known_as)}")
    return ", ".join(selected), cells


def _typed(column: str, cells: list[Any]) -> tuple[str, list[Any]]:
    """Return the type of a column, and its cells as that."""
    if _TYPES.get(column, "timestamp") != "timestamp":
        return _TYPES[column], cells
    kinds = {type(value) for value in cells} - {type(None)} if column not in _TYPES else set()
    if kinds == {int}:
        return "bigint", cells
    if kinds and kinds <= {int, float}:
        return "double", [None if value is None or value != value else float(value) for value in cells]  # noqa: PLR0124 - NaN is NULL, as in SQLite
    return _TYPES.get(column, "varchar"), [None if value is None else str(value) for value in cells]


def _plain(value: Any) -> Any:
    """Return a value of duckdb as SQLite gives it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, (date, time, timedelta, bytes)):
        return str(value)
    return json.dumps(value, default=str)
