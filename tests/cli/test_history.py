"""``flowprov history`` lists the executions of each step: when, on which commit and data, with what end."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from flowprov.versioning.dvc_digest import dvc_digest
from tests.cli.support import flowprov
from tests.support import run
from tests.versioning.conftest import GitRepository

_PROGRAM = """
    import contextlib, flowprov, pathlib, sys
    step, divisor = sys.argv[1:]
    data = pathlib.Path("data.csv")
    with contextlib.suppress(ZeroDivisionError), flowprov.campaign("sentiment"), flowprov.workflow(step):
        if step == "CLEAN":
            data.write_text(data.read_text() + "x,y\\n")
        elif step == "TRAIN":
            flowprov.use_artifact(data, kind="dataset")
            pathlib.Path("other.csv").write_text("1")
            flowprov.use_artifact("other.csv", kind="dataset")
        else:
            1 / int(divisor)
"""


def _keep(folder: Path) -> str:
    """Write what DVC would write of the data; return its md5."""
    found = dvc_digest(folder / "data.csv")
    out = {"md5": found.md5, "size": found.size, "hash": "md5", "path": "data.csv"}
    (folder / "data.csv.dvc").write_text(json.dumps({"outs": [out]}))
    assert found.md5 is not None
    return found.md5


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[str]]:
    """Return a repository with a pipeline that ran twice, the commits, and the digests of the data."""
    repository = GitRepository(tmp_path_factory.mktemp("history"))
    folder = repository.folder
    commits, digests = [], []
    (folder / "data.csv").write_text("a,b\n")
    for divisor in ("1", "0"):
        digests.append(_keep(folder))
        ignored = "flowprov_buffer\nprogram.py\ndata.csv\nother.csv\n"
        commits.append(repository.commit(__gitignore=ignored, n=divisor))
        for step in ("CLEAN", "TRAIN", "REPORT"):
            run(_PROGRAM, folder, step, divisor)
    digests.append(_keep(folder))
    return folder, commits, digests


def test_each_step_has_its_executions_with_commit_and_data(
    recorded: tuple[Path, list[str], list[str]],
) -> None:
    folder, commits, digests = recorded
    result = flowprov("history", "--json", cwd=folder)
    steps = {one["step"]: one for one in map(json.loads, result.out.splitlines())}
    assert list(steps) == ["CLEAN", "TRAIN", "REPORT"]
    for step in steps.values():
        assert list(step["history"].values()) == commits
        assert list(step["history"]) == [one["started_at"] for one in step["executions"]]
        assert all(datetime.fromisoformat(at).tzinfo for at in step["history"])
    cleaned = [one["data"] for one in steps["CLEAN"]["executions"]]
    assert [data[0]["md5"] for data in cleaned] == digests[:2]
    assert [data[0]["state_at_end"] for data in cleaned] == ["modified"] * 2
    used, other = steps["TRAIN"]["executions"][1]["data"]
    assert (used["path"], used["md5"]) == ("data.csv", digests[1])
    assert (Path(other["path"]).name, other["role"], len(other["sha256"])) == ("other.csv", "used", 64)
    assert [one["data"] for one in steps["REPORT"]["executions"]] == [[], []]
    assert [one["status"] for one in steps["REPORT"]["executions"]] == ["FINISHED", "ERROR"]


def test_one_step_is_a_table_for_people(recorded: tuple[Path, list[str], list[str]]) -> None:
    folder, commits, digests = recorded
    result = flowprov("history", "CLEAN", cwd=folder)
    head, *rows = result.out.splitlines()
    assert head.split() == ["step", "started_at", "status", "commit", "data", "workflow_id"]
    assert len(rows) == 2
    for row, commit, md5 in zip(rows, commits, digests, strict=False):
        assert f" {commit[:12]} " in row
        assert f"data.csv {md5[:8]} modified" in row
    assert len(flowprov("history", cwd=folder).out.splitlines()) == 7


def test_a_step_that_is_not_there_is_an_error(recorded: tuple[Path, list[str], list[str]]) -> None:
    result = flowprov("history", "clean", cwd=recorded[0])
    assert (result.status, result.out) == (2, "")
    assert "no step 'clean'" in result.err
    assert "CLEAN" in result.err
