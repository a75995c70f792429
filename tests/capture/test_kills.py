"""A value that was given to an open scope survives the death of the process, whatever it was given to.

The program reports each call of flowprov that returned. It is killed at a random moment. Every value that it
reported must be found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import start

PROGRAM = """
    import json, os, sys
    import flowprov

    flowprov.configure(**{"journal.writer": sys.argv[1]})


    def report(kind, identifier, name, value):
        line = json.dumps({"kind": kind, "id": identifier, "name": name, "value": value}) + "\\n"
        os.write(1, line.encode())


    @flowprov.task
    def work(n):
        handle = flowprov.current_task()
        for part in range(3):
            handle.set_generated({"part": part}, step=n)
            report("generated", handle.task_id, "part", part)
        handle.add_tags(f"tag {n}")
        report("tags", handle.task_id, "tag", f"tag {n}")
        handle.custom_metadata["note"] = n
        report("custom_metadata", handle.task_id, "note", n)
        return n


    @flowprov.task
    def produce(n):
        flowprov.current_task().set_generated(first=n)
        report("generated", flowprov.current_task().task_id, "first", n)
        yield n


    with flowprov.workflow("killed") as workflow:
        n = 0
        while True:
            epochs = flowprov.EpochLoop(2)
            for epoch in epochs:
                batches = flowprov.BatchLoop(["a", "b"], epochs)
                for batch in batches:
                    batches.end_iter({"loss": n}, batch_name=batch)
                    report("generated", batches.current_task_id, "loss", n)
                    work(n)
                    batches.end_iter(late=n)
                    report("generated", batches.current_task_id, "late", n)
                    n += 1
                epochs.end_iter(loss=n, checkpoint=f"best {n}.pt")
                report("generated", epochs.current_task_id, "checkpoint", f"best {n}.pt")
            with flowprov.task_scope("save") as step:
                step.set_generated(files=n)
                report("generated", step.task_id, "files", n)
                step.add_tags("one", f"number {n}")
                report("tags", step.task_id, "tag", f"number {n}")
                for item in produce(n):
                    pass
            workflow.set_generated(best=n)
            report("generated", workflow.workflow_id, "best", n)
            flowprov.current_workflow().custom_metadata["seen"] = n
            report("custom_metadata", workflow.workflow_id, "seen", n)
            flowprov.current_workflow().add_tags(f"round {n}")
            report("tags", workflow.workflow_id, "tag", f"round {n}")
"""


_FEWEST_REPORTS = 10  # however slow the machine is


def killed_at_a_random_moment(
    folder: Path, writer: str, signal_number: int, seed: int
) -> list[dict[str, Any]]:
    """Run the program, kill it, and return what it reported."""
    chance = random.Random(seed)  # noqa: S311 - not for a secret
    with start(PROGRAM, folder, writer) as process:
        assert process.stdout is not None
        reported = process.stdout.fileno()
        data = os.read(reported, 1 << 16)  # it has begun
        deadline = time.monotonic() + chance.uniform(0.0, 0.2)
        while time.monotonic() < deadline or data.count(b"\n") <= _FEWEST_REPORTS:
            if not (more := os.read(reported, 1 << 16)):
                break  # it has ended by itself
            data += more
        process.send_signal(signal_number)
        while more := os.read(reported, 1 << 16):
            data += more
        process.wait(60)
    return [json.loads(line) for line in data.decode().splitlines(keepends=True) if line.endswith("\n")]


def holds(row: dict[str, Any], report: dict[str, Any]) -> bool:
    """Whether a row holds a reported value, or a later one of the same name."""
    if report["kind"] == "tags":
        tags = row.get("tags") or (row["custom_metadata"] or {}).get("tags") or []
        return report["value"] in tags
    found = (row[report["kind"]] or {}).get(report["name"])
    return found == report["value"] or (isinstance(found, int) and found >= report["value"])


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_what_was_given_before_a_kill_is_found(tmp_path: Path, writer: str, signal_number: int) -> None:
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        reports = killed_at_a_random_moment(folder, writer, signal_number, seed)
        assert len(reports) > _FEWEST_REPORTS
        rows = flowprov.read_buffer(folder / "flowprov_buffer", return_df=False)
        by_id = {row["task_id"] or row["workflow_id"]: row for row in rows}
        lost = [report for report in reports if not holds(by_id[report["id"]], report)]
        assert lost == []
        assert {row["status"] for row in rows} <= {"FINISHED", "INTERRUPTED"}


def test_the_open_epoch_of_a_killed_run_has_its_values_and_is_interrupted(tmp_path: Path) -> None:
    program = """
        import os, signal
        import flowprov

        with flowprov.workflow("train") as workflow:
            workflow.set_generated({"acc": 0.9})
            epochs = flowprov.EpochLoop(3)
            for epoch in epochs:
                epochs.end_iter(loss=0.123, checkpoint="best.pt")
                os.kill(os.getpid(), signal.SIGKILL)
    """
    with start(program, tmp_path) as process:
        process.wait(60)
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert [(row["status"], row["generated"]) for row in rows] == [
        ("INTERRUPTED", {"acc": 0.9}),
        ("INTERRUPTED", {"loss": 0.123, "checkpoint": "best.pt"}),
    ]
    assert rows[1]["used"] == {"i": 0, "epoch": 0}


def test_a_forked_child_adds_to_the_task_of_its_parent(tmp_path: Path) -> None:
    program = """
        import os
        import flowprov

        with flowprov.workflow("w"), flowprov.task_scope("parent") as step:
            pid = os.fork()
            if pid == 0:
                flowprov.current_task().set_generated(child=1)
                flowprov.current_task().add_tags("from the child")
                flowprov.current_workflow().set_generated(child=2)
                os._exit(0)
            os.waitpid(pid, 0)
            step.set_generated(parent=3)
    """
    with start(program, tmp_path) as process:
        assert process.wait(60) == 0
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    workflow, task = rows
    assert workflow["generated"] == {"child": 2}
    assert task["generated"] == {"child": 1, "parent": 3}
    assert task["tags"] == ["from the child"]


def test_a_value_for_a_task_that_ended_is_added_to_its_row(buffer: Path) -> None:
    with flowprov.workflow("w") as workflow:
        with flowprov.task_scope("step") as step:
            step.set_generated(a=1)
        step.set_generated(b=2)
        step.add_tags("late")
    workflow.set_generated(c=3)
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert [row["generated"] for row in rows] == [{"c": 3}, {"a": 1, "b": 2}]
    assert rows[1]["tags"] == ["late"]


def test_what_was_given_is_recorded_as_it_was_when_it_was_given(buffer: Path) -> None:
    values = [1]
    loop = flowprov.Loop(1)
    with flowprov.workflow("w") as workflow, flowprov.task_scope("step") as step:
        workflow.set_generated(values=values)
        step.set_generated(values=values)
        for _ in loop:
            loop.end_iter({"values": values})
            values.append(2)
        values.append(3)
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert [row["generated"] for row in rows] == [{"values": [1]}] * 3


def test_a_value_is_written_before_the_call_returns_also_as_the_first_of_a_process(tmp_path: Path) -> None:
    """A child process has no journal before its first event."""
    program = """
        import os, subprocess, sys
        import flowprov

        if len(sys.argv) > 1:
            flowprov.current_workflow().set_generated(child=1)
            os._exit(1)
        with flowprov.workflow("w"):
            subprocess.run([sys.executable, __file__, "child"])
    """
    with start(program, tmp_path) as process:
        assert process.wait(60) == 0
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert [row["generated"] for row in rows] == [{"child": 1}]
