"""``flowprov ls``, ``runs``, ``diff`` and ``query``: tables of campaigns and runs, and SQL over them.

Flows in: sources. Flows out: tables for people, JSON lines, CSV or a Parquet file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from flowprov.cli.columns import describe_unknown_column, find_column, head_of, short_names
from flowprov.cli.compact_later import compact_later
from flowprov.cli.completion import complete_ids
from flowprov.cli.output import (
    Failure,
    only_campaign_option,
    print_json,
    print_lines,
    sources_options,
    spare_collector,
    table,
)
from flowprov.cli.progress import progress
from flowprov.cli.run_columns import columns_that_fit
from flowprov.cli.tables import fit_columns, terminal_width
from flowprov.display import count, format_size, printable
from flowprov.errors import UsageError
from flowprov.read.answers.sql import TIMES, Tables, dotted_names, quote_dotted
from flowprov.read.answers.tables import CAMPAIGN_COLUMNS, RUN_COLUMNS, Line
from flowprov.read.campaign_sources import find_campaign_id
from flowprov.read.labels import format_duration
from flowprov.read.questions import campaign_table, run_table
from flowprov.read.questions import diff as compare
from flowprov.read.sql_query import query_rows, with_more

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_CELL = 60  # characters
_MAX_PARAMS = 6  # of runs that differ in none
_NO_COLUMN = "no such column: "  # what SQLite says


@click.command()
@sources_options
@click.pass_obj
def ls(default: str | None, sources: tuple[str, ...], *, as_json: bool) -> None:
    """List the campaigns: name, start, duration, runs, tasks, errors, size, whether the record is complete.

    Running ones come first, then the latest. Iterations of loops are not counted as tasks.
    """
    spare_collector()
    with progress("reading"):
        lines = campaign_table(sources or default)[::-1]
    compact_later(sources or default)
    lines.sort(key=lambda line: line["status"] != "RUNNING")
    if as_json:
        print_answer_json(lines)
    elif lines:
        print_answer(CAMPAIGN_COLUMNS, lines)


@click.command()
@sources_options
@only_campaign_option
@click.option("--where", metavar="CONDITION", help='A condition of SQL, as in "lr < 0.1".')
@click.option("--sort", metavar="COLUMN", help="Sort by a column; with a minus before it, the largest first.")
@click.option("--columns", metavar="A,B", help="The columns to show.")
@click.option("--attempts", is_flag=True, help="Show each attempt of a run.")
@click.pass_obj
def runs(
    default: str | None,
    sources: tuple[str, ...],
    campaign: str | None,
    where: str | None,
    sort: str | None,
    columns: str | None,
    *,
    attempts: bool,
    as_json: bool,
) -> None:
    """List the runs, with their parameters and the last values of their metrics.

    A run is what contains a training loop, else a workflow. Without --columns the parameters in which runs
    differ are shown, and as many columns as the terminal has room for. Columns may be named without params.
    and metrics. before them.
    """
    spare_collector()
    with progress("reading"):
        campaign_id = find_campaign_id(sources or default, campaign)
        lines = run_table(sources or default, campaign_id=campaign_id, attempts=attempts)
    compact_later(sources or default)
    if as_json and where is None and sort is None:  # of columns nothing need be known
        print_answer_json(lines)
        return
    known = with_more(RUN_COLUMNS, lines)
    if where is not None:
        lines = _filtered(lines, known, where)
    if sort is not None:
        lines = _sorted(lines, known, sort)
    if as_json:
        print_answer_json(lines)
        return
    shown = _chosen(columns, known) if columns else _telling_columns(known, lines)
    if lines and columns is None and (width := terminal_width()) is not None:
        by = None if sort is None else _column(sort.removeprefix("-"), known)
        _print_what_fits(shown, lines, known, width, by)
    elif lines:
        print_answer(shown, lines, known)


@click.command()
@click.argument("sql")
@sources_options
@only_campaign_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--parquet", metavar="FILE", help="Write a Parquet file.")
@click.pass_obj
def query(
    default: str | None,
    sql: str,
    sources: tuple[str, ...],
    campaign: str | None,
    parquet: str | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Run one SELECT over the tables runs, metrics, campaigns, tasks, workflows and telemetry.

    Names with dots stand in quotes: select "params.lr", "metrics.loss" from runs. used, generated and
    custom_metadata are JSON texts: generated->>'$.loss'.
    """
    spare_collector()
    with progress("reading"):
        campaign_id = find_campaign_id(sources or default, campaign)
        columns, rows = query_rows(sql, sources or default, campaign_id=campaign_id)
    compact_later(sources or default)
    if parquet is not None:
        _write_parquet(columns, rows, parquet)
    elif as_json:
        print_answer_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        text = io.StringIO()
        csv.writer(text).writerows([columns, *rows])
        print_lines(*text.getvalue().splitlines())
    elif columns:
        print_lines(*fit_columns(table(columns, [[_cell("", cell) for cell in row] for row in rows])))


