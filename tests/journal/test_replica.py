"""Replicas hold whole records, each at its position, however often and in whatever chunks they come."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov import records
from flowprov.journal import Identity, Journal
from flowprov.journal.format import find_journals, lines
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
from tests.support import lines_of, of_type, only, run, wait_until


def _journal(folder: Path, **settings: Any) -> Journal:
    return Journal(JournalSettings(path=str(folder), **settings), Identity(campaign_id="c", hostname="h"))


def _line(text: str) -> bytes:
    return records.encode(records.Task(task_id=1, activity_id=text))


def _fetch(journal: Path, replica: Path, limit: int) -> None:
    """Fetch all chunks that can be copied now."""
    done = journal_state(journal) != "open"
    while chunk := next_chunk(
        journal, replica_state(replica) if replica.exists() else ReplicaState(), limit, done=done
    ):
        assert len(chunk.data) <= max(limit, 4096)
        assert append_chunks(replica, [chunk], 0)


@given(
    texts=st.lists(st.text(max_size=200), min_size=1, max_size=20),
    fetches=st.sets(st.integers(0, 20)),
    limit=st.integers(2500, 5000),
    writer=st.sampled_from(["mapped", "write"]),
)
def test_a_replica_of_a_growing_journal_is_its_beginning_and_in_the_end_equal_to_it(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], fetches: set[int], limit: int, writer: str
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    journal, replica = _journal(folder / "a", writer=writer), folder / "replica.jsonl"
    for number, text in enumerate(texts):
        journal.append(_line(text))
        assert journal.path is not None
        if number in fetches:
            _fetch(journal.path, replica, limit)
            assert journal.path.read_bytes().startswith(replica.read_bytes())
            assert len(list(lines(replica.read_bytes()))) == number + 2
    journal.close()
    assert journal.path is not None
    _fetch(journal.path, replica, limit)
    assert replica.read_bytes() == journal.path.read_bytes()


def test_a_replica_leaves_out_the_padding_of_a_killed_writer(tmp_path: Path) -> None:
    journal, replica = _journal(tmp_path, writer="mapped"), tmp_path / "replica"
    journal.append(_line("a"))
    assert journal.path is not None
    chunk = next_chunk(journal.path, ReplicaState(), 1 << 20, done=True)
    assert chunk is not None
    assert append_chunks(replica, [chunk], 0)
    assert replica.read_bytes() == journal.path.read_bytes().rstrip(b"\0")
    journal.close()


def test_the_reserved_slot_of_a_full_journal_reaches_the_replica(tmp_path: Path) -> None:
    journal, replica = _journal(tmp_path, max_bytes=8192), tmp_path / "replica.jsonl"
    for _ in range(200):
        journal.append(_line("full"))
    assert journal.path is not None
    _fetch(journal.path, replica, 4096)
    for _ in range(3):
        journal.write_heartbeat()
        _fetch(journal.path, replica, 4096)
    journal.close()
    _fetch(journal.path, replica, 4096)
    footer = of_type(lines_of(replica), records.Footer)[0]
    assert footer.dropped == {"max_bytes": 200 - footer.written}
    assert replica.read_bytes() == journal.path.read_bytes().rstrip(b"\0")


def test_a_chunk_that_another_process_has_added_already_is_skipped(tmp_path: Path) -> None:
    replica = tmp_path / "replica"
    for _ in range(2):
        assert append_chunks(replica, [Chunk(0, b"one\n"), Chunk(4, b"two\n")], 0)
        assert append_chunks(replica, [Chunk(4, b"two\n"), Chunk(12, b"four\n")], 0)
    assert replica.read_bytes() == b"one\ntwo\n"


def test_a_journal_that_its_own_writer_has_locked_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not append_chunks(path, [Chunk(0, b"one\n")], 0)
    assert path.read_bytes() == b""


def test_a_full_disk_leaves_the_replica_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica, write = tmp_path / "replica", os.pwrite
    assert append_chunks(replica, [Chunk(0, b"one\n")], 0)
    written: list[int] = []

    def full(descriptor: int, data: Any, position: int) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(position)
        return write(descriptor, bytes(data)[:2], position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        append_chunks(replica, [Chunk(4, b"two\n")], 0)
    assert replica.read_bytes() == b"one\n"


def test_a_replica_is_alive_as_long_as_its_writer_is_expected(tmp_path: Path) -> None:
    journal, replica = _journal(tmp_path / "a"), tmp_path / "h" / "1-a.jsonl"
    journal.append(_line("a"))
    assert journal.path is not None
    _fetch(journal.path, replica, 4096)

    def alive() -> bool:
        summary = summarize(replica)
        assert summary is not None
        return summary.alive

    assert not alive()
    expect_writer_until(replica, 60)
    assert (alive(), journal_state(replica)) == (True, "open")
    expect_writer_until(replica, 0)
    assert (alive(), journal_state(replica)) == (False, "gone")
    journal.close()


def test_a_journal_that_is_written_here_is_no_replica(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.append(_line("a"))
    assert journal.path is not None
    journal.close()
    assert not is_writer_expected(journal.path)


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("days", [-365, 1, 36_500])
def test_the_time_of_a_file_does_not_make_a_killed_process_alive(
    tmp_path: Path, days: int, writer: str
) -> None:
    code = """
        import os, sys
        import flowprov

        workflow = flowprov.workflow("W", campaign_id="c1")
        workflow.start()
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    """
    run(code, tmp_path, status=-9, env={"FLOWPROV__JOURNAL__WRITER": writer})
    path = only(find_journals(tmp_path))
    at = time.time_ns() + days * 86_400 * 1_000_000_000
    os.utime(path, ns=(at, at))
    assert journal_state(path) == "gone"
    (row,) = flowprov.read_buffer(path, return_df=False)
    assert row["status"] == "INTERRUPTED"


def test_the_mark_of_a_replica_goes_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "h" / "1-a.jsonl"
    append_chunks(path, [Chunk(0, b"one\n")], 60)
    assert is_writer_expected(path)
    assert find_journals(tmp_path) == [path], "the mark is no journal"
    expect_writer_until(path, 0.001)
    wait_until(lambda: not is_writer_expected(path))
    expect_writer_until(path, 60)
    expect_writer_until(path, 0)
    assert not is_writer_expected(path)
    assert append_chunks(path, [Chunk(4, records.encode(records.Footer(at=1, captured=0, written=0)))], 60)
    assert list(path.parent.iterdir()) == [path]


def test_a_journal_that_is_closed_as_idle_continues_in_a_new_file_and_each_file_is_complete(
    tmp_path: Path,
) -> None:
    journal = _journal(tmp_path)
    journal.close_if_idle()  # nothing was written yet
    files = []
    for text in ("a", "b"):
        journal.append(_line(text))
        files.append((journal.path, journal.journal_id))
        journal.close_if_idle()
    journal.append(_line("c"))
    journal.close()
    files.append((journal.path, journal.journal_id))
    assert len(set(files)) == 3
    for path, journal_id in files:
        assert path is not None
        (header,), (footer,) = (of_type(lines_of(path), kind) for kind in (records.Header, records.Footer))
        assert (header.journal_id, footer.captured, footer.written) == (journal_id, 1, 1)


def test_a_task_that_began_in_an_earlier_file_keeps_its_id(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    number = journal.next_number()
    journal.append(_line("a"))
    before = journal.full_id(number)
    journal.close_if_idle()
    assert journal.full_id(number) == before
    assert journal.full_id(journal.next_number()).startswith(journal.journal_id)
