"""From a journal's lines to messages that stand by themselves.

Flows in: one journal. Flows out: its records with values restored and, of tasks and workflows, with ids in
full and with what the header says of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from flowprov import records
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.records import Correction, Header, Record, Task, Workflow
from flowprov.values import restore

R = TypeVar("R", bound=Record)

_RESTORED = (
    "used",
    "generated",
    "custom_metadata",
    "telemetry_at_start",
    "telemetry_at_end",
    "machine_info",
    "settings",
    "code_repository",
    "values",
    "changes",
)


def reader_of(journal: JournalSummary, position: int = 0) -> JournalReader[Record]:
    """Open a journal for reading with values restored; one that was gathered elsewhere meanwhile is empty."""
    return JournalReader(journal.path, position, decode_restored, missing_ok=True)


def records_of(journal: JournalSummary) -> Iterator[Record]:
    """Give all records of a journal with values restored."""
    return map(itemgetter(1), reader_of(journal).read())


def only(journal: JournalSummary, kind: type[R]) -> Iterator[R]:
    """Give the records of one kind of a journal, with values restored; other lines are not decoded."""
    beginning = b'{"type":"%s"' % str(kind.__struct_config__.tag).encode()

    def decode(line: bytes) -> Record | None:
        return decode_restored(line) if line.startswith(beginning) else None

    for _, record in JournalReader(journal.path, 0, decode, missing_ok=True).read():
        if isinstance(record, kind):
            yield record


def decode_restored(line: bytes) -> Record:
    """Decode a line; marks that lose nothing become Python values again."""
    record = records.decode(line)
    if b"$" in line:  # every mark begins with one, and most lines have none
        given: dict[str, Any] = {
            name: restore(value) for name in _RESTORED if (value := getattr(record, name, None)) is not None
        }
        return msgspec.structs.replace(record, **given)
    return record


def complete(record: Task | Workflow | Correction, header: Header) -> Task | Workflow | Correction:
    """Fill in what the header of its journal says of a record."""
    if isinstance(record, Task):
        return records.complete_task(record, header)
    if isinstance(record, Workflow):
        return records.complete_workflow(record, header)
    full = records.full_id(record.task_id, header.journal_id, header.ancestors, header.first_number)
    return msgspec.structs.replace(record, task_id=full)