@click.command()
@click.argument("a", shell_complete=complete_ids)
@click.argument("b", shell_complete=complete_ids)
@click.option("--forwards", is_flag=True, help="Find the first module call that gave something else.")
@click.option("--phases", is_flag=True, help="Find what the steps of only one are made of.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    metavar="SHARE",
    help="By how much metrics may differ and still count as equal: 1e-5.",
)
@sources_options
@click.pass_obj
def diff(
    default: str | None,
    a: str,
    b: str,
    sources: tuple[str, ...],
    *,
    forwards: bool,
    phases: bool,
    tolerance: float,
    as_json: bool,
) -> None:
    """Show what differs between two runs, tasks, workflows or campaigns.

    A and B are ids, beginnings or ends of ids that fit only one, or names that only one has. How they
    ended, parameters, settings, code, environment, the artifacts that were used, metrics, the last weights
    and durations are compared; with --phases, what the steps are made of, too.
    """
    with progress("reading"):
        found = compare(a, b, sources or default, forwards=forwards).beyond(tolerance)
        found = found.with_phases() if phases else found
    if as_json:
        print_json(found.to_dict())
    else:
        print_lines(*fit_columns(found.lines()))


def _write_parquet(columns: Sequence[str], rows: Sequence[Sequence[Any]], path: str) -> None:
    from flowprov.read.answers.answer_frames import plain_frame

    try:
        plain_frame(columns, rows).to_parquet(path)
    except ImportError as error:
        raise Failure("to write Parquet, pyarrow is needed: pip install pyarrow") from error
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or error}") from error


def _filtered(lines: list[Line], columns: Sequence[str], condition: str) -> list[Line]:
    text = condition.lower()
    names = {short: whole for short, whole in short_names(columns).items() if short.lower() in text}
    known = {name.lower() for name in (*columns, *names)}
    for name in dotted_names(condition):  # of an unknown name in quotes SQLite makes a text
        if name.lower() not in known:
            hint = " (to divide, write spaces around the /)" if "/" in name else ""
            raise Failure(describe_unknown_column(name, columns) + hint)
    tables = Tables()
    cells = ({**line, **{short: line.get(whole) for short, whole in names.items()}} for line in lines)
    tables.add("runs", [*columns, *names], cells)
    try:
        _, rows = tables.select(f"select rowid from runs where ({quote_dotted(condition)})")  # noqa: S608 - reads
    except UsageError as error:
        reason = str(error.__cause__)
        if not reason.startswith(_NO_COLUMN):
            raise
        unknown = reason.removeprefix(_NO_COLUMN)
        raise Failure(describe_unknown_column(unknown, columns)) from error
    return [lines[number - 1] for (number,) in rows]


