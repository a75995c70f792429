"""Runs of real processes read as running, interrupted or forked."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import flowprov
from flowprov.read import Buffer, ancestors, read_buffer
from tests.support import only, start

_ENDLESS = """
    import os
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    with flowprov.workflow("Endless"):
        number = 0
        while True:
            step(number)
            os.write(1, b"%d\\n" % number)
            number += 1
"""


def test_a_workflow_reads_as_running_and_after_a_kill_as_interrupted_with_all_its_tasks(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "flowprov_buffer"
    with start(_ENDLESS, tmp_path) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(200)]
        before_kill = read_buffer(folder)
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    workflow = only(before_kill[before_kill["type"] == "workflow"].to_dict("records"))
    assert (workflow["status"], workflow["name"]) == ("RUNNING", "Endless")
    assert len(before_kill) > 200
    after_kill = read_buffer(folder, return_df=False)
    assert after_kill[0]["status"] == "INTERRUPTED"
    numbers = [row["used"]["number"] for row in after_kill[1:]]
    assert set(acknowledged) <= set(numbers)
    assert numbers == list(range(len(numbers)))
    assert {row["status"] for row in after_kill[1:]} == {"FINISHED"}
    report = only(Buffer(folder).journals())
    assert (report.alive, report.footer, report.found) == (False, None, len(after_kill))


def test_a_task_of_a_forked_child_is_inside_the_task_that_was_open_at_the_fork(buffer: Path) -> None:
    with flowprov.workflow("W") as workflow, flowprov.task_scope("before"):
        with flowprov.task_scope("forking") as forking:
            child = os.fork()
            if child == 0:
                with flowprov.task_scope("in the child"):
                    pass
                os._exit(0)
            os.waitpid(child, 0)
        forking_id = str(forking.task_id)
    rows = read_buffer()
    inside = only(rows[rows["activity_id"] == "in the child"].to_dict("records"))
    assert inside["parent_task_id"] == forking_id
    assert inside["pid"] == child
    assert ancestors(rows, inside["task_id"])[0] == forking_id
    assert ancestors(rows, inside["task_id"])[-1] == workflow.workflow_id
    assert len(Buffer().journals()) == 2
    assert sorted(rows["status"]) == ["FINISHED"] * 4


def test_an_iteration_that_an_exception_left_reads_as_an_error(buffer: Path) -> None:
    with contextlib.suppress(ValueError), flowprov.workflow("W"):
        for item in flowprov.Loop(3):
            if item == 1:
                raise ValueError("enough")
    rows = read_buffer()
    steps = rows[rows["subtype"] == "iteration"]
    assert steps["status"].tolist() == ["FINISHED", "ERROR"]
    assert steps["error"].iloc[1]["message"] == "enough"
    assert steps["custom_metadata"].iloc[1]["left_early"] is True
    assert rows["status"].iloc[0] == "ERROR"
