"""Whatever happens between a program and a server, the program goes on and every record arrives once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.__main__ import BY_HAND, PAGE
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stage import Outcome, open_stage
from tests.support import REPOSITORY

_TOLERANCE_S = 5.0  # for the end of the program, and for a busy machine


def _cases() -> list[object]:
    return [
        pytest.param(
            scenario,
            sink,
            id=f"{scenario.name}-{sink}",
            marks=() if sink in scenario.always else pytest.mark.soak,
        )
        for scenario in SCENARIOS
        for sink in scenario.sinks
    ]


@pytest.mark.parametrize(("scenario", "sink"), _cases())
def test_every_record_arrives_once_and_the_program_goes_on(
    scenario: Scenario, sink: str, tmp_path: Path
) -> None:
    with open_stage(tmp_path, sink) as stage:
        scenario.play(stage)
        outcome = stage.outcome()
    _assert_program_went_on(scenario, outcome)
    _assert_journal_is_complete(scenario, outcome)
    assert outcome.delivered == outcome.in_journal, outcome
    assert outcome.duplicates == 0
    assert outcome.differences == 0
    assert outcome.leftovers == []


def _assert_program_went_on(scenario: Scenario, outcome: Outcome) -> None:
    if not scenario.killed:
        assert outcome.status == 0, outcome.stderr
        assert outcome.right
        assert outcome.held_up <= scenario.stop_timeout + _TOLERANCE_S
    assert "Traceback" not in outcome.stderr, outcome.stderr


def _assert_journal_is_complete(scenario: Scenario, outcome: Outcome) -> None:
    assert outcome.captured >= 500
    if scenario.lost is None:
        dropped = sum(sum(journal["dropped"].values()) for journal in outcome.verified["journals"])
        # The record of the workflow's end may be dropped too, and is no task.
        assert outcome.captured <= outcome.in_journal + dropped <= outcome.captured + 2
        assert 100 < outcome.in_journal < outcome.captured
        assert "flowprov stops recording" in outcome.stderr
    elif scenario.killed:  # the last recorded step may not have been counted
        assert outcome.captured <= outcome.in_journal <= outcome.captured + 1
    else:
        assert outcome.in_journal == outcome.captured - scenario.lost
    assert outcome.verdict == scenario.verdict, outcome.verified
    assert outcome.verify_status == (0 if scenario.verdict == "COMPLETE" else 1)


def test_the_page_names_tests_that_are_there() -> None:
    written_by_hand = PAGE.read_text().partition(BY_HAND)[2]
    named = re.findall(r"`(tests/[^`]+)`", written_by_hand)
    assert len(named) > 20
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []
