"""Decode the lines of a journal into records that stand by themselves.

Flows in: one journal. Flows out: its records, with markers turned back into Python values. Records of tasks
and workflows can be completed: with full ids, and with the fields that only the header has.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from flowprov import records
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.records import Correction, Header, Record, Task, Workflow, prefix_of
from flowprov.values import restore_object

R = TypeVar("R", bound=Record)

_RESTORED_FIELDS = (
    "used",
    "generated",
    "custom_metadata",
    "telemetry_at_start",
    "telemetry_at_end",
    "machine_info",
    "settings",
    "code_repository",
    "orchestrator",
    "values",
    "changes",
)


def reader_of(journal: JournalSummary, position: int = 0) -> JournalReader[Record]:
    """Return a reader of a journal that restores values; a journal that no longer exists reads as empty."""
    return JournalReader(journal.path, position, decode_restored, missing_ok=True)


def records_of(journal: JournalSummary) -> Iterator[Record]:
    """Return all records of a journal, with values restored."""
    return map(itemgetter(1), reader_of(journal).read())


def records_of_kind(journal: JournalSummary, kind: type[R]) -> Iterator[R]:
    """Yield a journal's records of one kind, with values restored; other lines are not decoded."""
    prefix = prefix_of(kind)

    def decode(line: bytes) -> Record | None:
        return decode_restored(line) if line.startswith(prefix) else None

    for _, record in JournalReader(journal.path, 0, decode, missing_ok=True).read():
        if isinstance(record, kind):
            yield record


def decode_restored(line: bytes) -> Record:
    """Return the record of a line; markers that hold the whole value become Python values again."""
    record = records.decode(line)
    # Every marker begins with a dollar sign, and most lines have none.
    return restore_record(record) if b"$" in line else record


def restore_record(record: R) -> R:
    """Return a record in which markers that hold the whole value are Python values again."""
    restored: dict[str, Any] = {
        name: restore_object(value)
        for name in _RESTORED_FIELDS
        if (value := getattr(record, name, None)) is not None
    }
    return msgspec.structs.replace(record, **restored)


def complete_record(record: Task | Workflow | Correction, header: Header) -> Task | Workflow | Correction:
    """Return a record with full ids and with the fields that its journal's header holds for all records."""
    if isinstance(record, Task):
        return records.complete_task(record, header)
    if isinstance(record, Workflow):
        return records.complete_workflow(record, header)
    full = header.full_id(record.task_id)
    return msgspec.structs.replace(record, task_id=full)
