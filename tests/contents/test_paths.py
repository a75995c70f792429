"""Digests of files and folders: by content alone, with what cannot be read said."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from flowprov.contents import folders, paths, reading
from flowprov.contents.reading import Reading, StoppedError
from flowprov.contents.stat_cache import STAT_CACHE
from tests.contents.files import read, sha256
from tests.values.secret_samples import SAMPLES


def test_the_digest_of_a_file_is_that_of_sha256sum(tmp_path: Path) -> None:
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        data = os.urandom(size)
        (tmp_path / "file").write_bytes(data)
        content = read(tmp_path / "file")
        assert (content.state, content.sha256, content.size) == ("digested", sha256(data), size)


def test_the_digest_of_a_folder_is_that_of_its_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "sub" / "ä.txt").write_bytes(b"one")
    (folder / ".hidden").write_bytes(b"")
    (tmp_path / "elsewhere").write_bytes(b"two")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "nowhere").symlink_to(tmp_path / "not there")
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    content = read(folder)
    expected = [[".hidden", 0, sha256(b"")], ["link", 3, sha256(b"two")], ["sub/ä.txt", 3, sha256(b"one")]]
    assert content.sha256 == sha256(json.dumps(expected, separators=(",", ":")).encode())
    assert [list(member) for member in content.members or ()] == expected
    assert (content.state, content.size) == ("digested", 6)


def test_a_folder_is_the_same_wherever_it_lies_and_in_whatever_order_it_was_written(tmp_path: Path) -> None:
    for name, order in (("a", "xyz"), ("b", "zyx")):
        (tmp_path / name).mkdir()
        for letter in order:
            (tmp_path / name / letter).write_text(letter)
    assert read(tmp_path / "a").sha256 == read(tmp_path / "b").sha256
    (tmp_path / "b" / "w").write_text("")
    assert read(tmp_path / "a").sha256 != read(tmp_path / "b").sha256


def test_names_that_are_no_utf8_have_a_digest(tmp_path: Path) -> None:
    name = b"bad-\xff.bin"
    descriptor = os.open(os.fsencode(tmp_path) + b"/" + name, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"x")
    os.close(descriptor)
    content = read(tmp_path)
    assert content.state == "digested"
    assert content.listed_members() == [("bad-\\xff.bin", 1, sha256(b"x"))]


def test_a_secret_in_the_name_of_a_member_is_not_listed_and_the_digest_is_that_of_the_names(
    tmp_path: Path,
) -> None:
    name = f"{SAMPLES['hugging-face']}.bin"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(b"x")
    content = read(tmp_path / "folder")
    assert content.listed_members() == [("***.bin", 1, sha256(b"x"))]
    assert content.sha256 == sha256(f'[["{name}",1,"{sha256(b"x")}"]]'.encode())


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    else:
        path = Path("/dev/zero")
    content = read(path)
    assert content.state == "unreadable"
    assert kind in (content.reason or "")


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    assert read(tmp_path / "none").state == "missing"
    assert read(tmp_path / "none" / "inner").state == "missing"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert read(tmp_path / "circle").state == "unreadable"
    assert read(tmp_path / "nul\0").state == "unreadable"
    assert read(tmp_path / ("x" * 300)).state == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="ROOT READS EVERYTHING: run the tests as another user")
def test_what_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0)
    assert read(tmp_path / "file").state == "unreadable"


def test_a_sparse_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(50 << 30)
    content = read(tmp_path / "huge", max_bytes=1 << 30)
    assert (content.state, content.size, content.read_bytes) == ("skipped", 50 << 30, 0)
    content = read(tmp_path, max_bytes=1 << 30)
    assert (content.state, content.size) == ("skipped", 50 << 30)


def test_reading_a_sparse_file_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(StoppedError):
        paths.read_path(str(tmp_path / "huge"), Reading(stop=lambda: True))


def test_a_file_that_changes_once_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    passes = []
    actual = reading._pass

    def changing(*arguments: object) -> object:
        result = actual(*arguments)  # type: ignore[arg-type]
        passes.append(result)
        if len(passes) == 1:
            path.write_bytes(b"afterwards")
        return result

    monkeypatch.setattr(reading, "_pass", changing)
    assert read(path).sha256 == sha256(b"afterwards")
    assert len(passes) == 2


def test_a_file_that_keeps_changing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    actual = reading._pass

    def changing(*arguments: object) -> object:
        result = actual(*arguments)  # type: ignore[arg-type]
        with path.open("ab") as file:
            file.write(b"x")
        return result

    monkeypatch.setattr(reading, "_pass", changing)
    content = read(path)
    assert (content.state, content.sha256) == ("changed_while_read", None)


def test_a_folder_that_changes_while_it_is_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0").write_bytes(b"x")
    actual, calls = folders.list_files, []

    def growing(*arguments: object) -> object:
        calls.append(arguments)
        (tmp_path / str(len(calls))).write_bytes(b"x")
        return actual(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "list_files", growing)
    assert read(tmp_path).state == "changed_while_read"


def test_a_file_of_a_folder_that_goes_away_leaves_the_folder_without_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    listed = folders.list_files(str(tmp_path))
    monkeypatch.setattr(folders, "list_files", lambda *_: listed)
    (tmp_path / "file").unlink()
    content = read(tmp_path)
    assert (content.state, content.sha256) == ("changed_while_read", None)


def test_a_file_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (1, 1))
    STAT_CACHE.clear()
    first = read(path)
    path.chmod(0o644)
    os.utime(path, (1, 1))
    path.write_bytes(b"another")  # of the same size
    os.utime(path, (1, 1))  # and with the same mtime, but its ctime tells
    assert read(path).sha256 != first.sha256
    assert read(path) is read(path)


def test_a_file_that_changed_just_now_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read(path) is not read(path)


def test_a_very_deep_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(200):
        folder = folder / "d"
        folder.mkdir()
    (folder / "file").write_bytes(b"x")
    assert read(tmp_path).state == "digested"
