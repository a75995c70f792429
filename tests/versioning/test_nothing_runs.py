"""Nothing that a repository brings along runs, is written to it, or is fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowprov.environment.repository import find_repository
from flowprov.versioning.code_state import deadline_in, read_code_state
from tests.support import clean_environment
from tests.versioning.conftest import GitRepository

_HOOKS = ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout", "pre-commit")


@pytest.fixture
def hostile(repository: GitRepository, tmp_path: Path) -> tuple[GitRepository, Path]:
    """Return a repository that names programs wherever it can, and the file that each of them would write."""
    witness = tmp_path / "witness"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {witness}\nexec cat\n')
    program.chmod(0o755)
    repository.commit(t__txt="text\n", m__bin="0", u__py="1")
    for hook in _HOOKS:
        path = repository.folder / ".git" / "hooks" / hook
        path.write_text(program.read_text())
        path.chmod(0o755)
    settings = {
        "core.fsmonitor": str(program),
        "diff.external": str(program),
        "diff.x.command": str(program),
        "diff.x.textconv": str(program),
        "filter.a.b.clean": str(program),
        "filter.a.b.required": "true",
        "filter.p.process": str(program),
        "core.pager": str(program),
        "core.editor": str(program),
        "core.sshCommand": str(program),
        "core.alternateRefsCommand": str(program),
        "credential.helper": str(program),
        "gpg.program": str(program),
        "alias.status": f"!{program}",
        "status.submoduleSummary": "true",
        "diff.submodule": "log",
        "remote.origin.url": f"ext::{program} %S",
        "remote.origin.uploadpack": str(program),
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
        "core.repositoryFormatVersion": "1",
    }
    for name, value in settings.items():
        repository.git("config", name, value)
    attributes = "*.txt filter=a.b diff=x\n*.bin filter=p diff=x\n*.py diff=x\n"
    (repository.folder / ".git" / "info").mkdir(exist_ok=True)
    (repository.folder / ".git" / "info" / "attributes").write_text(attributes)
    for name in ("t.txt", "m.bin", "u.py", "a.py"):
        (repository.folder / name).write_text("changed\n")
    witness.unlink(missing_ok=True)
    return repository, witness


def test_no_program_of_the_repository_runs(hostile: tuple[GitRepository, Path]) -> None:
    repository, witness = hostile
    index = (repository.folder / ".git" / "index").read_bytes()
    files = sorted(repository.folder.rglob("*"))
    state = read_code_state(find_repository(repository.folder), deadline_in(20), patch=True)
    assert not witness.exists(), witness.read_text()
    assert state.described["dirty"] is True
    assert state.described["changed"] == 2  # of the two under filters nothing is known
    assert (repository.folder / ".git" / "index").read_bytes() == index
    assert sorted(repository.folder.rglob("*")) == files


def test_the_programs_would_run_without_our_settings(hostile: tuple[GitRepository, Path]) -> None:
    repository, witness = hostile
    subprocess.run(["git", "diff", "HEAD"], cwd=repository.folder, capture_output=True, check=False)
    assert witness.exists()


def test_a_missing_object_is_not_fetched(hostile: tuple[GitRepository, Path]) -> None:
    repository, witness = hostile
    blob = repository.git("rev-parse", "HEAD:u.py")
    witness.unlink(missing_ok=True)
    (repository.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    state = read_code_state(find_repository(repository.folder), deadline_in(20))
    assert not witness.exists(), witness.read_text()
    assert state.described["dirty"] is True
    assert state.described["diff_sha256"] is None
    assert "patch is not known" in state.described["reason"]


def test_filters_of_a_submodule_do_not_run(hostile: tuple[GitRepository, Path], tmp_path: Path) -> None:
    _, witness = hostile
    library = GitRepository(tmp_path / "library")
    library.commit(l__txt="1\n")
    outer = GitRepository(tmp_path / "outer")
    outer.commit(o__py="")
    outer.git("submodule", "add", "-q", str(library.folder), "lib")
    outer.commit()
    inner = GitRepository.__new__(GitRepository)
    inner.folder = outer.folder / "lib"
    inner.git("config", "filter.f.clean", str(tmp_path / "program"))
    inner.git("config", "core.fsmonitor", str(tmp_path / "program"))
    (outer.folder / ".git" / "modules" / "lib" / "info").mkdir(exist_ok=True)
    (outer.folder / ".git" / "modules" / "lib" / "info" / "attributes").write_text("*.txt filter=f\n")
    (inner.folder / "l.txt").write_text("2\n")
    witness.unlink(missing_ok=True)
    found = read_code_state(find_repository(outer.folder), deadline_in(20)).described
    assert not witness.exists(), witness.read_text()
    assert found["dirty"] is None
    assert "submodule lib" in found["reason"]


def test_a_filter_that_cannot_be_switched_off_leaves_all_unknown(repository: GitRepository) -> None:
    repository.git("config", "filter.a=b.clean", "false")
    found = read_code_state(find_repository(repository.folder), deadline_in(20)).described
    assert (found["state"], found["dirty"]) == ("failed", None)
    assert "cannot be switched off" in found["reason"]


def test_variables_that_lead_elsewhere_do_not_count(repository: GitRepository, tmp_path: Path) -> None:
    other = GitRepository(tmp_path / "other")
    commit = other.commit(o__py="")
    code = (
        "import sys; from pathlib import Path; from flowprov.environment.repository import find_repository\n"
        "from flowprov.versioning.code_state import *\n"
        "print(read_code_state(find_repository(Path(sys.argv[1])), deadline_in(20)).described['commit'])"
    )
    led = {"GIT_DIR": f"{other.folder}/.git", "GIT_WORK_TREE": str(other.folder), "GIT_INDEX_FILE": "/x"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(repository.folder)],
        env=clean_environment(**led, GIT_EXTERNAL_DIFF="/nonexistent"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == repository.git("rev-parse", "HEAD") != commit
