"""The md5 of files and folders is the one of DVC, for every folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from flowprov.versioning.dvc_digest import (
    MD5,
    MD5_DOS2UNIX,
    NotCountableError,
    OutOfTimeError,
    count_files,
    dvc_digest,
)
from tests.versioning.trees import (
    IGNORED_TABLE,
    TABLE,
    Result,
    make_all_ignored,
    make_tree,
    real_digests,
)


def ours(tree: Path) -> Result:
    return [one_of_ours(tree, name) for name in (MD5, MD5_DOS2UNIX)]


def one_of_ours(tree: Path, name: str) -> list[object] | None:
    try:
        counted = dvc_digest(tree, name)
    except NotCountableError:
        return None
    return [counted.md5, counted.size, counted.nfiles]


def test_the_folders_of_the_table_have_the_md5_that_dvc_gave_them(tmp_path: Path) -> None:
    table = json.loads(TABLE.read_text())
    for number, expected in enumerate(table):
        make_tree(tmp_path / str(number), number)
        assert ours(tmp_path / str(number)) == expected, number


def test_what_dvcignore_names_is_left_out_as_dvc_leaves_it_out(tmp_path: Path) -> None:
    expected = json.loads(IGNORED_TABLE.read_text())
    trees = make_all_ignored(tmp_path / "repository", 0)
    assert [ours(tree) for tree in trees] == expected
    assert len({str(one) for one in expected}) > len(expected) // 2
    outside = tmp_path / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / ".dvcignore").write_text("a\n")
    (outside / "data" / "a").write_text("a")
    assert dvc_digest(outside / "data").nfiles == 1  # that is no repository of DVC


def test_a_pattern_of_dvcignore_that_python_warns_of_warns_no_program(tmp_path: Path) -> None:
    for folder in (".dvc", "data"):
        (tmp_path / folder).mkdir()
    for name in "[ab":
        (tmp_path / "data" / name).write_text(name)
    (tmp_path / ".dvcignore").write_text("[[a]\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dvc_digest(tmp_path / "data").nfiles == 1


@pytest.mark.soak
def test_a_hundred_random_folders_have_the_md5_that_dvc_gives_them(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    installed = subprocess.run([python, "-m", "pip", "install", "-q", "dvc"], check=False)
    if installed.returncode:
        pytest.skip("DVC cannot be installed here")
    folder = tmp_path / "repository"
    first = time.time_ns() % 1_000_000
    trees = [folder / str(number) for number in range(first, first + 100)]
    for tree in trees:
        make_tree(tree, int(tree.name))
    expected = real_digests(python, folder, trees)
    for tree in trees:
        assert ours(tree) == expected[str(tree)], tree.name
    other = tmp_path / "with patterns"
    trees = make_all_ignored(other, first)
    expected = real_digests(python, other, trees)
    for tree in trees:
        assert ours(tree) == expected[str(tree)], (tree.parent / ".dvcignore").read_text()


def test_the_md5_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text\r\n")
    assert dvc_digest(tmp_path / "a").md5 == "95c4b15d60d25f7a65a23423ff75fa50"
    assert dvc_digest(tmp_path / "a", MD5_DOS2UNIX).md5 == "e1cbb0c3879af8347246f12c559a86b5"


def test_a_folder_that_holds_a_repository_of_dvc_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "a").write_text("a")
    assert dvc_digest(tmp_path).md5 == "d751713988987e9331980363e24189ce.dir"


def test_what_dvc_refuses_and_what_is_no_file_has_no_md5_and_blocks_nobody(tmp_path: Path) -> None:
    pipe, broken = tmp_path / "with pipe", tmp_path / "with broken link"
    pipe.mkdir()
    os.mkfifo(pipe / "x")
    broken.mkdir()
    (broken / "x").symlink_to("nowhere")
    for folder in (pipe, broken):
        with pytest.raises(NotCountableError):
            dvc_digest(folder)
        with pytest.raises(NotCountableError):
            count_files(folder, time.monotonic() + 9)
    (tmp_path / os.fsdecode(b"bad\xff")).write_text("")
    with pytest.raises(NotCountableError, match="UTF-8"):
        dvc_digest(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        dvc_digest(tmp_path / "pipe")


def test_more_than_there_is_time_for_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    for number in range(300):
        (tmp_path / f"{number}").touch()
    with pytest.raises(OutOfTimeError):
        dvc_digest(tmp_path, deadline=time.monotonic() - 1)
    with pytest.raises(OutOfTimeError):
        count_files(tmp_path, time.monotonic() - 1)
