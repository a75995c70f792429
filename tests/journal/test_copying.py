"""Copies of journals: whole records, each at its position, however often and in what pieces they come."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov import records
from flowprov.journal import Identity, Journal
from flowprov.journal.format import lines
from flowprov.journal.liveness import expect_writer_until, is_writer_expected
from flowprov.journal.replica import (
    Chunk,
    ReplicaState,
    append_chunks,
    journal_state,
    next_chunk,
    replica_state,
)
from flowprov.journal.summary import summarize
from flowprov.settings import JournalSettings
from tests.support import lines_of, of_type


def _journal(folder: Path, **settings: Any) -> Journal:
    return Journal(JournalSettings(path=str(folder), **settings), Identity(campaign_id="c", hostname="h"))


def _line(text: str) -> bytes:
    return records.encode(records.Task(task_id=1, activity_id=text))


def _fetch(journal: Path, copy: Path, limit: int) -> None:
    """Fetch all that can be had now."""
    done = journal_state(journal) != "open"
    while piece := next_chunk(
        journal, replica_state(copy) if copy.exists() else ReplicaState(), limit, done=done
    ):
        assert len(piece.data) <= max(limit, 4096)
        assert append_chunks(copy, [piece], 0)


@given(
    texts=st.lists(st.text(max_size=200), min_size=1, max_size=20),
    fetches=st.sets(st.integers(0, 20)),
    limit=st.integers(2500, 5000),
    writer=st.sampled_from(["mapped", "write"]),
)
def test_a_copy_that_is_fetched_while_its_journal_grows_is_a_beginning_of_it_and_equal_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], fetches: set[int], limit: int, writer: str
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    journal, copy = _journal(folder / "a", writer=writer), folder / "copy.jsonl"
    for number, text in enumerate(texts):
        journal.append(_line(text))
        assert journal.path is not None
        if number in fetches:
            _fetch(journal.path, copy, limit)
            assert journal.path.read_bytes().startswith(copy.read_bytes())
            assert len(list(lines(copy.read_bytes()))) == number + 2
    journal.close()
    assert journal.path is not None
    _fetch(journal.path, copy, limit)
    assert copy.read_bytes() == journal.path.read_bytes()


def test_of_a_writer_that_was_killed_the_room_it_had_reserved_is_left_out(tmp_path: Path) -> None:
    journal, copy = _journal(tmp_path, writer="mapped"), tmp_path / "copy"
    journal.append(_line("a"))
    assert journal.path is not None
    piece = next_chunk(journal.path, ReplicaState(), 1 << 20, done=True)
    assert piece is not None
    assert append_chunks(copy, [piece], 0)
    assert copy.read_bytes() == journal.path.read_bytes().rstrip(b"\0")
    journal.close()


def test_what_is_written_behind_the_header_of_a_full_journal_reaches_the_copy(tmp_path: Path) -> None:
    journal, copy = _journal(tmp_path, max_bytes=8192), tmp_path / "copy.jsonl"
    for _ in range(200):
        journal.append(_line("full"))
    assert journal.path is not None
    _fetch(journal.path, copy, 4096)
    for _ in range(3):
        journal.write_heartbeat()
        _fetch(journal.path, copy, 4096)
    journal.close()
    _fetch(journal.path, copy, 4096)
    footer = of_type(lines_of(copy), records.Footer)[0]
    assert footer.dropped == {"max_bytes": 200 - footer.written}
    assert copy.read_bytes() == journal.path.read_bytes().rstrip(b"\0")


def test_a_piece_that_another_process_was_quicker_to_add_is_passed_over(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for _ in range(2):
        assert append_chunks(copy, [Chunk(0, b"one\n"), Chunk(4, b"two\n")], 0)
        assert append_chunks(copy, [Chunk(4, b"two\n"), Chunk(12, b"four\n")], 0)
    assert copy.read_bytes() == b"one\ntwo\n"


def test_a_journal_that_its_own_writer_holds_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not append_chunks(path, [Chunk(0, b"one\n")], 0)
    assert path.read_bytes() == b""


def test_a_disk_that_takes_no_more_leaves_the_copy_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, write = tmp_path / "copy", os.pwrite
    assert append_chunks(copy, [Chunk(0, b"one\n")], 0)
    written: list[int] = []

    def full(descriptor: int, data: Any, position: int) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(position)
        return write(descriptor, bytes(data)[:2], position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        append_chunks(copy, [Chunk(4, b"two\n")], 0)
    assert copy.read_bytes() == b"one\n"


def test_a_copy_is_alive_as_long_as_more_is_awaited(tmp_path: Path) -> None:
    journal, copy = _journal(tmp_path / "a"), tmp_path / "h" / "1-a.jsonl"
    journal.append(_line("a"))
    assert journal.path is not None
    _fetch(journal.path, copy, 4096)

    def alive() -> bool:
        found = summarize(copy)
        assert found is not None
        return found.alive

    assert not alive()
    expect_writer_until(copy, 60)
    assert (alive(), journal_state(copy)) == (True, "open")
    expect_writer_until(copy, 0)
    assert (alive(), journal_state(copy)) == (False, "gone")
    journal.close()


def test_a_journal_that_is_written_here_awaits_nothing(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.append(_line("a"))
    assert journal.path is not None
    journal.close()
    assert not is_writer_expected(journal.path)
    assert time.time_ns() >= journal.path.stat().st_mtime_ns


def test_a_journal_turns_to_a_new_file_and_both_are_complete(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.close_if_idle()  # nothing was written yet
    seen = []
    for text in ("a", "b"):
        journal.append(_line(text))
        seen.append((journal.path, journal.journal_id))
        journal.close_if_idle()
    journal.append(_line("c"))
    journal.close()
    seen.append((journal.path, journal.journal_id))
    assert len(set(seen)) == 3
    for path, journal_id in seen:
        assert path is not None
        (header,), (footer,) = (of_type(lines_of(path), kind) for kind in (records.Header, records.Footer))
        assert (header.journal_id, footer.captured, footer.written) == (journal_id, 1, 1)


def test_what_was_begun_before_a_journal_turned_keeps_its_id(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    number = journal.next_number()
    journal.append(_line("a"))
    before = journal.full_id(number)
    journal.close_if_idle()
    assert journal.full_id(number) == before
    assert journal.full_id(journal.next_number()).startswith(journal.journal_id)
