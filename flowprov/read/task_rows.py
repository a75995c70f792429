"""The tasks of a campaign for a table: from Parquet files where they stand by themselves, else row by row.

Flows in: the journals of a campaign and their digests. Flows out: Parquet files whose tasks are rows as they
are, and the rows of all other tasks.

A task stands by itself if the record of its end tells everything: nothing else speaks of it, and its workflow
has one attempt. Most tasks do; those of Dask and of workflows that were started again do not. Few are spoken
of in several files of a process, and are rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import decode_restored, records_of
from flowprov.read.digest import Digest
from flowprov.read.in_place import JournalInPlace, read_in_place
from flowprov.read.parquet_files import parquet_path
from flowprov.read.rows import fold_campaign
from flowprov.read.stand_alone import StandAlone
from flowprov.read.task_files import TaskFiles
from flowprov.records import Correction, LeftOut, Record, Task

_DASK = "dask_task"


class TaskRows(NamedTuple):
    """The tasks of a campaign: rows; files with further ones, but for some among the rows; and journals."""

    rows: list[Task]
    files: list[Path]
    in_place: list[JournalInPlace]
    left_out: Collection[str] = ()


def read_tasks(
    journals: Sequence[JournalSummary],
    digests: Mapping[Path, Digest],
    without: Container[Path] = (),
    *,
    with_telemetry: bool = True,
    in_place: bool = True,
) -> TaskRows:
    """Return the tasks of a campaign.

    Parameters
    ----------
    journals, digests
        The journals, and the digests of those that have a Parquet file.
    without
        Parquet files that cannot be used.
    with_telemetry
        Whether the readings of the tasks are needed.
    in_place
        Whether duckdb may read journals that have no Parquet file.
    """
    usable = {
        path: digest
        for path, digest in digests.items()
        if parquet_path(path) not in without and not (with_telemetry and digest.telemetry)
    }
    if all(digest.plain for digest in digests.values()):
        others = [journal for journal in journals if journal.path not in usable]
        found = read_in_place(others, with_telemetry=with_telemetry) if in_place else {}
        files = [parquet_path(journal.path) for journal in journals if journal.path in usable]
        for in_journals in (found, {}) if found else ({},):
            rows = _unusual_rows(journals, usable, in_journals) if usable or in_journals else None
            if rows is not None:
                return rows._replace(files=files, in_place=list(in_journals.values()))
    folded = fold_campaign(((journal, records_of(journal)) for journal in journals), merge=True)
    return TaskRows([row for row in folded.rows if isinstance(row, Task)], [], [])


def _unusual_rows(
    journals: Sequence[JournalSummary],
    digests: Mapping[Path, Digest],
    in_place: Mapping[Path, JournalInPlace],
) -> TaskRows | None:
    """Return the tasks that do not stand by themselves; None if there is no telling them from the others."""
    shared = Counter(name for digest in digests.values() for name in digest.names.held_workflows)
    read = [
        journal
        for journal in journals
        if (digest := digests.get(journal.path)) is None
        or digest.unusual
        or any(shared[name] > 1 for name in digest.names.held_workflows)
    ]
    if not read:
        return TaskRows([], [], [])
    if any(journal.path not in digests for journal in read):
        read = list(journals)  # what is not closed may belong to the workflows of others
    files = {journal.path: digests[journal.path] for journal in read if journal.path in digests}
    lines = TaskFiles(files).lines(everything=True) if files else {}
    stand_alone = StandAlone()

    def records(journal: JournalSummary) -> Iterable[Record]:
        if journal.path in digests:
            return map(decode_restored, lines[journal.path])
        return in_place[journal.path].rest if journal.path in in_place else records_of(journal)

    watched = ((journal, _watched(journal, records(journal), stand_alone)) for journal in read)
    # These come last, when it is known which they are.
    of_others = ((read[0], TaskFiles(digests).tasks(others)) for others in (stand_alone.others,) if digests)
    folded = fold_campaign(chain(watched, of_others), merge=True)
    if not stand_alone or any(index.last > 1 for index in folded.attempts.values()):
        return None
    if in_place and stand_alone.others:  # duckdb may have read an earlier record of one of them in a journal
        return None
    return TaskRows([row for row in folded.rows if isinstance(row, Task)], [], [], stand_alone.others)


def _watched(journal: JournalSummary, records: Iterable[Record], stand_alone: StandAlone) -> Iterator[Record]:
    for record in records:
        if isinstance(record, (Task, Correction)):
            stand_alone.add(journal, record.task_id)
        if type(record) is LeftOut or getattr(record, "subtype", None) == _DASK:
            stand_alone.refute()
        yield record
