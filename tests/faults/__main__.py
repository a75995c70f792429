"""Play all faults and write a page with the counts of records: ``python -m tests.faults [PATH]``.

Flows in: the scenarios. Flows out: a page with one table; each row is also printed when it is ready.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stage import Outcome, open_stage
from tests.support import REPOSITORY

PAGE = REPOSITORY / "docs" / "explanation" / "faults.md"
_SERVERS = {"redis": "Redis", "mongodb": "MongoDB"}
BY_HAND = "## Hostile surroundings\n"
"""The heading from which on the page is kept as it is."""

_INTRODUCTION = """# What faults cost

`make faults` printed this table. For each row a real program ran in a process of its own, with a real
server, and the fault was really done to it. The scenarios are in `tests/faults`; the tests play each of
them at least once.

- "Captured" was counted by the program itself.
- "In the journal" was counted in the bytes of its files.
- "Delivered in the end" was counted in the rows of the server, each record once. None of these three counts
  asked flowprov. No server held a record twice, unless a row says so.
- "Held up" adds the longest step, the closing of the workflow and the end of the process. The programs
  waited for at most one second (`sinks.stop_timeout`), those of the first fault for five.

The servers are Redis and, for MongoDB, SecantusDB, which speaks MongoDB's protocol.

| fault | sink | captured | in the journal | delivered in the end | seconds held up |
|---|---|---:|---:|---:|---:|
"""
_LEGEND = """
A killed program records a step before it counts it. So its journal may hold one record more than it
counted. If the disk was full, the program counted and reported what it could not write. `flowprov verify`
was right about each of these buffers: it called the buffer complete, or said what is missing and where.
"""


def main(page: Path) -> int:
    """Play all scenarios; return 1 if a record was lost or doubled, or a process was left, else 0."""
    rows, faults = [], 0
    for scenario in SCENARIOS:
        for sink in scenario.sinks:
            outcome = _play(scenario, sink)
            is_wrong = isinstance(outcome, Outcome) and not _is_right(scenario, outcome)
            faults += is_wrong
            rows.append(f"| {scenario.sentence} | {_SERVERS[sink]} | {_cells(scenario, outcome)} |\n")
            sys.stdout.write(f"{'WRONG ' if is_wrong else ''}{rows[-1]}")
            sys.stdout.flush()
    page.write_text(_INTRODUCTION + "".join(rows) + _LEGEND + _written_by_hand(page))
    return 1 if faults else 0


def _written_by_hand(page: Path) -> str:
    """Return the part of the present page that no scenario makes."""
    _, heading, rest = (page.read_text() if page.exists() else "").partition(BY_HAND)
    return f"\n{heading}{rest}" if heading else ""


def _play(scenario: Scenario, sink: str) -> Outcome | str:
    """Play a scenario; return its outcome, or the reason if it cannot be played here."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            with open_stage(Path(folder), sink) as stage:
                scenario.play(stage)
                return stage.outcome()
        except pytest.skip.Exception as reason:
            return str(reason)


def _is_right(scenario: Scenario, outcome: Outcome) -> bool:
    return (
        outcome.delivered == outcome.in_journal
        and not (outcome.duplicates or outcome.differences or outcome.leftovers)
        and outcome.verdict == scenario.verdict
    )


def _cells(scenario: Scenario, outcome: Outcome | str) -> str:
    if isinstance(outcome, str):
        return f"not played: {outcome} | | |"
    doubled = f", {outcome.duplicates} twice" if outcome.duplicates else ""
    held_up = "killed" if scenario.killed else f"{outcome.held_up:.2f}"
    return f"{outcome.captured:,} | {outcome.in_journal:,} | {outcome.delivered:,}{doubled} | {held_up}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE))
