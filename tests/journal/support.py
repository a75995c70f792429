"""Journals made for tests: by the journal itself, and by hand, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from flowprov import records
from flowprov.journal import Identity, Journal
from flowprov.journal.reader import Damage, JournalReader, read_header
from flowprov.records import Header, Record, Task
from flowprov.settings import JournalSettings

NS = 1_000_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
payloads = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def open_journal(folder: Path, writer: str = "mapped", campaign_id: str = "c1", sync: str = "off") -> Journal:
    """Make a journal that nobody looks after."""
    settings = JournalSettings(path=str(folder), writer=writer, sync=sync)  # type: ignore[arg-type]
    return Journal(settings, Identity(campaign_id=campaign_id, hostname="node-1"))


def header(journal_id: str = "j1", campaign_id: str = "c1", **fields: object) -> Header:
    """Make a header of a process that is gone."""
    given = {"schema": 1, "hostname": "node-1", "pid": 99, "started_at": NS, "monotonic_ns": 0, **fields}
    return Header(journal_id=journal_id, campaign_id=campaign_id, **given)  # type: ignore[arg-type]


def write(folder: Path, first: Header, *written: Record) -> Path:
    """Write a journal at its place in a buffer folder."""
    path = folder / first.campaign_id / first.hostname / f"{first.pid}-{first.journal_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(records.encode, (first, *written))))
    return path


def step(number: int | str, at: int = 1, **fields: object) -> Task:
    """Make a task that ran from second ``at`` for one second."""
    given = {"started_at": at * NS, "ended_at": (at + 1) * NS, "status": "FINISHED", **fields}
    return Task(task_id=number, **given)  # type: ignore[arg-type]


class JournalContents(NamedTuple):
    """A journal that was read as a whole.

    Attributes
    ----------
    path
        The journal.
    header
        Its header; made from the file's place where it was lost.
    records
        All its records in order, header and footer among them.
    damages
        What could not be read.
    unfinished
        What follows the last complete line: on its way while the writer lives, torn when it is gone.
    position
        Where to go on reading.
    """

    path: Path
    header: Header
    records: list[Record]
    damages: list[Damage]
    unfinished: Damage | None
    position: int


def read_journal(path: Path, start: int = 0) -> JournalContents:
    """Read a journal as a whole.

    Parameters
    ----------
    path
        The journal.
    start
        Where to begin, in bytes: 0, or the ``position`` of contents that were read before.

    Raises
    ------
    OSError
        If the file cannot be opened or read; nothing in its content raises.
    """
    reader: JournalReader[Record] = JournalReader(path, start)
    found = [record for _, record in reader.read()]
    header = next((record for record in found if type(record) is Header), None) or read_header(path)
    return JournalContents(path, header, found, reader.damages, reader.unfinished, reader.position)
