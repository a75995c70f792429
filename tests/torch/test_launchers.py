"""The ranks of one job are one run: they share campaign and workflow without talking to each other."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flowprov import records
from flowprov.read import Buffer
from tests.support import clean_environment, lines, of_type, tasks
from tests.torch.support import torchrun

_PROGRAM = """
import flowprov

@flowprov.task
def step(n):
    return n

with flowprov.workflow("training"):
    step(1)
with flowprov.workflow("training"):
    step(2)
"""


def test_the_ranks_of_torchrun_share_campaign_and_workflows(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    for _ in range(2):
        subprocess.run(
            torchrun("program.py"), cwd=tmp_path, env=clean_environment(), check=True, capture_output=True
        )
    found = tasks(tmp_path)
    assert sorted(task.rank for task in found) == [0] * 4 + [1] * 4  # type: ignore[type-var]
    headers = of_type(lines(tmp_path), records.Header)
    assert len(headers) == 4
    assert {header.world_size for header in headers} == {2}
    runs: dict[str, list[records.Task]] = {}
    for task in found:
        runs.setdefault(str(task.campaign_id), []).append(task)
    assert len(runs) == 2, "two jobs are two campaigns"
    for run in runs.values():
        first = {task.workflow_id for task in run if task.used == {"n": 1}}
        second = {task.workflow_id for task in run if task.used == {"n": 2}}
        assert len(first) == len(second) == 1, "each workflow is one, whichever rank speaks of it"
        assert first != second


_RESTARTED = """
import os, sys
import flowprov

used = {"rate": float(sys.argv[1])}
with flowprov.workflow("training", used=used) as training:
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if restarts < int(sys.argv[2]):
        raise ValueError("diverged") if os.environ["RANK"] == "0" else SystemExit(3)
    training.set_generated(restarts=restarts)
"""
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def _launch(folder: Path, *options: str, rate: str, fails: int = 0, ranks: int = 2) -> None:
    (folder / "program.py").write_text(_RESTARTED)
    command = [*_TORCHRUN, *options, "--nproc-per-node", str(ranks), "program.py", rate, str(fails)]
    subprocess.run(command, cwd=folder, env=clean_environment(), check=True, capture_output=True, timeout=120)


def _workflows(folder: Path) -> list[records.Workflow]:
    source = Buffer(folder / "flowprov_buffer")
    rows = [
        row
        for campaign in source.campaigns()
        for row in source.records(campaign_id=campaign.campaign_id)
        if isinstance(row, records.Workflow)
    ]
    return sorted(rows, key=lambda row: row.started_at or 0)


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.soak), 2])
@pytest.mark.parametrize(
    "options",
    [["--standalone"], ["--rdzv-backend=c10d", "--rdzv-id=exp", "--rdzv-endpoint=localhost:0"]],
    ids=["standalone", "named"],
)
def test_each_restart_of_torchrun_is_an_attempt(tmp_path: Path, options: list[str], ranks: int) -> None:
    _launch(tmp_path, *options, "--max-restarts=2", rate="0.1", fails=2, ranks=ranks)
    rows = _workflows(tmp_path)
    assert [row.attempt for row in rows] == [1, 2, 3]
    assert [row.status for row in rows][1:] == ["ERROR", "FINISHED"]
    assert rows[0].status in ("ERROR", "INTERRUPTED"), "torchrun ends the other ranks when one has failed"
    assert [row.generated for row in rows] == [None, None, {"restarts": 2}]
    assert len({row.workflow_id for row in rows}) == len({row.campaign_id for row in rows}) == 1


@pytest.mark.parametrize("name", ["none", pytest.param("exp", marks=pytest.mark.soak)])
def test_two_runs_with_a_fixed_port_are_different_runs(tmp_path: Path, name: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    static = ["--rdzv-backend=static", f"--rdzv-id={name}", f"--master-port={port}"]
    for rate in ("0.1", "0.2"):
        _launch(tmp_path, *static, rate=rate)
    rows = _workflows(tmp_path)
    assert [(row.used, row.attempt, row.rank) for row in rows] == [
        ({"rate": 0.1}, 1, 0),
        ({"rate": 0.2}, 1, 0),
    ], "the ranks of each run are one row"
    assert len({row.workflow_id for row in rows}) == 2


@pytest.mark.soak
def test_two_runs_of_several_nodes_with_a_fixed_port_keep_their_own_rows(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "program.py").write_text(_RESTARTED)
    for rate in ("0.1", "0.2"):
        static = ["--nnodes=2", "--rdzv-backend=static", "--rdzv-id=exp", f"--master-port={port}"]
        static += ["--master-addr=127.0.0.1", f"--rdzv-endpoint=127.0.0.1:{port}"]
        agents = [
            subprocess.Popen(
                [*_TORCHRUN, *static, f"--node-rank={node}", "--nproc-per-node=1", "program.py", rate, "0"],
                cwd=tmp_path,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for node in range(2)
        ]
        assert [agent.wait(timeout=120) for agent in agents] == [0, 0]
    rows = _workflows(tmp_path)
    assert [(row.used, row.attempt, row.rank) for row in rows] == [
        ({"rate": 0.1}, 1, 0),
        ({"rate": 0.2}, 2, 0),
    ]
