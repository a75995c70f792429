"""The repository of a program is described by files of it, whatever these are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.environment import code
from flowprov.environment.repository import describe_repository

COMMIT = "0123456789" * 4


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the ``.git`` of the program's folder, on the branch ``main``."""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "program.py")])
    return git


def described() -> dict[str, Any]:
    repository = code.repository_of_program()
    assert repository is not None
    return describe_repository(repository)


def test_branch_commit_and_remote_are_read(repository: Path) -> None:
    (repository / "config").write_text('[remote "origin"]\n\turl = https://user:secret@host/x.git\n')
    found = described()
    assert (found["branch"], found["commit"]) == ("main", COMMIT)
    assert found["remote"] == "https://***@host/x.git"
    assert found["folder"] == str(repository.parent)


def test_the_commit_is_read_from_the_packed_references(repository: Path) -> None:
    (repository / "refs" / "heads" / "main").unlink()
    other = f"{'1' * 40} refs/heads/not/refs/heads/main"
    (repository / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n{other}\n")
    assert described()["commit"] == COMMIT


def test_a_worktree_is_followed_to_its_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worktree, own = tmp_path / "tree", repository / "worktrees" / "tree"
    worktree.mkdir()
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main")
    (own / "commondir").write_text("../..\n")
    (worktree / ".git").write_text(f"gitdir: {own}\n")
    monkeypatch.setattr(sys, "argv", [str(worktree / "program.py")])
    assert described() == {"folder": str(worktree), "branch": "main", "commit": COMMIT}


def link_to_pipe(path: Path) -> None:
    os.mkfifo(f"{path}.pipe")
    path.symlink_to(f"{path}.pipe")


def huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 20 << 30)


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to a pipe": link_to_pipe,
    "a huge file": huge_file,
    "bytes": lambda path: path.write_bytes(os.urandom(3000)),
    "zeros": lambda path: path.write_bytes(bytes(3000)),
    "nothing": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["HEAD", "config", "commondir", "packed-refs", "refs/heads/main", ""])
def test_a_file_of_another_kind_leaves_out_what_it_would_say(
    repository: Path, name: str, make: Callable[[Path], object]
) -> None:
    path = repository / name
    if name == "packed-refs":
        (repository / "refs" / "heads" / "main").unlink()
    if name == "":
        repository.rename(repository.with_name("moved"))
    else:
        path.unlink(missing_ok=True)
    make(path)
    assert described()["folder"] == str(repository.parent)


def test_a_million_references_cost_no_second(repository: Path) -> None:
    (repository / "refs" / "heads" / "main").unlink()
    (repository / "packed-refs").write_text(f"{COMMIT} refs/heads/other\n" * 1_000_000)
    before = time.process_time()
    assert described() == {"folder": str(repository.parent), "branch": "main", "commit": None}
    assert time.process_time() - before < 0.5


def test_a_program_in_a_deleted_folder_has_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for arguments in ([], [""], ["program.py"]):
        monkeypatch.setattr(sys, "argv", arguments)
        assert code.repository_of_program() is None


def test_a_commit_is_seen_by_the_next_look(repository: Path) -> None:
    assert described()["commit"] == COMMIT
    (repository / "refs" / "heads" / "main").write_text("9" * 40)
    assert described()["commit"] == "9" * 40


@pytest.mark.parametrize(
    ("config", "remote"),
    [
        ('[submodule "lib"]\n\turl = https://host/lib.git\n', None),
        ('[remote "origin"] # ours\n url = "https://host/a.git" ; theirs\n', "https://host/a.git"),
        ('[remote "a"]\nurl=https://host/a\n[remote "b"]\nurl=https://host/b\n', None),
        (
            '[remote "a"]\nurl=x\n[remote "b"]\nurl=https://host/b\n[branch "main"]\nremote = b\n',
            "https://host/b",
        ),
        ('[url "https://token@host/"]\ninsteadOf = gh:\n[remote "origin"]\nurl = gh:a\n', "gh:a"),
        ('[remote "origin"]\nurl = https://oauth2:gl-secret@host/a.git\n', "https://***@host/a.git"),
    ],
    ids=["submodule", "quoted", "several", "of the branch", "insteadOf", "credentials"],
)
def test_the_remote_is_that_of_the_repository_as_its_configuration_has_it(
    repository: Path, config: str, remote: str | None
) -> None:
    (repository / "config").write_text(config)
    assert described().get("remote") == remote


def test_the_current_folder_counts_if_the_script_lies_in_no_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(sys, "argv", [str(elsewhere / "program.py")])
    monkeypatch.chdir(elsewhere)
    assert code.repository_of_program() is None
    monkeypatch.chdir(repository.parent)
    assert described()["commit"] == COMMIT