def _sorted(lines: list[Line], columns: Sequence[str], key: str) -> list[Line]:
    name, downwards = key.removeprefix("-"), key.startswith("-")
    name = _column(name, columns)
    unknown = [line for line in lines if _is_unknown(line.get(name))]
    known = [line for line in lines if not _is_unknown(line.get(name))]
    numbers = all(isinstance(line[name], (int, float)) for line in known)
    known.sort(key=lambda line: line[name] if numbers else str(line[name]), reverse=downwards)
    return known + unknown


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _chosen(names: str, columns: Sequence[str]) -> list[str]:
    """Return columns by their names, which may be cut to what stands behind ``metrics.`` or ``params.``."""
    return [_column(name.strip(), columns) for name in names.split(",") if name.strip()]


def _column(name: str, columns: Sequence[str]) -> str:
    if (found := find_column(name, columns)) is None:
        raise Failure(describe_unknown_column(name, columns))
    return found


def _telling_columns(columns: Sequence[str], lines: Sequence[Line]) -> list[str]:
    """Return the columns that tell runs apart, first those by which they are compared."""
    shown = ["name", "status"]
    if len({line["campaign"] for line in lines}) > 1:
        shown.insert(1, "campaign")
    params = [name for name in columns if name.startswith("params.")]
    differing = [name for name in params if _differs_among_runs_of_one_name(name, lines)]
    params = differing or params[:_MAX_PARAMS]
    metrics = [name for name in columns if name.startswith("metrics.")]
    derived = {f"{name}.{end}" for name in metrics for end in ("min", "max")}
    shown += [*params, *(name for name in metrics if name not in derived)]
    failed = any(line["error"] for line in lines)
    return [*shown, "run_id", "started_at", "duration", *(["error"] if failed else [])]


def _differs_among_runs_of_one_name(column: str, lines: Sequence[Line]) -> bool:
    values: dict[str | None, set[str]] = {}
    for line in lines:
        values.setdefault(line["name"], set()).add(repr(line.get(column)))
    return any(len(different) > 1 for different in values.values())


def print_answer(columns: Sequence[str], lines: Sequence[Line], known: Sequence[str] = ()) -> None:
    """Print lines as a table.

    Parameters
    ----------
    columns
        The columns to print.
    lines
        The lines.
    known
        All columns that the lines may have; by default those.
    """
    names = frozenset(known or columns)
    head = [head_of(name, names) for name in columns]
    rows = [[_cell(name, line.get(name)) for name in columns] for line in lines]
    print_lines(*fit_columns(table(head, rows)))


def _print_what_fits(
    columns: Sequence[str], lines: Sequence[Line], known: Sequence[str], width: int, sort: str | None
) -> None:
    """Print lines as a table of whole columns; a line behind it names those for which there is no room."""
    columns = [*columns, *([sort] if sort is not None and sort not in columns else [])]
    names = frozenset(known)
    heads = {name: head_of(name, names) for name in columns}
    texts = {
        name: [head, *(printable(_cell(name, line.get(name))) for line in lines)]
        for name, head in heads.items()
    }
    shown = columns_that_fit(texts, width, sort=sort)
    print_answer(shown, lines, known)
    if left_out := [head for name, head in heads.items() if name not in shown]:
        more = f"{count(len(left_out), 'more column')}: --columns {','.join(left_out)}"
        print_lines(*fit_columns([more]), to_stderr=True)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column in TIMES and isinstance(value, int):
        return (_EPOCH + timedelta(seconds=value // 10**9)).strftime("%Y-%m-%d %H:%M:%S")
    if column == "duration":
        return format_duration(value)
    if column == "size":
        return format_size(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL - 1]}…"


def print_answer_json(lines: Sequence[Line]) -> None:
    """Print each line as a JSON object."""
    for line in lines:
        print_json({name: _plain(name, value) for name, value in line.items()})


def _plain(name: str, value: Any) -> Any:
    """Return a value of a line; times are numbers there."""
    if name in TIMES and isinstance(value, int):
        return _EPOCH + timedelta(microseconds=value // 1000)
    return value


__all__ = ["diff", "ls", "print_answer", "print_answer_json", "query", "runs"]
