"""What DVC's files declare, whatever they are, and the state of the data beside them."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov.versioning.data_state import read_data_state
from flowprov.versioning.dvc_files import InvalidDvcFileError, declared_in
from tests.support import only

MD5 = "0123456789abcdef" * 2


def state_of(root: Path, *files: str, **options: Any) -> list[dict[str, Any]]:
    options = {"check": "stat", "deadline": time.monotonic() + 9, **options}
    return read_data_state(root, files, options.pop("deadline"), **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with data of two files in six bytes, and the file of DVC for it."""
    (tmp_path / "sub" / "data").mkdir(parents=True)
    (tmp_path / "sub" / "data" / "a").write_text("abc")
    (tmp_path / "sub" / "data" / "b").write_text("def")
    declare(tmp_path)
    return tmp_path


def declare(root: Path, **fields: object) -> None:
    out = {"md5": f"{MD5}.dir", "size": 6, "nfiles": 2, "hash": "md5", "path": "data", **fields}
    lines = [f"  {name}: {value}" for name, value in out.items() if value is not None]
    (root / "sub" / "data.dvc").write_text("\n".join(["outs:", "- " + lines[0].strip(), *lines[1:]]))


def test_data_of_the_declared_size_is_unchecked_and_of_another_is_modified(root: Path) -> None:
    found = only(state_of(root, "sub/data.dvc"))
    assert (found["file"], found["path"], found["role"]) == ("sub/data.dvc", "sub/data", "out")
    assert (found["hash"], found["md5"], found["state"]) == ("md5", f"{MD5}.dir", "unchecked")
    (root / "sub" / "data" / "b").write_text("defg")
    found = only(state_of(root, "sub/data.dvc"))
    assert (found["state"], found["size"], found["actual_size"]) == ("modified", 6, 7)
    (root / "sub" / "data" / "b").unlink()
    (root / "sub" / "data" / "a").write_text("123456")
    found = only(state_of(root, "sub/data.dvc"))
    assert (found["state"], found["nfiles"], found["actual_nfiles"]) == ("modified", 2, 1)


def test_a_digest_tells_data_that_matches_from_data_that_does_not(root: Path) -> None:
    found = only(state_of(root, "sub/data.dvc", check="digest"))
    assert found["state"] == "modified"
    declare(root, md5=found["actual_md5"])
    assert only(state_of(root, "sub/data.dvc", check="digest"))["state"] == "matches"
    assert only(state_of(root, "sub/data.dvc", check="off"))["state"] == "unchecked"


def test_data_that_is_not_there_is_missing(root: Path) -> None:
    (root / "sub" / "data").rename(root / "elsewhere")
    assert only(state_of(root, "sub/data.dvc"))["state"] == "missing"


def test_what_changed_after_the_moment_is_unchecked(root: Path) -> None:
    changed = root / "sub" / "data" / "a"
    changed.write_text("abcd")
    moment = changed.stat().st_mtime_ns
    assert only(state_of(root, "sub/data.dvc", moment=moment + 10**9))["state"] == "modified"
    found = only(state_of(root, "sub/data.dvc", moment=moment))
    assert (found["state"], found["reason"]) == ("unchecked", "it changed after the workflow had begun")
    (root / "sub" / "data").rename(root / "gone")
    assert only(state_of(root, "sub/data.dvc", moment=moment))["state"] == "unchecked"


def test_an_invalid_file_says_so_and_costs_nothing_else(root: Path) -> None:
    (root / "bad.dvc").write_text("outs: [\n")
    (root / "empty.dvc").write_text("")
    os.mkfifo(root / "pipe.dvc")
    found = state_of(root, "bad.dvc", "empty.dvc", "pipe.dvc", "gone.dvc", "sub/data.dvc")
    assert [one["file"] for one in found] == ["bad.dvc", "empty.dvc", "pipe.dvc", "gone.dvc", "sub/data.dvc"]
    assert all(one["reason"].startswith("invalid: ") for one in found[:4])
    assert found[4]["md5"] == f"{MD5}.dir"


def test_all_scalars_are_text(tmp_path: Path) -> None:
    digits = "12345678901234567890123456789012"
    (tmp_path / "a.dvc").write_text(f"outs:\n- md5: {digits}\n  size: 1_0\n  hash: md5\n  path: 1e-5\n")
    found = only(declared_in(tmp_path / "a.dvc", tmp_path))
    assert (found["md5"], found["path"], found["size"]) == (digits, "1e-5", None)


