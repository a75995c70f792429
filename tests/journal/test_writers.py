"""One contract for both writers: what was appended is in the file, whole and in order, whatever happens."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal import mmap_writer
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.format import lines
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.writer import JournalFull, Writer, choose_writer, file_system

Open = Callable[..., Writer]


def _open_mapped(path: Path, **options: Any) -> Writer:
    return MmapWriter(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), **options)


def _open_write(path: Path, max_bytes: int | None = None, **_: int) -> Writer:
    return AppendWriter(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL), max_bytes)


@pytest.fixture(params=[_open_mapped, _open_write], ids=["mapped", "write"])
def opened(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


def _numbered(count: int, width: int = 40) -> list[bytes]:
    return [b'{"n":%d,"fill":"%s"}\n' % (number, b"x" * (number % width)) for number in range(count)]


def _read(path: Path) -> list[bytes]:
    return [line + b"\n" for _, line in lines(path.read_bytes())]


def test_what_was_appended_is_in_the_file_before_it_is_closed(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path)
    wanted = _numbered(10)
    for line in wanted:
        writer.append(line)
    assert _read(path) == wanted
    writer.close()


def test_a_closed_file_holds_its_records_and_ends_after_the_last_one(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path)
    wanted = _numbered(10)
    for line in wanted:
        writer.append(line)
    writer.close()
    assert path.read_bytes() == b"".join(wanted)


def test_records_cross_many_segments_in_order(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path, first=mmap.PAGESIZE, largest=4 * mmap.PAGESIZE)
    wanted = _numbered(5_000)
    for number, line in enumerate(wanted):
        writer.append(line)
        if number % 100 == 0:
            writer.prepare()
    writer.close()
    assert _read(path) == wanted
    assert b"\0" not in path.read_bytes()


def test_nothing_is_written_behind_a_segment_before_its_rest_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    writer = MmapWriter(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), first=mmap.PAGESIZE)
    fill, tried = mmap_writer._fill, []

    def beside_another_thread(segment: mmap_writer.Segment) -> None:
        fill(segment)
        with pytest.raises(ValueError, match="out of range"):
            writer.fast_append(b'{"too":"early"}\n')
        tried.append(segment.offset)

    monkeypatch.setattr(mmap_writer, "_fill", beside_another_thread)
    wanted = _numbered(200)
    for line in wanted:
        writer.append(line)
    assert len(tried) >= 1
    assert _read(path) == wanted
    writer.close()


def test_a_record_larger_than_any_segment_is_kept_whole(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path, first=mmap.PAGESIZE, largest=mmap.PAGESIZE)
    wanted = [b"a\n", b"b" * 100_000 + b"\n", b"c\n"]
    for line in wanted:
        writer.append(line)
        writer.prepare()
    writer.close()
    assert _read(path) == wanted


def test_eight_threads_lose_and_mix_nothing(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path, first=mmap.PAGESIZE)

    def work(name: int) -> None:
        for number in range(2_000):
            writer.append(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        writer.prepare()
    for thread in threads:
        thread.join()
    writer.close()
    found = [tuple(map(int, line.split())) for line in _read(path)]
    for name in range(8):
        assert [number for who, number in found if who == name] == list(range(2_000))


def test_max_bytes_refuses_what_does_not_fit_and_keeps_what_does(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path, max_bytes=3 * mmap.PAGESIZE, first=mmap.PAGESIZE)
    wanted = []
    with pytest.raises(JournalFull) as full:
        for line in _numbered(100_000):
            writer.append(line)
            wanted.append(line)
    assert full.value.reason == "max_bytes"
    writer.close()
    assert _read(path) == wanted
    assert path.stat().st_size <= 3 * mmap.PAGESIZE


def test_appending_after_close_raises_and_changes_nothing(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path)
    writer.append(b"kept\n")
    writer.close()
    with pytest.raises(OSError, match=r"."):
        writer.append(b"late\n")
    assert path.read_bytes() == b"kept\n"


def test_abandoning_leaves_the_file_as_it_is(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = opened(path)
    writer.append(b"kept\n")
    before = path.read_bytes()
    writer.abandon()
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_and_keeps_what_was_appended(opened: Open, small_disk: Path) -> None:
    path = small_disk / "j"
    writer = opened(path)
    wanted = []
    with pytest.raises(JournalFull) as full:
        for line in _numbered(100_000):
            writer.append(line)
            wanted.append(line)
    assert full.value.reason == "disk_full"
    assert sum(map(len, wanted)) > 900_000, "most of the disk was used before it counted as full"
    writer.close()
    assert _read(path) == wanted


def test_the_writer_is_chosen_by_the_file_system(tmp_path: Path) -> None:
    wanted = "mapped" if file_system(tmp_path) in ("ext4", "xfs", "tmpfs") else "write"
    assert choose_writer("auto", tmp_path) == wanted
    assert choose_writer("write", tmp_path) == "write"
    assert choose_writer("mapped", Path("/proc")) == "mapped"
    assert choose_writer("auto", Path("/proc")) == "write"
