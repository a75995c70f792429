"""``flowprov show``: the recorded tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import flowprov, killed
from tests.support import clean_environment, run

_PROGRAM = """
    import flowprov

    @flowprov.task
    def step(number):
        if number == 90:
            raise ValueError("no")
        return {"loss": 1 / (number + 1), "note": "two\\nlines"}

    with flowprov.campaign("nightly"), flowprov.workflow("Training") as workflow:
        for number in flowprov.Loop(100, name="epoch"):
            try:
                step(number)
            except ValueError:
                pass
        workflow.set_generated(best=0.01)
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The folder of a run of a hundred epochs."""
    run(_PROGRAM, tmp_path)
    return tmp_path


def test_it_shows_campaign_workflow_and_tasks_with_what_they_generated(recorded: Path) -> None:
    said = flowprov("show", cwd=recorded)
    assert (said.status, said.err) == (0, "")
    first, workflow, epoch, step, *rest = said.out.splitlines()
    assert first.startswith("campaign  nightly  ")
    assert workflow.startswith("  Training  FINISHED  ")
    assert workflow.endswith("best=0.01")
    assert epoch.startswith("    epoch_iteration  FINISHED  ")
    assert step.startswith("      step  FINISHED  ")
    assert step.endswith("loss=1 note=two\\nlines")
    assert rest[-1] == "    ... 94 more epoch_iteration"


def test_depth_ends_the_tree_and_counts_what_is_below(recorded: Path) -> None:
    said = flowprov("show", "--depth", "1", cwd=recorded)
    assert len(said.out.splitlines()) == 2
    assert said.out.rstrip().endswith("(100 inside)")


def test_a_failed_sibling_is_not_folded_into_the_finished_ones(recorded: Path) -> None:
    said = flowprov("show", "--most", "1000", cwd=recorded)
    assert "more" not in said.out
    assert len(said.out.splitlines()) == 202
    assert said.out.count("step  ERROR") == 1


def test_what_was_killed_shows_as_interrupted(tmp_path: Path) -> None:
    killed(tmp_path)
    said = flowprov("show", cwd=tmp_path)
    assert said.status == 0
    assert "  Doomed  INTERRUPTED" in said.out


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    said = flowprov("show", "nowhere", cwd=tmp_path)
    assert said.status == 2
    assert said.err.startswith("Error: nowhere does not exist")


def test_a_reader_that_goes_away_is_no_error(recorded: Path) -> None:
    arguments = [sys.executable, "-m", "flowprov", "show", "--most", "1000"]
    with subprocess.Popen(
        arguments, cwd=recorded, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_terminal_without_the_characters_gets_their_numbers(tmp_path: Path) -> None:
    run("import flowprov\nwith flowprov.workflow('Größe'):\n    pass", tmp_path)
    said = flowprov("show", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert said.status == 0
    assert r"Gr\xf6\xdfe" in said.out
