"""A file that DVC keeps is found by its md5: in the versions of workflows, else in the history of git."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

import flowprov
from tests.support import run
from tests.versioning.conftest import GitRepository, repository

__all__ = ["repository"]

pytest.importorskip("pandas")

PROGRAM = """
    import flowprov
    with flowprov.workflow("cleaning", used={"lr": 0.1}):
        pass
"""
FIRST, SECOND = "a,b\n1,2\n", "a,b\n3,4\n"


def declare(repository: GitRepository, content: str) -> str:
    """Write data and what DVC declares of it; return the commit."""
    md5 = hashlib.md5(content.encode()).hexdigest()  # noqa: S324 - as DVC computes it
    (repository.folder / "data.csv").write_text(content)
    declared = f"outs:\n- md5: {md5}\n  size: {len(content)}\n  hash: md5\n  path: data.csv\n"
    return repository.commit(data__csv__dvc=declared, __gitignore="/data.csv\n/flowprov_buffer\n")


def test_a_copy_of_the_data_of_a_workflow_is_found(repository: GitRepository, tmp_path: Path) -> None:
    declare(repository, FIRST)
    run(PROGRAM, repository.folder)
    copied = tmp_path / "renamed.bin"
    copied.write_text(FIRST)
    found = flowprov.whence(copied, repository.folder / "flowprov_buffer")
    assert found is not None
    assert found.found_by == "dvc"
    assert "data.csv" in str(found)
    assert "cleaning" in str(found)
    assert {"wasGeneratedBy", "used"} & set(found.edges["relation"])
    assert "workflow" in set(found.nodes["type"])


def test_data_that_no_workflow_saw_is_found_in_the_history_of_git(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = declare(repository, FIRST)
    declare(repository, SECOND)
    run(PROGRAM, repository.folder)
    monkeypatch.chdir(repository.folder)
    old = tmp_path / "old.csv"
    old.write_text(FIRST)
    found = flowprov.whence(old, repository.folder / "flowprov_buffer")
    assert found is not None
    assert found.found_by == "dvc"
    assert first in str(found)


def test_what_nothing_declares_is_not_found_and_it_is_said_where_it_looked(
    repository: GitRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    declare(repository, FIRST)
    run(PROGRAM, repository.folder)
    other = tmp_path / "other"
    other.write_text("nobody knows it")
    with caplog.at_level(logging.WARNING):
        assert flowprov.whence(other, repository.folder / "flowprov_buffer") is None
    assert "DVC's md5" in caplog.text
