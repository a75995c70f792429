"""``flowprov show``: the recorded tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowprov import read_buffer
from tests.cli.support import flowprov, run_and_kill
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


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a hundred epochs; no test changes it."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder)
    return folder


def test_it_shows_campaign_workflow_and_tasks_with_their_generated_values(recorded: Path) -> None:
    result = flowprov("show", cwd=recorded)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    titles = [number for number, line in enumerate(lines) if line in ("slowest:", "failed:")]
    first, workflow, more, *rest, epoch, step = lines[: titles[0]]
    assert first.startswith("campaign  nightly  ")
    assert workflow.startswith("  Training  FINISHED  ")
    assert workflow.endswith("  -> best=0.01")
    assert more == "    ... 94 earlier epoch_iteration"
    assert len(rest) == 10
    assert epoch.startswith("    epoch_iteration  FINISHED  ")
    assert epoch.endswith("  item=99")
    assert step.startswith("      step  FINISHED  ")
    assert step.endswith("  number=99  -> loss=0.01 note=two\\nlines")
    assert lines[titles[-1]] == "failed:"
    (failed,) = lines[titles[-1] + 1 :]
    assert "  step  ERROR  " in failed
    assert "  number=90  ValueError: no  " in failed
    alone = flowprov("show", failed.split()[-1], cwd=recorded).out
    assert alone.splitlines()[-1] == "    ValueError: no"


def test_depth_limits_the_tree_and_counts_the_items_below(recorded: Path) -> None:
    result = flowprov("show", "--depth", "1", cwd=recorded)
    assert len(result.out.splitlines()) == 2
    assert result.out.rstrip().endswith("(100 inside)")


def test_a_failed_sibling_is_not_folded_into_the_finished_ones(recorded: Path) -> None:
    result = flowprov("show", "--most", "1000", cwd=recorded)
    assert "..." not in result.out
    assert len(result.out.splitlines()) == 202
    assert result.out.count("step  ERROR") == 1
    assert "number=90  ValueError: no\n" in result.out


def test_one_record_is_shown_in_full_by_its_id(recorded: Path) -> None:
    rows = read_buffer(recorded / "flowprov_buffer", return_df=False)
    (failed,) = [row for row in rows if row["activity_id"] == "step" and row["status"] == "ERROR"]
    result = flowprov("show", failed["task_id"], cwd=recorded)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == f"task  step  {failed['task_id']}"
    assert "  status  ERROR" in lines
    assert '      "number": 90' in lines
    assert "  error  ValueError: no" in lines
    assert lines[-1] == "    ValueError: no"


def test_json_has_the_lines_of_the_tree_and_what_is_named_apart(recorded: Path) -> None:
    found = flowprov("show", "--json", cwd=recorded).json
    assert (found["name"], found["failures"]) == ("nightly", 1)
    workflow, more, *_, epoch, step = found["tree"]
    assert (workflow["level"], workflow["name"], workflow["generated"]) == (0, "Training", {"best": 0.01})
    assert workflow["duration"] > 0
    assert more == {"level": 1, "count_of": "... 94 earlier epoch_iteration"}
    assert (step["level"], step["parent_task_id"]) == (2, epoch["task_id"])
    assert step["generated"] == {"loss": 0.01, "note": "two\nlines"}
    assert len(found["slowest"]) <= 3, "of those that the tree leaves out"
    assert len(found["failed"]) == 1
    assert found["failed"][0]["error"]["message"] == "no"
    flat = flowprov("show", "--json", "--depth", "1", cwd=recorded).json["tree"]
    assert [(node["name"], node["inside"]) for node in flat] == [("Training", 100)]
    record = flowprov("show", step["task_id"], "--json", cwd=recorded).json
    assert (record["kind"], record["id"], record["used"]) == ("task", step["task_id"], {"number": 99})


_LOGGED = """
    import flowprov

    with flowprov.workflow("fit"):
        for step in range(3):
            flowprov.log_metrics(loss=1 / (step + 1))
        with flowprov.task_scope("evaluate"):
            flowprov.log_metrics(accuracy=0.5)
"""


def test_the_last_metrics_that_were_logged_stand_on_the_line_of_their_task(tmp_path: Path) -> None:
    run(_LOGGED, tmp_path)
    _, workflow, task = flowprov("show", cwd=tmp_path).out.splitlines()
    assert workflow.endswith("  metrics loss=0.3333")
    assert task.endswith("  metrics accuracy=0.5")
    assert flowprov("show", "fit", "--json", cwd=tmp_path).json["metrics"]["loss"] == 1 / 3


def test_a_campaign_and_a_workflow_are_shown_by_name(recorded: Path) -> None:
    assert flowprov("show", "nightly", cwd=recorded).out == flowprov("show", cwd=recorded).out
    shown = flowprov("show", "Training", cwd=recorded).out
    assert shown.startswith("run  Training  ")
    assert '      "best": 0.01' in shown.splitlines()
    assert flowprov("show", "step", cwd=recorded).status == 2
    typo = flowprov("show", "Trainin", cwd=recorded)
    assert (typo.status, typo.out) == (2, "")
    assert " holds no run, task, workflow or campaign 'Trainin'. Did you mean " in typo.err
    assert " (Training)?" in typo.err


def test_a_killed_run_shows_as_interrupted(tmp_path: Path) -> None:
    run_and_kill(tmp_path)
    result = flowprov("show", cwd=tmp_path)
    assert result.status == 0
    assert "  Doomed  INTERRUPTED" in result.out


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    result = flowprov("show", "nowhere", cwd=tmp_path)
    assert result.status == 2
    assert result.err.startswith("Error: nowhere does not exist")


def test_a_reader_that_closes_the_pipe_early_is_no_error(recorded: Path) -> None:
    arguments = [sys.executable, "-m", "flowprov", "show", "--most", "1000"]
    with subprocess.Popen(
        arguments, cwd=recorded, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_terminal_that_cannot_show_a_character_gets_its_escape(tmp_path: Path) -> None:
    run("import flowprov\nwith flowprov.workflow('Größe'):\n    pass", tmp_path)
    result = flowprov("show", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert result.status == 0
    assert r"Gr\xf6\xdfe" in result.out


_TWICE = """
    import flowprov

    for rate in (1, 2):
        with flowprov.workflow("Training", workflow_id="w", used={"rate": rate}):
            with flowprov.workflow("Evaluation"), flowprov.task_scope("measure", used={"rate": rate}):
                pass
            with flowprov.task_scope("fit", used={"rate": rate}):
                pass
"""


def test_the_attempts_of_a_workflow_stand_below_each_other_with_what_is_in_each(tmp_path: Path) -> None:
    run(_TWICE, tmp_path)
    _, *lines = flowprov("show", cwd=tmp_path).out.splitlines()
    titles = [(len(line) - len(line.lstrip()), line.split()[0]) for line in lines]
    assert titles == [(2, "Training"), (4, "Evaluation"), (6, "measure"), (4, "fit")] * 2
    assert "attempt" not in lines[0]
    assert lines[4].startswith("  Training  attempt 2  FINISHED  ")
    assert [line.rpartition("rate=")[2] for line in lines if "rate=" in line] == ["1"] * 3 + ["2"] * 3
