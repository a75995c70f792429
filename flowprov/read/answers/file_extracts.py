"""Extracts of compacted journals with all of their iterations, from their Parquet files.

Flows in: journals and their digests. Flows out: for those of which each task stands by itself, the extract
that the journal gives, too, but for the inputs of iterations that are no epochs: nobody asks for these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import Counts, Extract, Wanted
from flowprov.read.answers.failed_tasks import FAILED
from flowprov.read.decoding import decode_restored
from flowprov.read.digest import Digest
from flowprov.read.parquet_files import UnreadableFilesError, report_unusable
from flowprov.read.task_files import TaskFiles
from flowprov.records import Metrics, Record, Task


def file_extracts(
    journals: Sequence[JournalSummary], digests: Mapping[Path, Digest], wanted: Collection[str] = ()
) -> dict[str, Extract]:
    """Return the extracts of the journals that can be read from their files, by the id of the journal.

    Parameters
    ----------
    journals, digests
        The journals of a campaign, and the digests of those that have a Parquet file.
    wanted
        Full ids of tasks that are needed besides.
    """
    usable = {
        journal.path: digests[journal.path]
        for journal in journals
        if (digest := digests.get(journal.path)) is not None and digest.plain and not digest.unusual
    }
    if not usable:
        return {}
    try:
        return _extracts(usable, wanted)
    except UnreadableFilesError as error:
        report_unusable(dict.fromkeys(error.paths, "is damaged"))
        return {}


def _extracts(digests: Mapping[Path, Digest], wanted: Collection[str]) -> dict[str, Extract]:
    files = TaskFiles(digests)
    lines = files.lines(everything=True)
    records: dict[str, list[Record]] = {
        digest.header.journal_id: list(map(decode_restored, lines[path])) for path, digest in digests.items()
    }
    tasks: dict[str, Task] = {str(task.task_id): task for task in files.iterations()}
    names: set[str] = set()
    for digest in digests.values():
        names |= digest.failed.considered
    missing = set(wanted)
    missing.update(files.failed_named(names, FAILED) if names else ())
    missing.update(_named(tasks.values()))
    for digest in digests.values():
        missing.update(_measured_in(digest, records[digest.header.journal_id]))
    asked: set[str] = set()
    while missing := {task_id for task_id in missing - asked if task_id not in tasks or task_id in wanted}:
        asked |= missing
        found = {str(task.task_id): task for task in files.tasks(missing)}
        tasks |= found
        missing = _named(found.values())
    for task_id, task in tasks.items():
        records[task_id.rpartition("-")[0]].append(task)
    elsewhere = (_named(tasks.values()) | asked) - tasks.keys()
    return {
        digest.header.journal_id: _extract_of(
            digest, records[digest.header.journal_id], elsewhere, asked, names
        )
        for digest in digests.values()
    }


def _extract_of(
    digest: Digest, records: Sequence[Record], elsewhere: set[str], asked: set[str], names: set[str]
) -> Extract:
    return Extract(
        list(enumerate(records)),
        Counts(),
        elsewhere,
        set(),
        msgspec.structs.replace(digest.failed, considered=names),
        Wanted(_of(digest.header.journal_id, asked), frozenset(names)),
        left_out=digest.without(records),
    )


def _named(tasks: Iterable[Task]) -> set[str]:
    """Return the ids of the tasks in which some tasks are."""
    return {str(task.parent_task_id) for task in tasks if task.parent_task_id is not None}


def _measured_in(digest: Digest, records: Iterable[Record]) -> set[str]:
    """Return the ids of the tasks in which metrics were logged."""
    return {
        digest.header.full_id(record.task_id)
        for record in records
        if isinstance(record, Metrics) and record.task_id is not None
    }


def _of(journal_id: str, task_ids: Iterable[str]) -> frozenset[str]:
    return frozenset(task_id for task_id in task_ids if task_id.rpartition("-")[0] == journal_id)