def test_a_file_of_dvc_2_has_another_kind_of_md5(tmp_path: Path) -> None:
    (tmp_path / "a.dvc").write_text(
        f"md5: {'f' * 32}\nwdir: ..\nouts:\n- md5: {MD5}\n  size: 3\n  path: r/d\n"
    )
    found = only(declared_in(tmp_path / "a.dvc", tmp_path.parent))
    assert (found["hash"], found["md5"], found["path"]) == ("md5-dos2unix", MD5, "r/d")


def test_imports_name_the_commit_from_which_they_come(tmp_path: Path) -> None:
    (tmp_path / "a.dvc").write_text(
        f"""
frozen: true
deps:
- path: there/a
  repo:
    url: https://user:secret@host/r.git
    rev_lock: {"9" * 40}
outs:
- md5: {MD5}
  hash: md5
  path: a
"""
    )
    (tmp_path / "b.dvc").write_text(
        "deps:\n- etag: '\"abc\"'\n  path: s3://key:secret@bucket/b\nouts:\n- path: b\n  push: false\n"
    )
    imported = only(declared_in(tmp_path / "a.dvc", tmp_path))
    assert (imported["path"], imported["rev_lock"]) == ("a", "9" * 40)
    assert imported["url"] == "https://***@host/r.git"
    by_url = only(declared_in(tmp_path / "b.dvc", tmp_path))
    assert (by_url["path"], by_url["etag"], by_url["md5"]) == ("b", '"abc"', None)
    assert "secret" not in by_url["url"]


def test_files_with_versions_in_the_cloud_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.dvc").write_text(
        """
outs:
- path: a
  files:
  - {relpath: x, size: 2, cloud: {s3: {version_id: v1}}}
  - {relpath: y, size: 3, cloud: {s3: {version_id: v2}}}
- path: one
  cloud:
    s3: {version_id: v3, etag: e}
"""
    )
    several, one = declared_in(tmp_path / "a.dvc", tmp_path)
    assert (several["nfiles"], several["size"]) == (2, 5)
    assert (one["version_id"], one["etag"]) == ("v3", "e")


LOCK = f"""
schema: '2.0'
stages:
  train@0:
    cmd: python train.py
    deps:
    - path: in
      hash: md5
      md5: {MD5}
      size: 3
    params: {{params.yaml: {{lr: 0.1}}}}
    outs:
    - path: out
      md5: {MD5}
      size: 9
"""


def test_stages_of_a_lock_file_are_read_with_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "dvc.yaml").write_text("stages: {train: {foreach: [1], do: {wdir: work, cmd: x}}}")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "in").write_text("abcd")
    out, dep = state_of(tmp_path, "dvc.lock")
    assert (out["path"], out["role"], out["stage"]) == ("work/out", "out", "train@0")
    assert (out["hash"], out["state"]) == ("md5-dos2unix", "missing")
    assert (dep["path"], dep["role"], dep["hash"], dep["state"]) == ("work/in", "dep", "md5", "modified")
    monkeypatch.setenv("DVC_STAGE", "train@0")
    running = state_of(tmp_path, "dvc.lock")[1]
    assert (running["state"], running["actual_size"]) == ("unchecked", 4)
    assert "stage is running" in running["reason"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 50_000,
        "a: &a [x, x]\nb: &b [*a, *a]\nouts: [*b]",
        "outs: {path: x}",
        "outs:\n- [1]",
        "outs:\n- md5: 1",
        "!!python/object/apply:os.system [touch /tmp/never]",
        "stages: 3",
        "\0",
        "outs:\n- path: " + "x" * 5_000_000,
    ],
    ids=range(10),
)
def test_hostile_files_are_invalid(tmp_path: Path, text: str) -> None:
    for name in ("a.dvc", "dvc.lock"):
        (tmp_path / name).write_text(text)
        with contextlib.suppress(InvalidDvcFileError):
            assert declared_in(tmp_path / name, tmp_path) == []


@given(st.text() | st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(max_examples=60)
def test_no_document_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, document: object) -> None:
    import yaml

    folder = tmp_path_factory.mktemp("any", numbered=True)
    text = document if isinstance(document, str) else yaml.safe_dump({"outs": [document], "deps": document})
    for name in ("a.dvc", "dvc.lock"):
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(InvalidDvcFileError):
            declared_in(folder / name, folder)
