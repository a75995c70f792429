"""``flowprov history``: when each step of a pipeline was executed, on which code and data.

Flows in: a step, and sources. Flows out: a table, or JSON.
"""

from __future__ import annotations

from typing import Any

import click

from flowprov.cli.answers import print_answer
from flowprov.cli.output import print_json, sources_options, spare_collector
from flowprov.cli.progress import progress
from flowprov.read.answers.tables import Line
from flowprov.read.frames import as_datetime
from flowprov.read.step_history import history_table

_SHOWN = ("step", "started_at", "status", "commit", "data", "workflow_id")
_COMMIT, _DIGEST = 12, 8  # characters


@click.command()
@click.argument("step", required=False)
@sources_options
@click.pass_obj
def history(default: str | None, step: str | None, sources: tuple[str, ...], *, as_json: bool) -> None:
    """Show when a step was executed, on which commit and data, and what became of it.

    A step is what workflows of one name do; without STEP all are shown. A "+" behind a commit says that files
    were changed. Data is what DVC keeps, if the step used or changed it, and other artifacts that are
    datasets; of steps without data there is none.
    """
    spare_collector()
    with progress("reading"):
        lines = history_table(sources or default, step)
    if as_json:
        for name in dict.fromkeys(line["step"] for line in lines):
            print_json(_as_object(name, [line for line in lines if line["step"] == name]))
    elif lines:
        print_answer(_SHOWN, [{**line, **_as_cells(line)} for line in lines])


def _as_object(step: str | None, lines: list[Line]) -> dict[str, Any]:
    """Return the executions of a step, and which commit was executed when."""
    timed = [{**line, "started_at": _date_time(line["started_at"])} for line in lines]
    commits = {line["started_at"]: line["commit"] for line in timed}
    return {"step": step, "history": commits, "executions": timed}


def _date_time(nanoseconds: int | None) -> str | None:
    at = as_datetime(nanoseconds)
    return None if at is None else at.isoformat()


def _as_cells(line: Line) -> Line:
    commit = None if line["commit"] is None else str(line["commit"])[:_COMMIT]
    return {
        "commit": f"{commit}+" if commit and line["dirty"] else commit,
        "data": [_as_text(entry) for entry in line["data"]] or None,
    }


def _as_text(entry: dict[str, Any]) -> str:
    """Return data and its version: both versions if it moved, and what it was not if that is known."""
    if "role" in entry:
        return f"{entry['path']} {str(entry['sha256'] or '')[:_DIGEST]}".strip()
    versions = [str(md5)[:_DIGEST] for md5 in (entry["md5"], entry.get("md5_at_end")) if md5]
    state = entry.get("state_at_end", entry["state"])
    shown = " -> ".join(dict.fromkeys(versions))
    return f"{entry['path']} {shown}{f' {state}' if state in ('modified', 'missing') else ''}"


__all__ = ["history"]
