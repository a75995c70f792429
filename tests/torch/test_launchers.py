"""The ranks of one job are one run: they share campaign and workflow without talking to each other."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flowprov import records
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
