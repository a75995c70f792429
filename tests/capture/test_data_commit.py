"""``data_commit`` commits what DVC says of data, and nothing else. Only `make soak` runs the real DVC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.errors import FlowprovError, UsageError
from tests.support import only, tasks
from tests.versioning.conftest import GitRepository, repository

__all__ = ["repository"]

# What `dvc add` does, as far as it matters here.
_DVC = """#!{python}
import json, os, pathlib, sys
sys.path.insert(0, {source!r})
from flowprov.versioning.dvc_digest import dvc_digest
assert sys.argv[1:3] == ["add", "--"], sys.argv
for name in sys.argv[3:]:
    path = pathlib.Path(name)
    if path.name == "refused":
        sys.exit("ERROR: it is refused")
    found = dvc_digest(path)
    out = dict(md5=found.md5, size=found.size, nfiles=found.nfiles, hash="md5", path=path.name)
    path.with_name(path.name + ".dvc").write_text(json.dumps(dict(outs=[out])))
    ignored = path.with_name(".gitignore")
    lines = ignored.read_text().splitlines() if ignored.exists() else []
    if f"/{{path.name}}" not in lines:
        ignored.write_text("\\n".join([*lines, f"/{{path.name}}"]) + "\\n")
"""


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program on the PATH that does what `dvc add` does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    source = str(Path(flowprov.__file__).parent.parent)
    (folder / "dvc").write_text(_DVC.format(python=sys.executable, source=source))
    (folder / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")


@pytest.fixture
def data(repository: GitRepository) -> Path:
    """Return the folder of data in a repository with a hook that would write a file."""
    folder = repository.folder / "part" / "data"
    folder.mkdir(parents=True)
    (folder / "x").write_text("1")
    for name in ("pre-commit", "post-commit", "commit-msg"):
        hook = repository.folder / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {repository.folder}/../hook-ran\nexit 1\n")
        hook.chmod(0o755)
    return folder


def md5_in(file: Path) -> str:
    return str(json.loads(file.read_text())["outs"][0]["md5"])


def test_a_new_version_is_committed_alone_and_recorded(
    dvc: None, repository: GitRepository, data: Path, buffer: Path
) -> None:
    with flowprov.workflow("W"):
        first = flowprov.data_commit(data)
        old = md5_in(data.with_name("data.dvc"))
        (data / "x").write_text("2")
        (repository.folder / "a.py").write_text("changed")
        (repository.folder / "staged.py").write_text("staged")
        (repository.folder / "loose.py").write_text("loose")
        repository.git("add", "staged.py")
        second = flowprov.data_commit(data, message="clean")
        assert flowprov.data_commit(data) is None
    assert repository.git("rev-parse", "HEAD") == second != first
    files = repository.git("show", "--name-only", "--format=%s", first or "").split()
    assert files == ["Data:", "data", "part/.gitignore", "part/data.dvc"]
    assert repository.git("show", "--name-only", "--format=%s").split() == ["clean", "part/data.dvc"]
    assert repository.git("status", "--porcelain").splitlines() == ["M a.py", "A  staged.py", "?? loose.py"]
    assert not (repository.folder.parent / "hook-ran").exists()
    recorded = [task for task in tasks(buffer) if task.activity_id == "data_commit"]
    new = md5_in(data.with_name("data.dvc"))
    assert [(task.used or {})["md5"] for task in recorded] == [None, old, new]
    assert [(task.generated or {})["md5"] for task in recorded] == [old, new, new]
    assert [(task.generated or {})["commit"] for task in recorded] == [first, second, None]


def test_several_paths_are_one_commit_and_a_path_inside_data_means_that_data(
    dvc: None, repository: GitRepository, data: Path, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.folder / "more").write_text("m")
    monkeypatch.chdir(repository.folder)
    flowprov.data_commit("part/data", "more")
    recorded = only([task for task in tasks(buffer) if task.activity_id == "data_commit"])
    assert recorded.generated["md5"].keys() == {"part/data", "more"}
    (data / "x").write_text("3")
    assert flowprov.data_commit(data / "x") is not None
    assert repository.git("show", "--name-only", "--format=").split() == ["part/data.dvc"]


def test_changes_of_the_user_in_gitignore_are_not_committed(
    dvc: None, repository: GitRepository, data: Path, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (data.parent / ".gitignore").write_text("mine\n")
    flowprov.data_commit(data)
    assert repository.git("show", "--name-only", "--format=").split() == ["part/data.dvc"]
    assert "left" in caplog.text
    assert (data.parent / ".gitignore").read_text() == "mine\n/data\n"


def test_what_cannot_be_done_is_said_and_nothing_is_committed(
    dvc: None,
    repository: GitRepository,
    data: Path,
    tmp_path: Path,
    buffer: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    with pytest.raises(UsageError, match="takes the paths"):
        flowprov.data_commit()
    with pytest.raises(UsageError, match="there is no"):
        flowprov.data_commit(data / "nothing")
    (tmp_path / "outside").write_text("")
    with pytest.raises(UsageError, match="in no git repository"):
        flowprov.data_commit(tmp_path / "outside")
    (data.parent / "refused").write_text("")
    with pytest.raises(FlowprovError, match="dvc ended with status 1: ERROR: it is refused"):
        flowprov.data_commit(data.parent / "refused")
    failed = only([task for task in tasks(buffer) if task.activity_id == "data_commit"])
    assert failed.status == "ERROR"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(FlowprovError, match="pip install dvc"):
        flowprov.data_commit(data)
    assert repository.git("rev-parse", "HEAD") == commit


@pytest.mark.soak
def test_the_real_dvc_does_the_same(
    repository: GitRepository, data: Path, tmp_path: Path, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = tmp_path / "environment"
    if "FLOWPROV_TEST_DVC" in os.environ:  # an environment in which DVC is installed already
        environment.symlink_to(os.environ["FLOWPROV_TEST_DVC"])
    else:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", "dvc"]
    if subprocess.run(pip, check=False).returncode:
        pytest.skip("DVC cannot be installed here")
    monkeypatch.setenv("PATH", f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    subprocess.run(["dvc", "init", "-q"], cwd=repository.folder, check=True)
    repository.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "dvc")
    flowprov.configure(journal={"path": str(buffer)}, versions={"check_data": "digest", "timeout": 20})
    monkeypatch.setattr(sys, "argv", [str(repository.folder / "a.py")])
    flowprov.data_commit(data)
    (data / "x").write_text("changed")
    with flowprov.workflow("W"):
        pass
    found: Any = flowprov.versions(buffer)
    actual = [one for data_of in found["data"] if data_of for one in data_of][-1]["actual_md5"]
    assert flowprov.data_commit(data, message="clean")
    assert repository.git("show", "--name-only", "--format=%s").split() == ["clean", "part/data.dvc"]
    recorded = [task for task in tasks(buffer) if task.activity_id == "data_commit"]
    assert (recorded[-1].generated or {})["md5"] == actual
