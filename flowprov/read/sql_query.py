"""``query``: SQL over what was recorded.

Flows in: a statement, and sources. Flows out: a DataFrame, or rows. Only the tables that the statement names
are read.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from flowprov.errors import UsageError
from flowprov.read.answers.answer_frames import plain_frame
from flowprov.read.answers.contents import Contents
from flowprov.read.answers.sql import Tables
from flowprov.read.answers.tables import (
    CAMPAIGN_COLUMNS,
    METRIC_COLUMNS,
    RUN_COLUMNS,
    Line,
    columns_besides,
    metric_lines,
    run_lines,
)
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of
from flowprov.read.duck_tables import DuckTables, UnreadableJournalsError
from flowprov.read.frames import COLUMNS, samples_to_frame, to_dicts
from flowprov.read.in_place import JournalInPlace
from flowprov.read.merged_file import with_merged
from flowprov.read.parquet_files import UnreadableFilesError, has_duckdb, report_unusable
from flowprov.read.questions import all_contents, all_runs, campaign_table, contents_of
from flowprov.read.task_rows import read_tasks
from flowprov.read.telemetry_join import process_readings
from flowprov.records import Task, Workflow

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("flowprov")

T = TypeVar("T", Tables, DuckTables)

_MANY = 100_000
_BATCH = 20_000  # rows that are turned into lines at a time
_EMPTY: Line = {}
_Fill: TypeAlias = Callable[[Sequence[Path], bool], DuckTables]
"""Returns tables, without some Parquet files, and with or without journals that duckdb reads in place."""
_Loader: TypeAlias = Callable[[Sources, str | None], tuple[Sequence[str], list[Line]]]


def query(sql: str, source: Sources = None, *, campaign_id: str | None = None) -> pd.DataFrame:
    """Return what a SELECT finds in the records, as a DataFrame.

    Parameters
    ----------
    sql
        One statement that reads, in the SQL of duckdb, or of SQLite where duckdb is not installed. Names
        with dots stand in quotes: ``"params.lr"``.
    source, campaign_id
        As for :func:`flowprov.runs`.

    Returns
    -------
    pandas.DataFrame
        The columns of the statement.

    Raises
    ------
    UsageError
        If the statement is wrong, would do anything but read, or takes more memory than there is.
    JournalError, UnknownIdError, SinkError, MissingExtraError
        As :func:`flowprov.runs` does.

    Notes
    -----
    The tables are ``runs``, ``metrics`` and ``campaigns``, with the columns of the functions of that name;
    ``tasks`` and ``workflows``, with those of :func:`flowprov.read_buffer`; and ``telemetry``, with those of
    :meth:`flowprov.Buffer.telemetry`. ``used``, ``generated`` and ``custom_metadata`` are JSON texts:
    ``generated->>'$.loss'`` is a number, if all values under ``loss`` are numbers. Times are in UTC:
    timestamps in duckdb, texts in SQLite and in the result.

    duckdb (``pip install "flowprov[query]"``) reads Parquet files where ``flowprov compact`` wrote them, and
    closed journals in place.
    """
    columns, rows = query_rows(sql, source, campaign_id=campaign_id)
    return plain_frame(columns, rows)


def query_rows(
    sql: str, source: Sources = None, *, campaign_id: str | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of the columns and the rows that a SELECT finds; see :func:`query`."""
    if not isinstance(sql, str):
        raise UsageError(f"flowprov.query takes SQL as text; it was given {type(sql).__name__}")
    if not _is_unicode(sql):
        raise UsageError(
            "flowprov cannot run this query: it holds bytes that are no UTF-8. Write it as UTF-8."
        )
    if not has_duckdb():
        return _filled(Tables(), sql, source, campaign_id).select(sql)

    def fill(without: Sequence[Path], in_place: bool) -> DuckTables:  # noqa: FBT001
        return _filled(DuckTables(), sql, source, campaign_id, without, in_place=in_place)

    return _answers([sql], fill)[0]


def rows_of_tasks(
    statements: Sequence[str], campaigns: Sequence[CampaignSource]
) -> list[list[tuple[Any, ...]]]:
    """Return the rows that several SELECTs over the table of tasks find; the tasks are read once for all.

    Memory is bounded, however many tasks there are: what duckdb sorts and counts goes to a temporary folder.
    """
    if not has_duckdb():
        tables = Tables()
        tables.add("tasks", COLUMNS, [line for one in contents_of(campaigns) for line in _rows_of(one, Task)])
        return [tables.select(statement)[1] for statement in statements]

    with tempfile.TemporaryDirectory(prefix="flowprov-", ignore_cleanup_errors=True) as folder:

        def fill(without: Sequence[Path], in_place: bool) -> DuckTables:  # noqa: FBT001
            filled = DuckTables(spill=folder)
            _add_tasks(filled, statements, campaigns, without, in_place=in_place)
            return filled

        return [rows for _, rows in _answers(statements, fill)]


