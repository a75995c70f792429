"""The lines of a campaign that say where its tasks belong: of journals, or of their Parquet files.

Flows in: the journals of a campaign, and the digests of those that have a Parquet file. Flows out: lines, of
which only what places a task is decoded; and the whole records of the few that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import msgspec

from flowprov.ids import full_id
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import decode_restored
from flowprov.read.digest import Digest
from flowprov.read.highlights import LastMetrics
from flowprov.read.stand_alone import StandAlone
from flowprov.read.task_files import TaskFiles
from flowprov.records import Correction, Int64, LocalId, Metrics, OpenTask, Record, Task, Workflow, prefix_of

T = TypeVar("T")

WORKFLOW, CORRECTION, _METRICS = map(prefix_of, (Workflow, Correction, Metrics))
TASKS = (prefix_of(Task), prefix_of(OpenTask))
_LARGE_FIELDS = (
    "machine_info",
    "settings",
    "code_repository",
    "orchestrator",
    "telemetry_at_start",
    "telemetry_at_end",
)
_VALUES = ("used", "generated", "custom_metadata")


class Line(msgspec.Struct, tag_field="type", gc=False):
    """What of a line is needed to place it: all else is skipped while it is decoded."""

    task_id: LocalId
    parent_task_id: LocalId | None = None
    workflow_id: str | None = None
    activity_id: str | None = None
    subtype: str | None = None
    status: str | None = None
    submitted_at: Int64 | None = None
    started_at: Int64 | None = None
    ended_at: Int64 | None = None


class TaskLine(Line, tag="task", gc=False):
    """A message of a task."""


class OpenLine(Line, tag="open_task", gc=False):
    """A task that was open."""


class CorrectionLine(Line, tag="correction", gc=False):
    """A correction of a task."""


_decoder = msgspec.json.Decoder(TaskLine | OpenLine | CorrectionLine)


class CampaignLines:
    """The lines of a campaign.

    Parameters
    ----------
    journals
        Its journals.
    digests
        Of journals whose Parquet files may be read.

    Attributes
    ----------
    journals
        Its journals.
    files
        The Parquet files that are read; None if no journal has one, or tasks do not stand by themselves.
    """

    def __init__(self, journals: Sequence[JournalSummary], digests: Mapping[Path, Digest]) -> None:
        paths = {journal.path for journal in journals}
        used = {path: digest for path, digest in digests.items() if path in paths}
        self.journals = journals
        self._digests = used if all(digest.plain for digest in used.values()) else {}
        self.files = TaskFiles(self._digests) if self._digests else None
        self._unusual = self.files.lines() if self.files is not None else {}
        self._stand_alone = StandAlone()

    def stand_alone(self) -> bool:
        """Whether the lines that were decoded speak of few tasks of earlier files, and of no others."""
        if self.files is not None:
            self.files.left_out = self._stand_alone.others
        return bool(self._stand_alone)

    def tasks_of_others(self) -> list[TaskLine]:
        """Return what places the tasks in Parquet files of which lines of other journals speak."""
        others = self._stand_alone.others
        if self.files is None or not others:
            return []
        names = TaskLine.__struct_fields__
        found = self.files.tasks(others)
        return [TaskLine(**{name: getattr(task, name) for name in names}) for task in found]

    def digest(self, journal: JournalSummary) -> Digest | None:
        """Return the digest of a journal whose Parquet file is read."""
        return self._digests.get(journal.path)

    def workflow(self, line: bytes) -> Record:
        """Return the record of a line, without its values."""
        return _without(decode_restored(line), (*_LARGE_FIELDS, *_VALUES))

    def task(self, journal: JournalSummary, line: bytes) -> Line:
        """Return what places the task of a line of a journal."""
        decoded: Line = _decoder.decode(line)
        self._stand_alone.add(journal, decoded.task_id)
        return decoded

    def decoded(self, journal: JournalSummary, decode: Callable[[bytes], T | None]) -> Iterator[T]:
        """Yield what the lines of a journal are decoded to: all, or those that are no columns in its file.

        Lines of workflows are among them.
        """
        if (digest := self.digest(journal)) is not None:
            # Workflows are among the lines in a file, and in its digest: each is told once.
            found = map(decode, self._unusual[journal.path] or digest.workflows())
        else:
            reader = JournalReader(journal.path, 0, decode, missing_ok=True)
            found = (one for _, one in reader.read())  # type: ignore[assignment]
        return (one for one in found if one is not None)

    def records(self, keys: set[str], logged: LastMetrics) -> list[tuple[JournalSummary, Iterator[Record]]]:
        """Return the records of some tasks and workflows, by journal; other lines are not decoded as a whole.

        What was logged in them is added to ``logged``.
        """
        files = self.files
        of_files = {} if files is None else files.logged(keys)
        found = [
            (journal, self._records_of(journal, keys, logged, of_files.get(journal.path, ())))
            for journal in self.journals
        ]
        return found if files is None else list(_with_tasks(found, files.tasks(keys)))

    def _records_of(
        self, journal: JournalSummary, keys: set[str], logged: LastMetrics, metrics: Iterable[bytes]
    ) -> Iterator[Record]:
        full = full_ids(journal)

        def decode(line: bytes) -> Record | None:
            if line.startswith(WORKFLOW):
                record = decode_restored(line)
                is_shown = isinstance(record, Workflow) and record.workflow_id in keys
                return _without(record, _LARGE_FIELDS) if is_shown else None
            if line.startswith((*TASKS, CORRECTION)) and full(_decoder.decode(line).task_id) in keys:
                return decode_restored(line)
            if line.startswith(_METRICS):
                metrics = decode_restored(line)
                if isinstance(metrics, Metrics):
                    task_id = None if metrics.task_id is None else full(metrics.task_id)
                    if (metrics.workflow_id if task_id is None else task_id) in keys:
                        logged.add(metrics, task_id, journal.header)
            return None

        for line in metrics:
            decode(line)
        return self.decoded(journal, decode)


def _with_tasks(
    found: Sequence[tuple[JournalSummary, Iterator[Record]]], tasks: Iterable[Task]
) -> Iterator[tuple[JournalSummary, Iterator[Record]]]:
    """Yield journals with their records and, behind these, their tasks that were read from files.

    Each goes to its own journal: what a task does not say, as its rank, is taken from the header.
    """
    numbers = {journal.header.journal_id: number for number, (journal, _) in enumerate(found)}
    of_journals: list[list[Task]] = [[] for _ in found]
    for task in tasks:
        of_journals[numbers.get(str(task.task_id).rpartition("-")[0], 0)].append(task)
    for (journal, records), more in zip(found, of_journals, strict=True):
        yield journal, chain(records, more)


def full_ids(journal: JournalSummary) -> Callable[[LocalId], str]:
    """Return what completes the ids of a journal."""
    header = journal.header
    prefix, first, ancestors = f"{header.journal_id}-", header.first_number, header.ancestors

    def full(local: LocalId) -> str:
        if type(local) is int and local >= first:
            return prefix + str(local)
        return full_id(local, header.journal_id, ancestors, first)

    return full


def _without(record: Record, names: Sequence[str]) -> Record:
    present = {name: None for name in names if getattr(record, name, None) is not None}
    return msgspec.structs.replace(record, **present) if present else record
