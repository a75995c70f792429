"""What stands in the place of a journal need not be one: a reader is neither held up nor filled up by it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov import records
from flowprov.journal import format as journal_format
from flowprov.journal import reader as reader_module
from flowprov.journal import summary as summary_module
from flowprov.journal.reader import MAX_LINE, JournalReader, read_head
from flowprov.journal.replica import replica_state
from flowprov.journal.summary import summarize
from flowprov.records import Footer
from tests.journal.support import NS, header, read_journal, step, write

_MIB = 1 << 20


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is read from files from now on."""
    sizes: list[int] = []
    real = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        data = real(descriptor, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", pread)
    return sizes


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [_fifo, _socket, Path.mkdir, _device, _loop])
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "1-j.jsonl"
    make(path)
    for read in (summarize, read_head, replica_state, read_journal):
        with pytest.raises(OSError, match=r"no regular file|symbolic links"):
            read(path)


def test_a_link_to_a_journal_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    (tmp_path / "2-link.jsonl").symlink_to(path)
    assert len(read_journal(tmp_path / "2-link.jsonl").records) == 2


def test_the_hole_of_a_sparse_file_is_not_read(tmp_path: Path, bytes_read: list[int]) -> None:
    path = write(tmp_path, header(), step(0))
    os.truncate(path, 20 << 30)
    with path.open("ab") as file:
        file.write(b"\n" + records.encode(step(1)))
    os.truncate(path, 40 << 30)
    summary = summarize(path)
    assert summary is not None
    assert summary.last_at == 2 * NS
    assert [type(record).__name__ for record in read_journal(path).records] == ["Header", "Task", "Task"]
    assert sum(bytes_read) < 400 * _MIB


def test_a_hole_and_nothing_else_is_an_empty_journal(tmp_path: Path, bytes_read: list[int]) -> None:
    path = tmp_path / "1-j.jsonl"
    path.touch()
    os.truncate(path, 1 << 40)
    assert summarize(path) is None
    assert read_journal(path).records == []
    assert sum(bytes_read) < 400 * _MIB


@pytest.mark.parametrize("end", [b"\n", b"\0" * 100, b""], ids=["newline", "padding", "end of file"])
def test_a_line_that_is_too_long_is_damage_and_is_not_kept(tmp_path: Path, end: bytes) -> None:
    path = write(tmp_path, header(), step(0))
    begin = path.stat().st_size
    with path.open("ab") as file:
        for _ in range(4 * MAX_LINE // _MIB):
            file.write(b"[" * _MIB)
        file.write(end)
        if end:
            file.write(records.encode(step(1)))
    tracemalloc.start()
    contents = read_journal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(d.offset, d.length) for d in contents.damages] == [(begin, 4 * MAX_LINE)]
    assert contents.records[2:] == ([step(1)] if end else [])
    assert contents.unfinished is None
    assert peak < 3 * MAX_LINE


def test_a_follower_reads_a_line_without_an_end_once(tmp_path: Path, bytes_read: list[int]) -> None:
    path = write(tmp_path, header())
    with path.open("ab") as file:
        file.write(b"x" * (3 * MAX_LINE))
    reader: JournalReader[records.Record] = JournalReader(path)
    assert len(list(reader.read())) == 1
    first = sum(bytes_read)
    with path.open("ab") as file:
        file.write(b"x" * 100)
    assert list(reader.read()) == []
    assert sum(bytes_read) - first < _MIB
    with path.open("ab") as file:
        file.write(b"x\n" + records.encode(step(7)))
    assert [record for _, record in reader.read()] == [step(7)]
    assert [damage.length for damage in reader.damages] == [3 * MAX_LINE + 101]


