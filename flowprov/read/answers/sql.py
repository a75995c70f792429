"""SQL over the tables of answers, in the SQLite of the standard library.

Flows in: tables as dictionaries, and a statement. Flows out: its columns and rows. The tables are in memory,
and SQLite is told to refuse all but reading: no statement writes a file, attaches a database or loads an
extension.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from flowprov.read.answers.statements import reason_of, run_interruptibly, statement_error
from flowprov.read.answers.tables import Line

TIMES = ("submitted_at", "started_at", "ended_at", "at")
_MAX_INT = 2**63 - 1
_MAX_COLUMNS = 1_900  # SQLite takes 2,000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ALLOWED = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
# A text, a name in quotes, or a name with dots, which SQL would take for a column of a table.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_]\w*(?:[./]\w+)+""")


class Tables:
    """Tables in memory, on which statements run."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._names: list[str] = []

    def add(self, name: str, columns: Sequence[str], lines: Iterable[Line]) -> None:
        """Create a table and fill it; what a line has beside the columns is left out."""
        shown = columns[:_MAX_COLUMNS]
        names = ", ".join(map(quoted_name, distinct_names(shown)))
        self._connection.execute(f"create table {quoted_name(name)} ({names})")
        places = ", ".join("?" * len(shown))
        self._connection.executemany(
            f"insert into {quoted_name(name)} values ({places})",  # noqa: S608 - the name is quoted
            ([cell(column, line.get(column)) for column in shown] for line in lines),
        )
        self._names.append(name)

    def select(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run a statement that reads.

        Returns
        -------
        list of str, list of tuple
            The names of the columns, and the rows.

        Raises
        ------
        UsageError
            If the statement is wrong, or would do anything but read.
        """
        self._connection.set_authorizer(_authorize)
        try:
            return run_interruptibly(lambda: self._fetch(statement), self._connection.interrupt)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            reason = "it may only read" if "not authorized" in str(error) else reason_of(error)
            raise statement_error(reason, self._names) from error

    def _fetch(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = self._connection.execute(statement)
        rows = cursor.fetchall()
        return [column[0] for column in cursor.description or ()], rows


def quote_dotted(expression: str) -> str:
    """Return a condition in which names with dots are quoted, as SQL wants them."""
    return _TOKEN.sub(lambda match: match[0] if match[0][0] in "'\"" else quoted_name(match[0]), expression)


def dotted_names(expression: str) -> list[str]:
    """Return the names that :func:`quote_dotted` puts into quotes."""
    return [match[0] for match in _TOKEN.finditer(expression) if match[0][0] not in "'\""]


def _authorize(action: int, _: str | None, detail: str | None, *__: object) -> int:
    function = detail if action == sqlite3.SQLITE_FUNCTION else None
    allowed = action in _ALLOWED and (function or "").lower() != "load_extension"
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def quoted_name(name: str) -> str:
    """Return a name as SQL writes it, whatever it holds."""
    return '"' + name.replace('"', '""').replace("\0", "\\0") + '"'


def cell(column: str, value: Any) -> Any:
    """Return a value as a table holds it: times and nested values as texts."""
    if value is None or isinstance(value, (float, str)):
        return value if not isinstance(value, str) else value.encode("utf-8", "replace").decode()
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, int):
        if column in TIMES and 0 <= value <= _MAX_INT:
            return time_text(_EPOCH + timedelta(microseconds=value // 1000))
        return int(value) if -_MAX_INT <= value <= _MAX_INT else str(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "replace").decode()


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return names that stay different where capitals do not count, as in SQL."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        new = name
        while new.lower() in seen:
            new += "_"
        seen.add(new.lower())
        distinct.append(new)
    return distinct


def time_text(value: datetime) -> str:
    """Return a time as the functions of SQLite for dates take it, in UTC."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f")
