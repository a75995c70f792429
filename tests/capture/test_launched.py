"""What a launcher starts again is an attempt, what a person starts again is a run, and ranks are one run."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flowprov import records
from flowprov.environment import launchers
from flowprov.read import Buffer
from flowprov.read.verify import verify
from tests.support import clean_environment, lines, of_type, run, wait_until

_TRAIN = """
    import os, signal, sys, time
    import flowprov

    used = {"rate": float(sys.argv[1])}
    with flowprov.workflow("training", used=used) as training:
        print("open", flush=True)
        if sys.argv[2:] == ["wait"]:
            sys.stdin.read()
        if sys.argv[2:] == ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        training.set_generated(loss=used["rate"] / 2)
"""
Process: TypeAlias = "subprocess.Popen[str]"

_STEP = {"SLURM_JOB_ID": "4242", "SLURM_STEP_ID": "0"}


def _start(
    folder: Path, code: str, *arguments: str, env: dict[str, str], stdin: int | None = None
) -> Process:
    """Start a program beside others that run the same script: it is written only once."""
    script = folder / "program.py"
    if not script.exists():
        script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=clean_environment(**env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _slurm(rank: int = 0, tasks: int = 4, **more: str) -> dict[str, str]:
    return {**_STEP, "SLURM_PROCID": str(rank), "SLURM_NTASKS": str(tasks), **more}


def _workflows(folder: Path) -> list[dict[str, Any]]:
    """Return the workflows of all campaigns of a buffer, in their order."""
    source = Buffer(folder / "flowprov_buffer")
    rows = [
        {name: getattr(row, name) for name in row.__struct_fields__}
        for campaign in source.campaigns()
        for row in source.records(campaign_id=campaign.campaign_id)
        if isinstance(row, records.Workflow)
    ]
    return sorted(rows, key=lambda row: row["started_at"])


def _assert_three_runs(folder: Path) -> None:
    rows = _workflows(folder)
    assert [row["used"] for row in rows] == [{"rate": 0.1}, {"rate": 0.2}, {"rate": 0.3}]
    assert [row["generated"] for row in rows] == [{"loss": 0.05}, {"loss": 0.1}, {"loss": 0.15}]
    assert len({row["workflow_id"] for row in rows}) == 3
    assert [row["attempt"] for row in rows] == [1, 1, 1]


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"SLURM_STEP_ID": "4294967290"},
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"FLOWPROV_CAMPAIGN_ID": "sweep"},
        {"SLURM_RESTART_COUNT": "1"},
    ],
    ids=["bare", "interactive step", "one task", "one campaign", "requeued"],
)
def test_programs_of_one_interactive_allocation_are_different_runs(
    tmp_path: Path, marks: dict[str, str]
) -> None:
    for rate in ("0.1", "0.2", "0.3"):
        run(_TRAIN, tmp_path, rate, env={**_slurm(), **marks})
    _assert_three_runs(tmp_path)
    source = tmp_path / "flowprov_buffer"
    for campaign in Buffer(source).campaigns():
        assert verify(source, campaign_id=campaign.campaign_id).verdict == "COMPLETE"


def test_programs_of_a_terminal_that_srun_opened_are_on_their_own(tmp_path: Path) -> None:
    with _start(tmp_path, _TRAIN, "0", env=_slurm()) as process:  # writes the script
        process.communicate()
    command = f"export SLURM_TASK_PID=$$; {sys.executable} program.py 0.1; {sys.executable} program.py 0.2"
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve("/bin/sh", ["sh", "-c", command], clean_environment(**_slurm()))  # noqa: S606 - a shell
    with os.fdopen(terminal, "rb") as output:
        try:
            while output.read(1):
                pass
        except OSError:  # the other side is closed
            pass
    os.waitpid(child, 0)
    first, *rest = _workflows(tmp_path)
    assert [row["used"]["rate"] for row in rest] == [0.1, 0.2]
    assert len({row["campaign_id"] for row in (first, *rest)}) == 3
    assert {row["rank"] for row in rest} == {None}


def test_programs_that_run_side_by_side_in_one_allocation_are_different_runs(tmp_path: Path) -> None:
    processes = []
    for rate in ("0.1", "0.2", "0.3"):
        processes.append(_start(tmp_path, _TRAIN, rate, "wait", env=_slurm(), stdin=-1))
        assert processes[-1].stdout is not None
        assert processes[-1].stdout.readline() == "open\n"
    for process in processes:
        process.communicate()
    _assert_three_runs(tmp_path)


def test_the_tasks_of_a_step_are_the_ranks_of_one_run(tmp_path: Path) -> None:
    processes = [_start(tmp_path, _TRAIN, "0.1", env=_slurm(rank, 3)) for rank in range(3)]
    for process in processes:
        process.communicate()
    (row,) = _workflows(tmp_path)
    assert (row["rank"], row["attempt"], row["status"]) == (0, 1, "FINISHED")
    headers = of_type(lines(tmp_path), records.Header)
    assert sorted(header.rank for header in headers) == [0, 1, 2]
    assert [header.world_size for header in headers if header.rank] == [3, 3]


def test_a_script_that_srun_started_can_run_a_program_twice(tmp_path: Path) -> None:
    for rate in ("0.1", "0.2"):
        processes = [_start(tmp_path, _TRAIN, rate, env=_slurm(rank, 2)) for rank in range(2)]
        for process in processes:
            process.communicate()
    rows = _workflows(tmp_path)
    assert [(row["used"]["rate"], row["attempt"], row["rank"]) for row in rows] == [(0.1, 1, 0), (0.2, 1, 0)]
    assert len({row["workflow_id"] for row in rows}) == 2


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_step_that_slurm_puts_into_its_queue_again_is_another_attempt(tmp_path: Path, tasks: int) -> None:
    for restart, ending in enumerate((["kill"], ["kill"], [])):
        more = {"SLURM_RESTART_COUNT": str(restart)} if restart else {}
        processes = [
            _start(tmp_path, _TRAIN, f"0.{restart + 1}", *ending, env=_slurm(rank, tasks, **more))
            for rank in range(tasks)
        ]
        for process in processes:
            process.communicate()
            assert process.returncode == (-signal.SIGKILL if ending else 0)
    rows = _workflows(tmp_path)
    assert [(row["attempt"], row["status"]) for row in rows] == [
        (1, "INTERRUPTED"),
        (2, "INTERRUPTED"),
        (3, "FINISHED"),
    ]
    assert [row["used"]["rate"] for row in rows] == [0.1, 0.2, 0.3]
    assert len({row["workflow_id"] for row in rows}) == 1


def test_two_jobs_in_one_campaign_are_different_runs(tmp_path: Path) -> None:
    for job in ("1", "2"):
        run(_TRAIN, tmp_path, f"0.{job}", env=_slurm(SLURM_JOB_ID=job, FLOWPROV_CAMPAIGN_ID="sweep"))
    rows = _workflows(tmp_path)
    assert [(row["campaign_id"], row["used"]["rate"]) for row in rows] == [("sweep", 0.1), ("sweep", 0.2)]
    assert len({row["workflow_id"] for row in rows}) == 2


def test_a_batch_script_is_no_rank_although_slurm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """``sbatch --ntasks=4`` without srun: one process, with the variables of a first task of four."""
    for name, value in {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert launchers.rank_and_world_size() == (None, None)
    assert launchers.current_job() is None
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert launchers.rank_and_world_size() == (0, 4)
    assert launchers.certain_world_size() is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert launchers.rank_and_world_size() == (0, 2)
    assert launchers.certain_world_size() == 2


_PARENT_OF_HELPERS = """
    import multiprocessing, os, subprocess, sys
    import flowprov

    def open_one(name):
        with flowprov.workflow("training"):
            pass

    if __name__ == "__main__":
        if sys.argv[1:] == ["helper"]:
            open_one("subprocess")
        else:
            with flowprov.workflow("training"):
                subprocess.run([sys.executable, __file__, "helper"], check=True)
                for method in ("spawn", "fork"):
                    child = multiprocessing.get_context(method).Process(target=open_one, args=(method,))
                    child.start()
                    child.join()
"""


def test_the_children_of_a_rank_are_no_ranks(tmp_path: Path) -> None:
    processes = [_start(tmp_path, _PARENT_OF_HELPERS, env=_slurm(rank, 2)) for rank in range(2)]
    for process in processes:
        assert process.communicate()[1] == ""
    rows = _workflows(tmp_path)
    outer = [row for row in rows if row["parent_workflow_id"] is None]
    assert len(outer) == 1
    assert len({row["workflow_id"] for row in rows}) == 1 + 2 * 3
    assert {row["attempt"] for row in rows} == {1}


def test_a_rank_that_cannot_read_its_buffer_records_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "flowprov_buffer").write_text("a file, not a folder")
    environment = {**_slurm(), "TMPDIR": str(tmp_path)}
    run(_TRAIN, tmp_path, "0.1", env=environment)
    wait_until(lambda: list(tmp_path.glob("flowprov*/*/*/*.jsonl")))