@pytest.mark.parametrize(
    "tail",
    [
        b"x" * MAX_LINE,
        b'{"type":"task","task_id":"' + b"x" * (15 * _MIB) + b'"}\n',
        b"{\n" * 4_000_000,
        b"\n" * MAX_LINE,
    ],
    ids=["torn", "long", "short lines", "blank lines"],
)
def test_the_end_of_a_journal_is_read_in_time_that_its_length_bounds(
    tmp_path: Path, bytes_read: list[int], tail: bytes
) -> None:
    path = write(tmp_path, header(), step(0))
    with path.open("ab") as file:
        file.write(tail)
    decoded = 0

    def decode(line: bytes) -> records.Record:
        nonlocal decoded
        decoded += 1
        return records.decode(line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_module, "decode", decode)
        summary = summarize(path)
    assert summary is not None
    assert summary.header.journal_id == "j1"
    assert sum(bytes_read) < 4 * len(tail) + _MIB
    assert decoded < 100


def test_a_footer_before_much_padding_is_found(tmp_path: Path) -> None:
    for padding in (b"\0" * (9 * _MIB), b"\n" * (9 * _MIB), b"\0\n" * _MIB):
        for shift in (
            0,
            1,
            2,
        ):  # the newline of the footer lies in this block, or is the first of the next one
            path = write(tmp_path, header(), step(0, used={"x": "y" * (64 * 1024 + shift)}))
            rest = -path.stat().st_size % (64 * 1024) - 1
            footer = records.encode(Footer(at=9 * NS, captured=1, written=1))
            path.write_bytes(path.read_bytes() + b" " * (rest - len(footer)) + b"\n" + footer + padding)
            summary = summarize(path)
            assert summary is not None
            assert summary.footer is not None


def test_very_many_damaged_places_are_counted_and_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path, header())
    begin = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"x\n" * 200_000)
    contents = read_journal(path)
    assert len(contents.damages) == 1_000
    last = contents.damages[-1]
    assert last.reason == "199001 damaged places"
    assert last.offset + last.length == begin + 399_999


def test_damage_does_not_repeat_what_a_line_says(tmp_path: Path) -> None:
    path = write(tmp_path, header())
    with path.open("ab") as file:
        file.write(b'{"type":"' + b"y" * _MIB + b'"}\n')
    (damage,) = read_journal(path).damages
    assert len(damage.reason) <= 200


def test_lines_that_alternate_with_padding_are_read_a_few_times(
    tmp_path: Path, bytes_read: list[int]
) -> None:
    path = write(tmp_path, header())
    with path.open("ab") as file:
        file.write(b"{}\0" * _MIB)
    read_journal(path)
    assert sum(bytes_read) < 8 * path.stat().st_size


def test_a_file_that_shrinks_while_it_is_read_is_read_to_its_new_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK_SIZE", 4_096)
    path = write(tmp_path, header(), *map(step, range(1_000)))
    reading = JournalReader(path, 0, records.decode).read()
    read = [next(reading) for _ in range(10)]
    os.truncate(path, 20_000)
    read += reading
    assert 10 < len(read) < 1_000


def test_a_file_that_grows_as_fast_as_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header(), *map(step, range(10)))
    line = records.encode(step(99))
    real = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        data = real(descriptor, length, offset)
        with path.open("ab") as file:
            file.write(line * (len(data) // len(line) + 2))
        return data

    monkeypatch.setattr(os, "pread", pread)
    assert len(list(JournalReader(path, 0, records.decode).read())) == 11


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that this process may not list, inside one that it may."""
    base = Path(tempfile.mkdtemp())  # pytest's folders are private: another user cannot get through them
    base.chmod(0o755)
    closed = base / "c1" / "node-1"
    closed.mkdir(parents=True)
    closed.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield closed
    finally:
        os.seteuid(user)
        closed.chmod(0o755)
        shutil.rmtree(base)


def test_a_folder_that_cannot_be_listed_is_named(closed_folder: Path) -> None:
    journals, unlisted = journal_format.scan_journals(closed_folder.parent)
    assert journals == []
    assert unlisted == {closed_folder: "Permission denied"}


def test_journals_below_two_thousand_folders_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1_500):
        Path("d").mkdir()
        os.chdir("d")
    write(Path(), header())
    os.chdir(tmp_path)
    try:
        assert len(journal_format.scan_journals(Path())[0]) == 1
    finally:
        subprocess.run(["rm", "-rf", "d"], check=True)  # pytest removes folders by recursion
