"""One contract for all writers: appended lines are in the file, whole and in order, whatever happens."""

from __future__ import annotations

import io
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov import threads
from flowprov.journal import mmap_writer, queued_writer
from flowprov.journal.append_writer import AppendWriter
from flowprov.journal.event_counts import EventCounts
from flowprov.journal.format import lines
from flowprov.journal.mmap_writer import MmapWriter
from flowprov.journal.own_file import OwnFile
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.journal.write_failures import JournalFull
from flowprov.journal.writer import NO_LIMITS, SizeLimits, Writer, choose_writer
from tests.support import PATIENCE_S, wait_until

Open = Callable[..., Writer]


def _open_mapped(path: Path, max_bytes: int | None = None, **options: Any) -> Writer:
    return MmapWriter(OwnFile(path), SizeLimits(max_bytes), **options)


def _open_write(path: Path, max_bytes: int | None = None, **_: int) -> Writer:
    return AppendWriter(OwnFile(path), SizeLimits(max_bytes))


def _open_queued(path: Path, max_bytes: int | None = None, **_: int) -> Writer:
    return QueuedWriter(OwnFile(path), SizeLimits(max_bytes), max_wait=60)


@pytest.fixture(params=[_open_mapped, _open_write, _open_queued], ids=["mapped", "write", "queued"])
def open_writer(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


def _numbered(count: int, width: int = 40) -> list[bytes]:
    return [b'{"n":%d,"fill":"%s"}\n' % (number, b"x" * (number % width)) for number in range(count)]


def _read(path: Path) -> list[bytes]:
    return [line + b"\n" for _, line in lines(path.read_bytes())]


def test_appended_lines_are_in_the_file_before_it_is_closed(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path)
    expected = _numbered(10)
    for line in expected:
        writer.append(line)
    assert _read(path) == expected
    writer.close()


def test_a_closed_file_holds_its_records_and_ends_after_the_last_one(
    open_writer: Open, tmp_path: Path
) -> None:
    path = tmp_path / "j"
    writer = open_writer(path)
    expected = _numbered(10)
    for line in expected:
        writer.append(line)
    writer.close()
    assert path.read_bytes() == b"".join(expected)


def test_records_cross_many_segments_in_order(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path, first=mmap.PAGESIZE, largest=4 * mmap.PAGESIZE)
    expected = _numbered(5_000)
    for number, line in enumerate(expected):
        writer.append(line)
        if number % 100 == 0:
            writer.prepare()
    writer.close()
    assert _read(path) == expected
    assert b"\0" not in path.read_bytes()


def test_nothing_is_written_behind_a_segment_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    writer = MmapWriter(OwnFile(path), first=mmap.PAGESIZE)
    fill, tried = mmap_writer._fill, []

    def beside_another_thread(segment: mmap_writer.Segment) -> int:
        end = fill(segment)
        with pytest.raises(ValueError, match="out of range"):
            writer.fast_append(b'{"too":"early"}\n')
        tried.append(segment.offset)
        return end

    monkeypatch.setattr(mmap_writer, "_fill", beside_another_thread)
    expected = _numbered(200)
    for line in expected:
        writer.append(line)
    assert len(tried) >= 1
    assert _read(path) == expected
    writer.close()


def test_a_record_larger_than_any_segment_is_kept_whole(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path, first=mmap.PAGESIZE, largest=mmap.PAGESIZE)
    expected = [b"a\n", b"b" * 100_000 + b"\n", b"c\n"]
    for line in expected:
        writer.append(line)
        writer.prepare()
    writer.close()
    assert _read(path) == expected


def test_eight_threads_lose_and_mix_nothing(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path, first=mmap.PAGESIZE)

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
    numbers = [tuple(map(int, line.split())) for line in _read(path)]
    for name in range(8):
        assert [number for who, number in numbers if who == name] == list(range(2_000))


def test_max_bytes_refuses_lines_that_do_not_fit_and_keeps_those_that_do(
    open_writer: Open, tmp_path: Path
) -> None:
    path = tmp_path / "j"
    writer = open_writer(path, max_bytes=3 * mmap.PAGESIZE, first=mmap.PAGESIZE)
    expected = []
    with pytest.raises(JournalFull) as full:
        for line in _numbered(100_000):
            writer.append(line)
            expected.append(line)
    assert full.value.reason == "max_bytes"
    writer.close()
    assert _read(path) == expected
    assert path.stat().st_size <= 3 * mmap.PAGESIZE


def test_appending_after_close_raises_and_changes_nothing(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path)
    writer.append(b"kept\n")
    writer.close()
    with pytest.raises(OSError, match=r"."):
        writer.append(b"late\n")
    assert path.read_bytes() == b"kept\n"


def test_abandoning_leaves_the_file_as_it_is(open_writer: Open, tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = open_writer(path)
    writer.append(b"kept\n")
    before = path.read_bytes()
    writer.abandon()
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_and_keeps_the_appended_lines(open_writer: Open, small_disk: Path) -> None:
    path = small_disk / "j"
    writer = open_writer(path)
    expected = []
    with pytest.raises(JournalFull) as full:
        for line in _numbered(100_000):
            writer.append(line)
            expected.append(line)
    assert full.value.reason == "disk_full"
    assert sum(map(len, expected)) > 900_000, "most of the disk was used before it counted as full"
    writer.close()
    assert _read(path) == expected


def _hanging(writer: QueuedWriter, monkeypatch: pytest.MonkeyPatch) -> threading.Lock:
    """Return a lock; the file of a queue does not answer while it is held."""
    write, hangs = writer._writer.append, threading.Lock()

    def hang(line: bytes) -> None:
        with hangs:
            write(line)

    monkeypatch.setattr(writer._writer, "append", hang)
    return hangs


def test_a_queue_that_is_full_refuses_lines_and_keeps_those_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued_writer, "MAX_QUEUED", 1000)
    writer = QueuedWriter(OwnFile(tmp_path / "j"), NO_LIMITS, max_wait=0.01)
    hangs = _hanging(writer, monkeypatch)
    hangs.acquire()
    expected = []
    with pytest.raises(JournalFull) as full:
        for line in _numbered(1000):
            writer.append(line)
            expected.append(line)
    assert full.value.reason == "queue_full"
    assert writer.read(1000, 0) == b"".join(expected), "what stands in memory is read as if it were written"
    hangs.release()
    writer.close()
    assert _read(tmp_path / "j") == expected


def test_events_are_counted_by_the_queue_while_the_file_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = QueuedWriter(OwnFile(tmp_path / "j"), NO_LIMITS, max_wait=0.01)
    hangs, counts = _hanging(writer, monkeypatch), EventCounts()
    counts.distrust()
    for number in range(6):
        if number == 3:
            wait_until(lambda: not writer._jobs)
            hangs.acquire()
        writer.append(b'{"type":"task","task_id":%d}\n' % (7 ** (9 * number)))
        writer.append(b'{"type":"heartbeat","at":1}\n')
        if number >= 3:
            assert counts.read(writer)[:2] == (number + 1, number + 1)
    hangs.release()
    wait_until(lambda: not writer._jobs)
    assert counts.read(writer)[:2] == (6, 6)
    writer.close()


def test_a_handler_that_appends_while_the_thread_of_a_queue_starts_does_not_wait_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = QueuedWriter(OwnFile(tmp_path / "j"), NO_LIMITS, max_wait=PATIENCE_S)
    start, nested, fallen_behind = threads.start_thread, [b"second\n"], []

    def interrupted(thread: threading.Thread) -> None:
        if nested:
            writer.append(nested.pop())
        start(thread)

    monkeypatch.setattr(queued_writer, "start_thread", interrupted)
    monkeypatch.setattr(writer, "_fall_behind", lambda: fallen_behind.append(True))
    writer.append(b"first\n")
    assert not fallen_behind
    writer.close()
    assert _read(tmp_path / "j") == [b"first\n", b"second\n"]


def test_nobody_is_given_mapped_memory_who_did_not_ask_for_it() -> None:
    assert [choose_writer(setting) for setting in ("auto", "write", "mapped")] == ["write", "write", "mapped"]


def test_a_second_thread_of_a_queue_writes_no_line_again(tmp_path: Path) -> None:
    writer = QueuedWriter(OwnFile(tmp_path / "j"), NO_LIMITS, max_wait=60)
    lines = [b"%d\n" % number for number in range(200)]
    writer.append(lines[0])
    writer._thread = None  # as where an exception from outside came before the first one said that it runs
    for line in lines[1:]:
        writer._wakes.put(None)
        writer.append(line)
    writer.close()
    assert (tmp_path / "j").read_bytes() == b"".join(lines)


def test_a_mapped_file_whose_handing_over_was_interrupted_has_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    writer = MmapWriter(OwnFile(tmp_path / "j"), NO_LIMITS)
    writer.append(b"first\n")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "ftruncate", interrupt)
        writer.write_plainly()
    with pytest.raises(io.UnsupportedOperation):
        writer.append(b"lost\n")
    assert writer.end() > 0
    plain = writer.write_plainly()
    plain.append(b"second\n")
    plain.close()
    assert _read(tmp_path / "j") == [b"first\n", b"second\n"]
