"""Plays all faults and writes what became of the records: ``python -m tests.faults [PATH]``.

Flows in: the scenarios. Flows out: a page with one table, and the same lines on the screen as they come.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stage import Outcome, staged
from tests.support import REPOSITORY

_PAGE = REPOSITORY / "docs" / "explanation" / "faults.md"
_SERVERS = {"redis": "Redis", "mongodb": "MongoDB"}
_INTRODUCTION = """# What faults cost

`make faults` printed this table. Each row is a real program in a process of its own, with a real server, to
which the fault was really done; `tests/faults` holds them, and the tests do each of them at least once.
"Captured" was counted by the program itself, "in the journal" in the bytes of its files, "delivered in the
end" in the rows of the server, each record once; none of the three asked flowprov. No server held a record
twice, unless a row says so. "Held up" is the longest step, the closing of the workflow and the end of the
process together; the programs were told to wait for at most one second (`sinks.stop_timeout`), the first
row for five. The servers are Redis, and for MongoDB SecantusDB, which speaks its protocol.

| fault | sink | captured | in the journal | delivered in the end | seconds held up |
|---|---|---:|---:|---:|---:|
"""
_LEGEND = """
A program that is killed has recorded a step before it counts it, so a journal may hold one more than was
counted. What a full disk kept out of the journal was counted and said by the program. `flowprov verify`
told each of these buffers as it was: complete, or what is missing and where.
"""


def main(page: Path) -> int:
    """Play all scenarios; gives the exit status: 1 if anything was lost on the way, or doubled, or left."""
    rows, faults = [], 0
    for scenario in SCENARIOS:
        for sink in scenario.sinks:
            found = _play(scenario, sink)
            wrong = isinstance(found, Outcome) and not _is_right(scenario, found)
            faults += wrong
            rows.append(f"| {scenario.sentence} | {_SERVERS[sink]} | {_cells(scenario, found)} |\n")
            sys.stdout.write(f"{'WRONG ' if wrong else ''}{rows[-1]}")
            sys.stdout.flush()
    page.write_text(_INTRODUCTION + "".join(rows) + _LEGEND)
    return 1 if faults else 0


def _play(scenario: Scenario, sink: str) -> Outcome | str:
    """Play a scenario; gives the reason where it cannot be played here."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            with staged(Path(folder), sink) as stage:
                scenario.play(stage)
                return stage.outcome()
        except pytest.skip.Exception as reason:
            return str(reason)


def _is_right(scenario: Scenario, found: Outcome) -> bool:
    return (
        found.delivered == found.in_journal
        and not (found.doubled or found.astray or found.left)
        and found.verdict == scenario.verdict
    )


def _cells(scenario: Scenario, found: Outcome | str) -> str:
    if isinstance(found, str):
        return f"not played: {found} | | |"
    doubled = f", {found.doubled} twice" if found.doubled else ""
    held_up = "killed" if scenario.killed else f"{found.held_up:.2f}"
    return f"{found.captured:,} | {found.in_journal:,} | {found.delivered:,}{doubled} | {held_up}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else _PAGE))
