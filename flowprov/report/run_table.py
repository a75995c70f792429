"""The table of runs, and which of them was best.

Flows in: the lines of runs, and a goal. Flows out: a table, the best run, and a color for the first runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowprov.read.answers.tables import Line
from flowprov.report.goals import Goal, metric_names, number_of
from flowprov.report.parts import Best, Cell, Column, Fact, RunRow, RunTable
from flowprov.report.text import format_duration, format_number, format_time, short_id, shown

MAX_RUNS = 400
COLORS = 7
_MAX_PARAMS, _MAX_METRICS, _MAX_BEST = 8, 6, 12
_MAX_CELL, _MAX_TITLE = 40, 300
_FEW_RUNS = 3
_ENDED_WELL = ("FINISHED", "RUNNING")
_PARAMS, _METRICS = "params.", "metrics."


def in_order(lines: Sequence[Line], goal: Goal | None) -> list[Line]:
    """Return runs in the order in which a report shows them: the best first, else as they started."""
    if goal is None:
        return list(lines)
    return sorted(lines, key=lambda line: (line["status"] not in _ENDED_WELL, goal.key(line)))


def numbered(lines: Sequence[Line]) -> dict[str, int]:
    """Return the number of each run in a report, by its id."""
    return {str(line["run_id"]): number for number, line in enumerate(lines)}


def color_of(number: int, total: int) -> int:
    """Return the color of a run: the first ones have one; it is 0 for the others of many."""
    return number + 1 if number < COLORS and (number < COLORS - 2 or total <= COLORS) else 0


def label_of(line: Line) -> str:
    """Return how a run is called in a report: by its name and the end of its id."""
    return f"{shown(line['name'] or 'run', 30)} {short_id(str(line['run_id']))}"


def differing_params(lines: Sequence[Line]) -> list[str]:
    """Return the parameters in which runs of one name differ, in the order in which they are recorded.

    Texts that are different in each run come last: they are paths and names, as a rule.
    """
    by_name: dict[object, list[Line]] = {}
    for line in lines:
        by_name.setdefault(line["name"], []).append(line)
    differing: dict[str, bool] = {}
    for alike in by_name.values():
        for column in dict.fromkeys(name for line in alike for name in line if name.startswith(_PARAMS)):
            values = [line.get(column) for line in alike]
            different = len(set(map(repr, values)))
            if different > 1:
                texts = all(isinstance(value, str) for value in values if value is not None)
                differing[column] = texts and different == len(alike) > _FEW_RUNS
    return sorted(differing, key=lambda column: differing[column])


def run_table(lines: Sequence[Line], goal: Goal | None) -> RunTable:
    """Return the table of runs that are in order."""
    params = differing_params(lines) or _first_params(lines)
    metrics = metric_names(lines)
    if goal is not None:
        metrics = [goal.metric, *(name for name in metrics if name != goal.metric)]
    params, metrics = params[:_MAX_PARAMS], metrics[:_MAX_METRICS]
    several = len({line["campaign_id"] for line in lines}) > 1
    columns = [
        Column("Run", "run"),
        Column("Status", "status"),
        *([Column("Campaign", "campaign")] if several else []),
        *(Column(shown(name, 30), shown(name), numeric=True) for name in metrics),
        *(_param_column(name, lines) for name in params),
        Column("Duration", "duration", numeric=True),
        Column("Started (UTC)", "started"),
    ]
    rows = [
        RunRow(
            number,
            str(line["run_id"]),
            label_of(line),
            str(line["status"] or "UNKNOWN"),
            color_of(number, len(lines)),
            _cells(line, params, metrics, several=several),
        )
        for number, line in enumerate(lines[:MAX_RUNS])
    ]
    shown_goal = "" if goal is None else f"{goal.direction} {shown(goal.metric)} first"
    return RunTable(columns, rows, len(lines), shown_goal)


def _first_params(lines: Sequence[Line]) -> list[str]:
    """Return parameters, where runs differ in none: numbers first, as texts are paths, often."""
    found = {name: value for line in lines for name, value in line.items() if name.startswith(_PARAMS)}
    return sorted(found, key=lambda name: not _is_number(found[name]))


def _param_column(name: str, lines: Sequence[Line]) -> Column:
    values = [line[name] for line in lines if line.get(name) is not None]
    plain = name.removeprefix(_PARAMS)
    return Column(shown(plain, 30), shown(plain), numeric=bool(values) and all(map(_is_number, values)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cells(line: Line, params: Sequence[str], metrics: Sequence[str], *, several: bool) -> list[Cell]:
    status = str(line["status"] or "UNKNOWN")
    cells = [
        Cell(label_of(line), str(line["name"] or "")[:_MAX_CELL], shown(str(line["run_id"]), _MAX_TITLE)),
        Cell(status, status, "" if line["error"] is None else shown(line["error"], _MAX_TITLE)),
    ]
    if several:
        cells.append(_cell(line["campaign"]))
    cells += [_cell(line.get(_METRICS + name)) for name in metrics]
    cells += [_cell(line.get(name)) for name in params]
    started = line["started_at"]
    return [
        *cells,
        Cell(format_duration(line["duration"]), line["duration"]),
        Cell(format_time(started), None if started is None else started // 10**6),
    ]


def _cell(value: Any) -> Cell:
    text = shown(value, _MAX_CELL)
    if _is_number(value):
        number = number_of(value)
        return Cell(text, None if number is None else float(f"{number:.7g}"))
    if value is None:
        return Cell(text)
    whole = shown(value, _MAX_TITLE)
    return Cell(text, text, whole if whole != text else "")


def best_run(lines: Sequence[Line], goal: Goal | None) -> tuple[Best | None, str]:
    """Return the best of some runs that are in order, or None and the reason."""
    if not lines:
        return None, "No run is recorded."
    if goal is None:
        return None, (
            "No metric's name says whether small or large values are good; --metric and --best name one."
            if metric_names(lines)
            else "The runs recorded no metric."
        )
    line = lines[0]
    value = number_of(line.get(_METRICS + goal.metric))
    if value is None:
        return None, f"No run has a last value of {shown(goal.metric)} that is a number."
    params = differing_params(lines) or _first_params(lines[:1])[:_MAX_BEST]
    others = [name for name in metric_names([line]) if name != goal.metric]
    return (
        Best(
            number=0,
            label=label_of(line),
            run_id=str(line["run_id"]),
            metric=shown(goal.metric, 40),
            value=format_number(value),
            direction=goal.direction,
            params=[_fact(name.removeprefix(_PARAMS), line.get(name)) for name in params if name in line],
            facts=[
                *(_fact(name, line[_METRICS + name]) for name in others[:_MAX_METRICS]),
                Fact("duration", format_duration(line["duration"])),
                *_code_fact(line),
            ],
        ),
        "",
    )


def _fact(name: str, value: Any) -> Fact:
    return Fact(shown(name, 40), shown(value, _MAX_CELL))


def _code_fact(line: Mapping[str, Any]) -> list[Fact]:
    commit = line.get("git_commit")
    if not isinstance(commit, str):
        return []
    return [Fact("commit", commit[:10] + ("+" if line.get("git_dirty") else ""))]
