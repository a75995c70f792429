"""The contract of every sink: delivered entries are stored once, in order and unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowprov.sinks.base import Sink, batched
from tests.sinks.kinds import Kind, at_positions, new_header, numbered

LINES = st.lists(
    st.one_of(st.binary(min_size=1), st.text(min_size=1).map(lambda text: text.encode("utf-8", "replace"))),
    max_size=30,
)


def test_delivered_entries_are_stored_in_order(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), numbered(2500)
    assert sink.resume_after(header) is None
    assert kind.stored(uri, header.journal_id) == []
    sink.deliver(header, sent)
    assert sink.resume_after(header) == sent[-1].position
    assert kind.stored(uri, header.journal_id) == sent
    assert kind.stored(uri, header.journal_id, sent[-3].position) == sent[-2:]


def test_delivering_again_changes_nothing(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), numbered(30)
    for batch in (sent, sent, sent[:10], sent[5:6]):
        sink.deliver(header, batch)
    assert kind.stored(uri, header.journal_id) == sent
    assert sink.resume_after(header) == sent[-1].position


def test_batches_may_overlap(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), numbered(50)
    for begin in range(0, 50, 10):
        sink.deliver(header, sent[max(0, begin - 7) : begin + 10])
    assert kind.stored(uri, header.journal_id) == sent


def test_another_sink_continues_where_the_first_ended(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), numbered(20)
    sink.deliver(header, sent[:9])
    other = kind.sink(uri, 20.0)
    assert other.resume_after(header) == sent[8].position
    other.deliver(header, sent[9:])
    assert kind.stored(uri, header.journal_id) == sent
    other.close()


def test_delivering_no_entries_stores_nothing(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), numbered(3)
    sink.deliver(header, [])
    assert sink.resume_after(header) is None
    sink.deliver(header, sent)
    sink.deliver(header, [])
    assert sink.resume_after(header) == sent[-1].position
    assert kind.stored(uri, header.journal_id) == sent


def test_journals_and_campaigns_are_kept_apart(kind: Kind, sink: Sink, uri: str) -> None:
    first, other = new_header(), new_header()
    second = new_header(first.campaign_id)
    for number, header in enumerate((first, second, other), 1):
        sink.deliver(header, numbered(number))
    assert kind.journals(uri, first.campaign_id) == sorted([first.journal_id, second.journal_id])
    assert kind.journals(uri, other.campaign_id) == [other.journal_id]
    assert [len(kind.stored(uri, header.journal_id)) for header in (first, second, other)] == [1, 2, 3]


def test_long_lines_are_stored_whole(kind: Kind, sink: Sink, uri: str) -> None:
    long = [letter * (2 << 20) for letter in (b"x", b"y", b"z")]
    header, sent = new_header(), at_positions(b"short", long[0], b"short", *long[1:], b"short")
    sink.deliver(header, sent)
    assert kind.stored(uri, header.journal_id) == sent


def test_positions_may_have_gaps(kind: Kind, sink: Sink, uri: str) -> None:
    header, sent = new_header(), at_positions(b"a", b"b", b"c", start=4096, gap=1 << 61)
    sink.deliver(header, sent)
    sink.deliver(header, sent[1:])
    assert kind.stored(uri, header.journal_id) == sent
    assert sink.resume_after(header) == sent[-1].position


# The fixtures are for all examples: each has a journal of its own.
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=LINES, repeated=st.integers(0, 30))
def test_any_bytes_are_stored_unchanged(
    kind: Kind, sink: Sink, uri: str, lines: list[bytes], repeated: int
) -> None:
    header, sent = new_header(), at_positions(*lines)
    sink.deliver(header, sent[:repeated])
    sink.deliver(header, sent)
    assert kind.stored(uri, header.journal_id) == sent
    assert sink.resume_after(header) == (sent[-1].position if sent else None)


@pytest.mark.parametrize("times", [1, 2])
def test_a_closed_sink_connects_again(kind: Kind, sink: Sink, uri: str, times: int) -> None:
    header, sent = new_header(), numbered(2)
    sink.deliver(header, sent[:1])
    for _ in range(times):
        sink.close()
    sink.deliver(header, sent)
    assert kind.stored(uri, header.journal_id) == sent


def test_a_forked_child_has_a_connection_of_its_own(kind: Kind, sink: Sink, uri: str, tmp_path: Path) -> None:
    header, sent = new_header(), numbered(3)
    sink.deliver(header, sent[:1])
    child = os.fork()
    if child == 0:
        try:
            sink.deliver(header, sent[:2])
            (tmp_path / "done").touch()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "done").exists()
    assert sink.resume_after(header) == sent[1].position
    sink.deliver(header, sent)
    assert kind.stored(uri, header.journal_id) == sent


@given(lines=st.lists(st.binary(max_size=12), max_size=20), most=st.integers(1, 5), size=st.integers(0, 30))
def test_entries_are_divided_without_loss_into_batches_that_are_small_enough(
    lines: list[bytes], most: int, size: int
) -> None:
    batch = at_positions(*lines)
    parts = list(batched(batch, most, size))
    assert [entry for part in parts for entry in part] == batch
    assert all(1 <= len(part) <= most for part in parts)
    assert all(len(part) == 1 or sum(len(entry.line) for entry in part) <= size for part in parts)
