"""``flowprov verify`` of runs that were cut: which attempt it was, and what was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from tests.cli.support import CommandResult, flowprov
from tests.support import only, run

_RESUMED = """
    import os, signal, sys
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    ending = sys.argv[1]
    with flowprov.workflow("training", campaign_id="c", workflow_id="w") as training:
        with flowprov.workflow("evaluation"):
            step(1)
            with flowprov.task_scope("waiting"):
                if ending == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if ending == "fork and kill" and os.fork() == 0:
                    step(2)
                    os.kill(os.getpid(), signal.SIGKILL)
                if ending == "fork and kill":
                    os.wait()
                    os.kill(os.getpid(), signal.SIGKILL)
        if ending == "raise":
            raise ValueError("diverged")
"""


def _attempt(folder: Path, ending: str) -> None:
    run(_RESUMED, folder, ending, status={"end": 0, "raise": 1}.get(ending, -9))


def _verify(folder: Path, *arguments: str | Path) -> CommandResult:
    return flowprov("verify", *arguments, cwd=folder)


def test_a_killed_run_that_lost_nothing_says_so_and_which_workflows_were_interrupted(tmp_path: Path) -> None:
    _attempt(tmp_path, "kill")
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert "at fault" not in result.out
    assert "wrong:" not in result.out
    last = result.out.splitlines()[-1]
    assert "workflow training (attempt 1) and workflow evaluation (attempt 1) interrupted" in last
    assert "no record is lost, all 3 events that are known of are there" in last
    journal = only(_verify(tmp_path, "--json").json["journals"])
    assert (journal["state"], journal["faults"]) == ("gone", [])


def test_a_killed_run_that_lost_a_record_is_at_fault(tmp_path: Path) -> None:
    _attempt(tmp_path, "kill")
    journal = only(find_journals(tmp_path / "flowprov_buffer"))
    content = journal.read_bytes()
    assert content.count(b'"activity_id":"step"') == 1
    journal.write_bytes(content.replace(b'"activity_id":"step"', b'"activity_id":\'step"'))
    last = _verify(tmp_path).out.splitlines()[-1]
    assert "1 of 1 journal at fault" in last
    assert "no record is lost" not in last


@pytest.mark.parametrize("cut", [["kill"], ["kill", "kill"], ["raise", "kill"], ["fork and kill"]])
@pytest.mark.parametrize("last", ["end", "raise"])
def test_a_run_that_was_resumed_and_ended_is_complete_and_names_the_attempt_that_was_cut(
    tmp_path: Path, cut: list[str], last: str
) -> None:
    for ending in (*cut, last):
        _attempt(tmp_path, ending)
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (0, "COMPLETE")
    numbers = [str(number) for number, ending in enumerate(cut, 1) if ending != "raise"]
    status = {"end": "FINISHED", "raise": "ERROR"}[last]
    line = result.out.splitlines()[-1]
    assert f"{' and '.join(numbers)} of workflow training interrupted" in line
    assert f"attempt {len(cut) + 1} {status}" in line
    report = _verify(tmp_path, "--json").json
    assert [each["status"] for each in _attempts(report, "w")][-1] == status
    assert all(item["superseded"] for item in report["interrupted"])
    assert {item["attempt"] for item in report["interrupted"] if item["id"] == "w"} == set(map(int, numbers))


def test_a_run_whose_last_attempt_was_cut_is_incomplete_and_names_that_attempt(tmp_path: Path) -> None:
    for ending in ("kill", "end", "kill"):
        _attempt(tmp_path, ending)
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert "workflow training (attempt 3)" in result.out.splitlines()[-1]
    report = _verify(tmp_path, "--json").json
    interrupted = [
        (item["attempt"], item["superseded"]) for item in report["interrupted"] if item["id"] == "w"
    ]
    assert interrupted == [(1, True), (3, False)]
    assert [each["status"] for each in _attempts(report, "w")] == ["INTERRUPTED", "FINISHED", "INTERRUPTED"]


def test_what_an_earlier_attempt_lost_is_listed_and_makes_no_run_incomplete(tmp_path: Path) -> None:
    _attempt(tmp_path, "kill")
    journal = only(find_journals(tmp_path / "flowprov_buffer"))
    journal.write_bytes(journal.read_bytes().replace(b'"activity_id":"step"', b'"activity_id":\'step"'))
    _attempt(tmp_path, "end")
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (0, "COMPLETE")
    earlier = result.out.partition("earlier attempts:")[2]
    assert "1 damaged place" in earlier.partition("\n\n")[0]


def _attempts(report: dict[str, Any], workflow_id: str) -> list[dict[str, Any]]:
    return [each for each in report["attempts"] if each["workflow_id"] == workflow_id]
