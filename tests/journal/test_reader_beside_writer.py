"""A journal that is written while it is read: no read may skip a record that is written in between."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov import records
from flowprov.journal import reader as module
from flowprov.journal.format import is_padding
from flowprov.journal.reader import JournalReader
from tests.journal.support import header, step


class GrowingJournal:
    """A file of padding, into which records are written one after the other."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.lines = iter([records.encode(header()), *(records.encode(step(n, n)) for n in range(5_000))])
        self.written = 0
        self._position = 0
        path.write_bytes(b"\0" * size)

    def write(self, count: int) -> None:
        """Write further records."""
        with self.path.open("r+b") as file:
            file.seek(self._position)
            for _ in range(count):
                self._position += file.write(next(self.lines))
        self.written += count


def test_padding_that_is_filled_between_two_reads_of_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SIZE", 64 * 1024)
    journal = GrowingJournal(tmp_path / "99-j1.jsonl", size=1 << 20)
    journal.write(10)
    reading = JournalReader(journal.path, 0, records.decode).read()
    read = [next(reading)]
    journal.write(4_900)
    read += reading
    assert len(read) == journal.written


class _ModuleWith:
    """A module with some functions replaced."""

    def __init__(self, module: object, **replaced: object) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


@settings(max_examples=200)
@given(
    begin=st.integers(1, 30),
    moments=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40)), max_size=40),
    size=st.integers(0, 60_000),
)
def test_reads_that_are_interrupted_by_writes_give_each_record_once_in_order(
    begin: int, moments: list[tuple[float, int]], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        journal = GrowingJournal(Path(folder) / "99-j1.jsonl", size)
        journal.write(begin)
        patch.setattr(module, "BLOCK_SIZE", 4_096)
        interruptions = iter(moments)

        def pread(descriptor: int, length: int, offset: int) -> bytes:
            share, count = next(interruptions, (0.0, 0))
            first = os.pread(descriptor, int(share * length), offset)
            journal.write(count)
            return first + os.pread(descriptor, length - len(first), offset + len(first))

        patch.setattr(module, "os", _ModuleWith(os, pread=pread))
        reader = JournalReader(journal.path, 0, records.decode)
        read = list(reader.read())
        for _ in interruptions:
            pass
        read += reader.read()
    assert len(read) == journal.written
    assert [record.task_id for _, record in read[1:] if isinstance(record, records.Task)] == list(
        range(journal.written - 1)
    )
    assert reader.damages == []


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 70_000, b"\0" * ((1 << 20) + 1)])
def test_padding_is_distinguished_from_records(data: bytes) -> None:
    assert is_padding(data) is (len(data) <= 1 << 20)
    assert not is_padding(data + b"{")
    assert not is_padding(b"{" + data)
