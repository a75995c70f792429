"""Whatever happens to the bytes of a journal, untouched lines are read and all other bytes are reported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov import records
from flowprov.journal.summary import summarize
from flowprov.read import Buffer
from flowprov.records import Record
from tests.journal.support import JournalContents, header, payloads, read_journal, step

DEEP = 100_000  # JSON nested this deep is an error on every Python; Python 3.13 reads a depth of 4,000

# How a stretch of the file is replaced: flipped or overwritten, inserted, deleted.
edits = st.tuples(
    st.floats(0, 1),
    st.integers(0, 400),
    st.one_of(
        st.binary(max_size=60),
        st.integers(1, 5_000).map(lambda n: b"\0" * n),
        st.integers(1, 50).map(lambda n: b" " * n),
        st.sampled_from([b"\n", b"\n\n\0\n", b"{", b"}\n{", b"[" * 3_000, b'{"type":"task","task_id":1}']),
    ),
)


def _read(data: bytes, folder: str) -> JournalContents:
    path = Path(folder) / "c1" / "node-1" / "99-j1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    summarize(path)
    list(Buffer(path).records())
    return read_journal(path)


@settings(max_examples=100)
@given(used=st.lists(payloads, min_size=1, max_size=12), edit=edits)
def test_every_untouched_line_is_still_read(
    used: list[dict[str, object]], edit: tuple[float, int, bytes]
) -> None:
    lines = [records.encode(header())]
    lines += [records.encode(step(number, number, used=payload)) for number, payload in enumerate(used)]
    data = b"".join(lines)
    where, length, new = edit
    begin = int(where * len(data))
    end = min(begin + length, len(data))
    with tempfile.TemporaryDirectory() as folder:
        contents = _read(data[:begin] + new + data[end:], folder)
    untouched: list[Record] = []
    offset = 0
    for line in lines:
        if offset + len(line) <= begin or (offset > end and offset > 0):
            untouched.append(records.decode(line))
        offset += len(line)
    rest = iter(contents.records)
    assert all(record in rest for record in untouched), "read, and in order"


@settings(max_examples=200)
@given(data=st.lists(st.binary(max_size=40) | st.just(b"\0" * 90) | st.just(b"{}"), max_size=30))
def test_any_bytes_are_read_and_accounted_for(data: list[bytes]) -> None:
    whole = b"\n".join(data)
    with tempfile.TemporaryDirectory() as folder:
        contents = _read(whole, folder)
    for damage in (*contents.damages, *filter(None, [contents.unfinished])):
        assert whole[damage.offset : damage.offset + damage.length].strip(b"\0 \n")
    reported = sum(damage.length for damage in contents.damages)
    reported += contents.unfinished.length if contents.unfinished else 0
    blank = sum(byte in b"\0 \t\n\r\v\f" for byte in whole)  # padding around a line is no damage
    assert contents.records == []
    assert reported + blank >= len(whole)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"type":"task","task_id":',
        b'{"type":"task","task_id":"\xff"}',
        b'{"type":"task"}',
        b'{"type":"task","task_id":[]}',
        b'{"type":"task","task_id":1,"used":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"type":"task","task_id":1}{"type":"task","task_id":2}',
        b"null",
        b"plain words",
    ],
    ids=["torn", "UTF-8", "field missing", "wrong type", "too deep", "merged lines", "no object", "no JSON"],
)
def test_a_damaged_line_is_reported_with_its_offset(tmp_path: Path, bad: bytes) -> None:
    before = records.encode(header()) + records.encode(step(0))
    with tempfile.TemporaryDirectory() as folder:
        contents = _read(before + b"\0\0 \n" + bad + b"\n" + records.encode(step(1)), folder)
    assert contents.records[1:] == [step(0), step(1)]
    (damage,) = contents.damages
    assert (damage.offset, damage.length) == (len(before) + 4, len(bad))
    assert damage.path.name == "99-j1.jsonl"
    assert damage.reason


def test_a_newline_that_was_lost_to_padding_does_not_cost_the_lines_beside_it() -> None:
    start = records.encode(header())
    first, second, third = (records.encode(step(number)) for number in range(3))
    with tempfile.TemporaryDirectory() as folder:
        contents = _read(start + first[:-1] + b"\0" * 40 + second[30:] + third, folder)
    assert contents.records[1:] == [step(0), step(2)]
    assert [damage.length for damage in contents.damages] == [len(second) - 31]
