"""A step on data that the real DVC keeps: the version before and after, and a commit of the data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import flowprov
from tests.pipelines.conftest import Tools

pytestmark = pytest.mark.soak

_STEP = """
import sys
import flowprov

with flowprov.campaign("sentiment_analysis"), flowprov.workflow("DATA_CLEANING"):
    with open("ftzard/data/cleaned.csv", "a") as file:
        file.write("x,y\\n")
    if "commit" in sys.argv:
        flowprov.data_commit("ftzard/data", message="clean")
"""


def _make_data(folder: Path) -> None:
    """Write all kinds of files that DVC knows."""
    (folder / "sub" / "deep").mkdir(parents=True)
    files = ("cleaned.csv", "empty", ".hidden", "ünï 日本.txt", "sub/a", "sub/deep/b")
    for name in files:
        (folder / name).write_text("" if name == "empty" else f"{name}\n")
    (folder / "file_link").symlink_to("sub/a")
    (folder / "folder_link").symlink_to("sub")


def _on_disk(folder: Path) -> tuple[int, int]:
    """Return how many files DVC counts in a folder, and their bytes: links to files, none to folders."""
    files = [path for path in folder.rglob("*") if path.is_file() and "folder_link" not in path.parts]
    return len(files), sum(path.stat().st_size for path in files)


def _declared(repository: Path) -> str:
    text = (repository / "ftzard" / "data.dvc").read_text()
    return text.partition("md5: ")[2].split()[0]


@pytest.fixture
def project(tools: Tools) -> Tools:
    """Return a project whose data DVC keeps, with everything committed and a remote to which one may push."""
    data = tools.folder / "ftzard" / "data"
    _make_data(data)
    (tools.folder / "step.py").write_text(_STEP)
    tools.run("git", "init", "-q", "-b", "main")
    tools.run("dvc", "init", "-q")
    tools.run("dvc", "add", "-q", "ftzard/data")
    (tools.folder / ".gitignore").write_text("flowprov_buffer\ndagster_home\nremote.git\n")
    tools.run("git", "add", "-A")
    tools.run("git", "commit", "-q", "-m", "data")
    tools.run("git", "init", "-q", "--bare", "remote.git")
    tools.run("git", "remote", "add", "origin", "remote.git")
    tools.run("git", "push", "-q", "-u", "origin", "main")
    return tools


@pytest.mark.parametrize("check", ["stat", "digest"])
def test_the_version_tells_the_data_before_and_after_a_step(project: Tools, check: str) -> None:
    commit = project.run("git", "rev-parse", "HEAD").strip()
    declared, (nfiles, size) = _declared(project.folder), _on_disk(project.folder / "ftzard" / "data")
    project.run("python", "step.py", FLOWPROV__VERSIONS__CHECK_DATA=check, FLOWPROV__VERSIONS__TIMEOUT="30")
    start, end = flowprov.versions(project.folder / "flowprov_buffer").to_dict("records")
    assert (start["moment"], end["moment"]) == ("start", "end")
    assert (start["code"]["commit"], start["code"]["dirty"]) == (commit, False)
    (before,), (after,) = start["data"], end["data"]
    assert (before["path"], before["md5"]) == ("ftzard/data", declared)
    assert (before["size"], before["nfiles"]) == (size, nfiles)
    assert before["state"] in ("unchecked", "matches")
    assert (after["md5"], after["state"]) == (declared, "modified")
    assert (after["actual_nfiles"], after["actual_size"]) == _on_disk(project.folder / "ftzard" / "data")
    if check == "digest":
        project.run("dvc", "add", "-q", "ftzard/data")
        assert after["actual_md5"] == _declared(project.folder)


def test_data_commit_commits_the_data_alone(project: Tools) -> None:
    (project.folder / "staged.txt").write_text("of the user")
    (project.folder / "untracked.txt").write_text("of the user")
    project.run("git", "add", "staged.txt")
    pushed = project.run("git", "rev-parse", "origin/main")
    before = _declared(project.folder)
    project.run("python", "step.py", "commit")
    assert project.run("git", "rev-list", "--count", "origin/main..HEAD").strip() == "1"
    assert project.run("git", "log", "-1", "--format=%s").strip() == "clean"
    assert set(project.run("git", "show", "--name-only", "--format=", "HEAD").split()) == {"ftzard/data.dvc"}
    assert project.run("git", "--git-dir=remote.git", "rev-parse", "main") == pushed
    assert project.run("git", "status", "--porcelain").splitlines() == ["A  staged.txt", "?? untracked.txt"]
    (task,) = [
        row
        for row in flowprov.read_buffer(project.folder / "flowprov_buffer", return_df=False)
        if row["activity_id"] == "data_commit"
    ]
    assert (task["used"]["md5"], task["used"]["message"]) == (before, "clean")
    assert task["generated"]["md5"] == _declared(project.folder) != before
    assert task["generated"]["commit"] == project.run("git", "rev-parse", "HEAD").strip()
    history = project.run("python", "-m", "flowprov", "history", "DATA_CLEANING")
    assert f"{before[:8]} -> {_declared(project.folder)[:8]}" in history
    assert os.fspath(project.folder) not in history  # data has the path that it has in the repository
