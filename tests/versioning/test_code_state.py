"""The state of the code, as real repositories of many kinds have it."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from flowprov.environment.repository import find_repository
from flowprov.versioning.code_state import CodeState, deadline_in, read_code_state
from tests.versioning.conftest import GitRepository


def state_of(folder: Path, seconds: float = 20, **options: Any) -> CodeState:
    return read_code_state(find_repository(folder), deadline_in(seconds), **options)


def described(folder: Path, seconds: float = 20, **options: Any) -> dict[str, Any]:
    return state_of(folder, seconds, **options).described


def test_a_clean_repository_is_not_dirty(repository: GitRepository) -> None:
    found = described(repository.folder)
    assert found["state"] == "ok"
    assert found["dirty"] is False
    assert found["commit"] == repository.git("rev-parse", "HEAD")
    assert (found["branch"], found["changed"], found["untracked"]) == ("main", 0, 0)
    assert found["diff_sha256"] is None
    assert found["describe"] == found["commit"][:12]


def test_changed_and_staged_files_are_counted_and_the_patch_is_digested(repository: GitRepository) -> None:
    repository.commit(b__py="y\n", c__bin="z\0\n")
    (repository.folder / "a.py").write_text("x = 2\n")
    (repository.folder / "c.bin").write_bytes(b"\0\1\2")
    (repository.folder / "new.py").write_text("")
    (repository.folder / "loose").mkdir()
    (repository.folder / "loose" / "one").write_text("")
    (repository.folder / "loose" / "two").write_text("")
    repository.git("add", "new.py")
    state = state_of(repository.folder, patch=True)
    assert (state.described["changed"], state.described["untracked"]) == (3, 1)
    assert state.described["dirty"] is True
    assert state.patch is not None
    assert hashlib.sha256(state.patch).hexdigest() == state.described["diff_sha256"]
    assert state.described["diff_bytes"] == len(state.patch)
    (repository.folder.parent / "patch").write_bytes(state.patch)
    repository.git("stash", "-q")
    repository.git("apply", "--check", "../patch")


def test_a_tag_a_remote_and_the_branch_that_is_followed_are_described(repository: GitRepository) -> None:
    repository.git("tag", "v1")
    repository.git("remote", "add", "origin", "https://user:password@host/x.git")
    repository.git("config", "branch.main.remote", "origin")
    repository.git("config", "branch.main.merge", "refs/heads/trunk")
    found = described(repository.folder)
    assert found["describe"].startswith("v1-0-g")
    assert found["remote"] == "https://***@host/x.git"
    assert found["upstream"] == "origin/trunk"


def test_the_buffer_of_flowprov_is_no_untracked_file(repository: GitRepository) -> None:
    buffer = repository.folder / "flowprov_buffer"
    buffer.mkdir()
    (buffer / "x").write_text("")
    assert described(repository.folder)["untracked"] == 1
    assert described(repository.folder, ignored=buffer)["untracked"] == 0


def test_a_repository_without_commits_is_neither_clean_nor_dirty(tmp_path: Path) -> None:
    GitRepository(tmp_path / "new")
    found = described(tmp_path / "new")
    assert (found["state"], found["dirty"], found["commit"]) == ("no_commits", None, None)
    assert "no commit" in found["reason"]


def test_a_detached_head_has_a_commit_and_no_branch(repository: GitRepository) -> None:
    repository.git("checkout", "-q", "--detach")
    found = described(repository.folder)
    assert (found["branch"], found["commit"]) == (None, repository.git("rev-parse", "HEAD"))
    assert found["dirty"] is False


def test_an_unfinished_merge_is_dirty_and_said(repository: GitRepository) -> None:
    repository.git("checkout", "-q", "-b", "other")
    repository.commit(a__py="x = 2\n")
    repository.git("checkout", "-q", "main")
    repository.commit(a__py="x = 3\n")
    with pytest.raises(Exception, match="merge"):
        repository.git("merge", "other")
    found = described(repository.folder)
    assert (found["dirty"], found["operation"]) == (True, "merge")


def test_a_bare_repository_has_a_commit_and_no_files(repository: GitRepository, tmp_path: Path) -> None:
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    found = described(tmp_path / "bare.git" / "hooks")
    assert (found["state"], found["dirty"]) == ("bare", None)
    assert found["commit"] == repository.git("rev-parse", "HEAD")


def test_a_shallow_clone_says_so(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit(b__py="")
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.folder}", str(tmp_path / "shallow"))
    assert described(tmp_path / "shallow")["shallow"] is True
    assert described(repository.folder)["shallow"] is False


def test_a_linked_worktree_has_its_own_state(repository: GitRepository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"))
    (tmp_path / "tree" / "a.py").write_text("x = 5\n")
    found = described(tmp_path / "tree")
    assert (found["worktree"], found["branch"], found["dirty"]) == ("tree", "side", True)
    assert described(repository.folder)["dirty"] is False


def test_submodules_have_their_commits_and_their_changes_count(
    repository: GitRepository, tmp_path: Path
) -> None:
    library = GitRepository(tmp_path / "library")
    commit = library.commit(l__py="1\n")
    repository.git("submodule", "add", "-q", str(library.folder), "lib")
    repository.commit()
    found = described(repository.folder)
    assert found["submodules"] == {"lib": commit}
    assert (found["dirty"], found["remote"]) == (False, None)
    (repository.folder / "lib" / "l.py").write_text("2\n")
    assert described(repository.folder)["dirty"] is True


def test_without_a_repository_nothing_is_known(tmp_path: Path) -> None:
    found = described(tmp_path)
    assert (found["state"], found.get("dirty")) == ("none", None)
    assert found["reason"]


def test_a_damaged_repository_is_unknown_and_not_the_one_around_it(repository: GitRepository) -> None:
    inner = repository.folder / "inner"
    inner.mkdir()
    os.mkfifo(inner / ".git")
    found = described(inner)
    assert (found["folder"], found["commit"], found["dirty"]) == (str(inner), None, None)
    assert found["state"] == "failed"
    assert found["reason"]


def test_a_repository_of_somebody_else_is_not_owned(repository: GitRepository) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    for path in (repository.folder, *repository.folder.rglob("*")):
        os.chown(path, 54321, 54321)
    found = described(repository.folder)
    assert (found["state"], found["dirty"]) == ("not_owned", None)
    assert found["commit"]


def fake_git(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    "text", ["sleep 60", "sleep 60 & wait", "exec >&- 2>&-; sleep 60", "trap '' TERM; sleep 60"]
)
def test_a_git_that_hangs_is_killed_at_the_deadline(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    fake_git(tmp_path / "bin", text, monkeypatch)
    begun = time.monotonic()
    found = described(repository.folder, seconds=0.3)
    assert time.monotonic() - begun < 3
    assert (found["state"], found["dirty"]) == ("timeout", None)
    assert found["commit"] is not None


def test_a_git_that_fails_or_prints_without_end_is_unknown(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path / "bin", "echo 'fatal: no' >&2; exit 128", monkeypatch)
    found = described(repository.folder)
    assert (found["state"], found["dirty"], found["reason"]) == ("failed", None, "fatal: no")
    fake_git(tmp_path / "bin2", "cat /dev/zero", monkeypatch)
    found = described(repository.folder)
    assert (found["state"], found["dirty"]) == ("failed", None)
    assert "64 MiB" in found["reason"]


def test_without_git_the_files_say_what_they_know(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("/bin/true", repository.folder / "git")  # a program of the repository, and no git
    monkeypatch.chdir(repository.folder)
    monkeypatch.setenv("PATH", os.pathsep.join([".", "", "/nonexistent"]))
    found = described(repository.folder)
    assert (found["state"], found["dirty"], found["branch"]) == ("no_git", None, "main")
    assert found["reason"] == "git is not installed"


def test_a_file_that_changed_after_the_moment_is_unknown(repository: GitRepository) -> None:
    moment = time.time_ns()
    (repository.folder / "a.py").write_text("x = 2\n")
    later = (repository.folder / "a.py").stat().st_mtime_ns
    assert described(repository.folder, moment=later + 1)["dirty"] is True
    found = described(repository.folder, moment=min(moment, later))
    assert (found["dirty"], found["changed"], found["diff_sha256"]) == (None, 0, None)
    assert "after the workflow had begun" in found["reason"]


def test_odd_names_are_counted(repository: GitRepository) -> None:
    for name in (b"a b", b"new\nline", b"\xff", "ü".encode(), b"-rf", b":(top)x"):
        (repository.folder / os.fsdecode(name)).write_text("1")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "x")
    for path in repository.folder.iterdir():
        if path.is_file():
            path.write_text("2")
    found = described(repository.folder)
    assert (found["changed"], found["dirty"]) == (7, True)
    assert found["diff_sha256"]


def test_a_file_under_a_filter_whose_stat_differs_is_unknown_and_not_modified(
    repository: GitRepository,
) -> None:
    repository.git("config", "filter.upper.clean", "tr a-z A-Z")
    repository.git("config", "filter.upper.smudge", "tr A-Z a-z")
    (repository.folder / "t.txt").write_text("abc\n")
    os.utime(repository.folder / "t.txt", (2, 2))  # else git compares a file that is as new as its index
    repository.commit(__gitattributes="*.txt filter=upper\n")
    assert described(repository.folder)["dirty"] is False
    (repository.folder / "t.txt").write_text("abc\n")
    os.utime(repository.folder / "t.txt", (1, 1))
    found = described(repository.folder)
    assert (found["dirty"], found["changed"], found["diff_sha256"]) == (None, 0, None)
    assert "filter" in found["reason"]
    (repository.folder / "a.py").write_text("x = 7\n")
    found = described(repository.folder)
    assert (found["dirty"], found["changed"]) == (True, 1)
    assert found["diff_sha256"]