def _answers(
    statements: Sequence[str], fill: _Fill, without: Sequence[Path] = (), *, in_place: bool = True
) -> list[tuple[list[str], list[tuple[Any, ...]]]]:
    """Return what duckdb finds, without files and journals in which it can read nothing."""
    try:
        tables = fill(without, in_place)
        return [tables.select(statement) for statement in statements]
    except UnreadableFilesError as error:
        report_unusable(dict.fromkeys(error.paths, "is damaged"))
        return _answers(statements, fill, [*without, *error.paths], in_place=in_place)
    except UnreadableJournalsError:
        return _answers(statements, fill, without, in_place=False)


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8; what a terminal gives may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _filled(
    tables: T,
    sql: str,
    source: Sources,
    campaign_id: str | None,
    without: Container[Path] = (),
    *,
    in_place: bool = False,
) -> T:
    """Fill the tables that a statement names."""
    named = {name for name in _LOADERS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)}
    for name, load in _LOADERS.items():
        if name == "tasks" and isinstance(tables, DuckTables):
            continue
        if name in named:
            columns, lines = load(source, campaign_id)
            if len(lines) > _MANY and isinstance(tables, Tables):
                logger.warning(
                    "flowprov reads %d lines into the table %s, which takes a while: "
                    'pip install "flowprov[query]" makes it faster.',
                    len(lines),
                    name,
                )
            tables.add(name, columns, lines)
        else:
            tables.add(name, _COLUMNS[name], [])
    if isinstance(tables, DuckTables):  # last, as the statement is planned with all other tables
        found = campaigns_of(source, campaign_id) if "tasks" in named else []
        _add_tasks(tables, [sql], found, without, in_place=in_place)
    return tables


def _add_tasks(
    tables: DuckTables,
    statements: Sequence[str],
    campaigns: Sequence[CampaignSource],
    without: Container[Path],
    *,
    in_place: bool,
) -> None:
    """Add the table of tasks: from Parquet files and journals where they are, as far as that is possible."""
    tables.add("tasks", COLUMNS, [_EMPTY])
    names = "telemetry_at_start", "telemetry_at_end"
    with_telemetry = bool(campaigns) and tables.any_names_column(statements, names)
    tables.clear("tasks")
    files: list[Path] = []
    journals: list[JournalInPlace] = []
    left_out: list[str] = []
    for one in campaigns:
        tasks = read_tasks(
            one.journals, one.digests(), without, with_telemetry=with_telemetry, in_place=in_place
        )
        files += tasks.files
        journals += tasks.in_place
        left_out += tasks.left_out
        for first in range(0, len(tasks.rows), _BATCH):
            tables.append("tasks", COLUMNS, to_dicts(tasks.rows[first : first + _BATCH]))
    tables.add_files("tasks", with_merged(files, without), journals, left_out)


def _load_runs(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    lines = [line for contents in all_runs(source, campaign_id) for line in run_lines(contents)]
    return with_more(RUN_COLUMNS, lines), lines


def _load_metrics(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    found = all_runs(source, campaign_id, every_iteration=True)
    return METRIC_COLUMNS, [line for contents in found for line in metric_lines(contents)]


def _load_campaigns(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    lines = campaign_table(source)
    return CAMPAIGN_COLUMNS, [line for line in lines if campaign_id in (None, line["campaign_id"])]


def _load_tasks(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    return COLUMNS, [line for found in all_contents(source, campaign_id) for line in _rows_of(found, Task)]


def _load_workflows(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    return COLUMNS, [
        line for found in all_contents(source, campaign_id) for line in _rows_of(found, Workflow)
    ]


def _rows_of(contents: Contents, kind: type[Task | Workflow]) -> list[Line]:
    return to_dicts([row for row in contents.rows if isinstance(row, kind)])


def _load_telemetry(source: Sources, campaign_id: str | None) -> tuple[Sequence[str], list[Line]]:
    found = campaigns_of(source, campaign_id)  # the files of a server's journals are there as long as these
    frame = samples_to_frame(process_readings(journal for one in found for journal in one.journals))
    columns = [str(name) for name in frame.columns]
    return columns, [dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def with_more(columns: Sequence[str], lines: list[Line]) -> list[str]:
    """Return columns, and behind them what lines have besides, sorted by name."""
    more = columns_besides(columns, lines)
    # Capitals do not count in SQL: of names that differ only in them, the one without keeps its name.
    return [*columns, *sorted(more, key=lambda name: (name.lower(), name.swapcase()))]


_LOADERS: dict[str, _Loader] = {
    "runs": _load_runs,
    "metrics": _load_metrics,
    "campaigns": _load_campaigns,
    "tasks": _load_tasks,
    "workflows": _load_workflows,
    "telemetry": _load_telemetry,
}
_COLUMNS: dict[str, Sequence[str]] = {
    "runs": RUN_COLUMNS,
    "metrics": METRIC_COLUMNS,
    "campaigns": CAMPAIGN_COLUMNS,
    "tasks": COLUMNS,
    "workflows": COLUMNS,
    "telemetry": ("at", "hostname", "pid"),
}
