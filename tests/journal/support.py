"""Journals for tests: written by the journal itself, or by hand, byte for byte."""

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
    """Create a journal without maintenance."""
    settings = JournalSettings(path=str(folder), writer=writer, sync=sync)  # type: ignore[arg-type]
    return Journal(settings, Identity(campaign_id=campaign_id, hostname="node-1"))


class NoMaintenance:
    """Has no time yet to end the files that were left."""

    def watch(self, journal: Journal) -> None:
        """Do nothing: no file is looked after."""

    def forget(self, journal: Journal) -> None:
        """Do nothing: no file was looked after."""

    def wake(self) -> None:
        """Do nothing: there is no thread."""


def header(journal_id: str = "j1", campaign_id: str = "c1", **fields: object) -> Header:
    """Return the header of a process that is gone."""
    values = {"schema": 1, "hostname": "node-1", "pid": 99, "started_at": NS, "monotonic_ns": 0, **fields}
    return Header(journal_id=journal_id, campaign_id=campaign_id, **values)  # type: ignore[arg-type]


def write(folder: Path, first: Header, *written: Record) -> Path:
    """Write a journal at its path in a buffer folder; return the path."""
    path = folder / first.campaign_id / first.hostname / f"{first.pid}-{first.journal_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(records.encode, (first, *written))))
    return path


def step(number: int | str, at: int = 1, **fields: object) -> Task:
    """Return a task that ran from second ``at`` for one second."""
    values = {"started_at": at * NS, "ended_at": (at + 1) * NS, "status": "FINISHED", **fields}
    return Task(task_id=number, **values)  # type: ignore[arg-type]


class JournalContents(NamedTuple):
    """The content of a whole journal.

    Attributes
    ----------
    path
        The journal.
    header
        Its header; created from the file's path where it was lost.
    records
        All its records in order, header and footer included.
    damages
        Its damage.
    unfinished
        The bytes behind the last complete line: still being written while the writer lives, else torn.
    position
        Where another reader can continue.
    """

    path: Path
    header: Header
    records: list[Record]
    damages: list[Damage]
    unfinished: Damage | None
    position: int


def read_journal(path: Path, start: int = 0) -> JournalContents:
    """Read a whole journal.

    Parameters
    ----------
    path
        The journal.
    start
        Offset of the first byte to read: 0, or the ``position`` of contents that were read before.

    Raises
    ------
    OSError
        If the file cannot be opened or read; nothing in its content raises.
    """
    reader: JournalReader[Record] = JournalReader(path, start)
    read = [record for _, record in reader.read()]
    header = next((record for record in read if type(record) is Header), None) or read_header(path)
    return JournalContents(path, header, read, reader.damages, reader.unfinished, reader.position)
