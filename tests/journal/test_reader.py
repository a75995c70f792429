"""Written records are read back; a journal that grows, is cut or is torn is read as far as it is whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov import records
from flowprov.journal import reader as reader_module
from flowprov.journal.format import padding_line
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import summarize
from flowprov.records import Campaign, Footer, Header, Heartbeat, Task
from tests.journal.support import NS, header, open_journal, payloads, read_journal, step, texts, write

plain_tasks = st.builds(
    Task,
    task_id=st.integers(0, 10**9) | texts,
    activity_id=st.none() | texts,
    status=st.sampled_from(["FINISHED", "ERROR", "RUNNING"]),
    used=st.none() | payloads,
    generated=st.none() | payloads,
    started_at=st.none() | st.integers(0, 2**62),
    tags=st.none() | st.lists(texts, max_size=3),
)


@pytest.mark.parametrize("writer", ["mapped", "write"])
@settings(max_examples=40)
@given(written=st.lists(plain_tasks, min_size=1, max_size=20), close=st.booleans())
def test_any_records_are_read_back_equal_and_in_order(
    writer: str, written: list[Task], *, close: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder), writer)
        for task in written:
            journal.append(records.encode(task))
        if close:
            journal.close()
        assert journal.path is not None
        contents = read_journal(journal.path)
        journal.close()
    assert [record for record in contents.records if type(record) is Task] == written
    assert contents.header.journal_id == journal.journal_id
    assert not contents.damages
    assert contents.unfinished is None
    assert isinstance(contents.records[-1], Footer) == close


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_a_reader_of_a_growing_journal_continues_where_it_stopped(tmp_path: Path, writer: str) -> None:
    journal = open_journal(tmp_path, writer)
    journal.append(records.encode(step(0)))
    assert journal.path is not None
    reader: JournalReader[records.Record] = JournalReader(journal.path)
    seen: list[int | str] = []
    for number in range(1, 3_000):  # through several segments of the mapped writer
        journal.append(records.encode(step(number, used={"text": "x" * (number % 200)})))
        if number % 500 == 0:
            seen += [record.task_id for _, record in reader.read() if type(record) is Task]
    journal.close()
    rest = [record for _, record in reader.read()]
    seen += [record.task_id for record in rest if type(record) is Task]
    assert seen == list(range(3_000))
    assert isinstance(rest[-1], Footer)
    assert not reader.damages


def test_another_reader_continues_behind_the_last_record_that_was_yielded(tmp_path: Path) -> None:
    path = write(tmp_path, header(), *map(step, range(5)))
    reader: JournalReader[records.Record] = JournalReader(path)
    first = []
    for _, record in reader.read():
        first.append(record)
        if len(first) == 3:
            break
    rest = [record for _, record in JournalReader[records.Record](path, reader.position).read()]
    assert [r.task_id for r in (*first, *rest) if type(r) is Task] == [0, 1, 2, 3, 4]


def test_a_file_that_loses_its_padding_while_it_is_read_gives_all_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK_SIZE", 256)
    path = write(tmp_path, header(), *map(step, range(50)))
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0" * 100_000)
    reader: JournalReader[records.Record] = JournalReader(path)
    reading = reader.read()
    read = [next(reading)[1]]
    os.truncate(path, whole)
    read += [record for _, record in reading]
    assert [r.task_id for r in read if type(r) is Task] == list(range(50))


def test_a_last_line_without_a_newline_is_unfinished_and_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    size = path.stat().st_size
    line = records.encode(step(1))
    with path.open("ab") as file:
        file.write(line[:20] + b"\0" * 5_000)
    contents = read_journal(path)
    assert [type(record) for record in contents.records] == [Header, Task]
    assert not contents.damages
    assert contents.unfinished is not None
    assert (contents.unfinished.offset, contents.unfinished.length) == (size, 20)
    with path.open("r+b") as file:
        file.seek(size)
        file.write(line)
    assert read_journal(path, contents.position).records == [step(1)]


def test_records_longer_than_a_block_and_padding_across_blocks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK_SIZE", 64)
    long = step(0, used={"text": "x" * 1_000})
    path = write(tmp_path, header(), long)
    with path.open("ab") as file:
        file.write(padding_line(500) + b"\0" * 500 + records.encode(step(1)) + b"\0" * 500 + b" \n")
        file.write(records.encode(step(2)))
    contents = read_journal(path)
    assert contents.records[1:] == [long, step(1), step(2)]
    assert not contents.damages


def test_a_footer_in_the_reserved_slot_is_found(tmp_path: Path) -> None:
    footer = Footer(at=5 * NS, captured=3, written=2, dropped={"disk_full": 1})
    line = records.encode(footer)
    path = tmp_path / "1-j.jsonl"
    start = records.encode(header()) + line + padding_line(2_048 - len(line))
    path.write_bytes(start + records.encode(step(0)) + b"\0" * 10_000)
    assert footer in read_journal(path).records
    summary = summarize(path)
    assert summary is not None
    assert summary.footer == footer
    assert not summary.alive


@pytest.mark.parametrize("start", [b"", b'{"type":"header","schema"\n', b"\xff\xfe rubbish\n"])
def test_a_journal_without_its_header_is_known_by_its_path(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "campaign-7" / "node-3" / "4711-abc.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(start + records.encode(step(5)))
    contents = read_journal(path)
    assert contents.records == [step(5)]
    assert contents.header.campaign_id == "campaign-7"
    assert contents.header.hostname == "node-3"
    assert contents.header.pid == 4711
    assert contents.header.journal_id == "abc"


def test_lines_of_a_newer_version_and_repeated_keys_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, header(schema=7))
    with path.open("ab") as file:
        file.write(b'{"type":"task","task_id":1,"task_id":2,"colour":{"deep":[1]}}\n')
        file.write(b'{"type":"hologram","at":1}\n')
    contents = read_journal(path)
    assert contents.records[1:] == [Task(task_id=2)]
    assert [damage.reason.partition(":")[0] for damage in contents.damages] == [
        "no record that this version knows"
    ]


def test_the_time_of_the_last_record_is_found_before_megabytes_of_padding(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0, at=10), Heartbeat(at=70 * NS), step(1, at=50))
    with path.open("ab") as file:
        file.write(b'{"type":"task","task_id":9' + b"\0" * 3_000_000)
    summary = summarize(path)
    assert summary is not None
    assert summary.last_at == 70 * NS
    assert summary.footer is None


def test_a_file_without_a_record_has_no_summary(tmp_path: Path) -> None:
    path = tmp_path / "1-a.jsonl"
    for content in (b"", b"\0" * 5_000, b"hello\nworld\n", b'{"type":"header"'):
        path.write_bytes(content)
        assert summarize(path) is None
    assert summarize(tmp_path / "2-b.jsonl") is None


def test_a_journal_is_alive_while_its_writer_holds_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(records.encode(step(0)))
    journal.name_campaign(Campaign(campaign_id="c1", name="first"))
    assert journal.path is not None
    before, contents = summarize(journal.path), read_journal(journal.path)
    journal.close()
    after = summarize(journal.path)
    assert before is not None
    assert after is not None
    assert (before.alive, after.alive) == (True, False)
    assert Campaign(campaign_id="c1", name="first") in contents.records


def test_a_footer_that_is_written_while_a_journal_is_summarized_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header(), step(0))
    footer = Footer(at=9 * NS, captured=1, written=1, open=["w"])

    def end(*_: object) -> bool:  # the writer closes its file between two looks
        path.write_bytes(path.read_bytes() + records.encode(footer))
        return True

    monkeypatch.setattr("flowprov.journal.liveness.writer_is_gone", end)
    summary = summarize(path)
    assert summary is not None
    assert summary.footer == footer
    assert not summary.alive
