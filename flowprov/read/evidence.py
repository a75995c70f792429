"""What the journals of a campaign say of themselves and of each other, from which their check follows.

Flows in: every record of every journal, once. Flows out: the check of each journal, and sentences on what is
missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from flowprov.journal.format import find_journals
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import ProcessKey, process_key
from flowprov.read.dask_workers import DaskWorkers
from flowprov.read.digest import Digest
from flowprov.read.journal_check import JournalCheck, check_journal
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.participants import KnownParticipants, in_last_resort, overwritten, unwritten
from flowprov.read.references import (
    JournalReferences,
    TaskReferences,
    missing_journals,
    missing_ranks,
    missing_workflows,
    name_some,
)
from flowprov.read.rows import Row
from flowprov.read.successions import in_succession
from flowprov.read.superseded import Superseded
from flowprov.records import Record, Status

OnRecord: TypeAlias = Callable[[int, Record], object]


class Evidence:
    """Reads the journals of a campaign, and keeps what is needed to judge them."""

    def __init__(self) -> None:
        self._journals: list[tuple[JournalSummary, JournalReport, JournalReferences]] = []
        self._tasks = TaskReferences()
        self._workers = DaskWorkers()
        self._participants = KnownParticipants()

    def read(self, journal: JournalSummary, callback: OnRecord) -> JournalReport:
        """Read a journal and return the report on it; each record is passed to the callback too."""
        references = JournalReferences(journal.header, self._tasks)

        def add(position: int, record: Record) -> None:
            references.add(record)
            self._workers.add(record)
            self._participants.add(record)
            callback(position, record)

        report = report_on(journal, add)
        self._end_journal(journal, report, references)
        return report

    def take(self, journal: JournalSummary, digest: Digest) -> JournalReport:
        """Take what is known of a journal that was read before; return the report on it."""
        for record in digest.processes:
            self._workers.add(record)
            self._participants.add(record)
        self._tasks.add(journal.header.journal_id, digest.recorded, digest.named)
        report = digest.report(journal)
        self._end_journal(journal, report, JournalReferences(journal.header, self._tasks, digest.names))
        return report

    def _end_journal(
        self, journal: JournalSummary, report: JournalReport, references: JournalReferences
    ) -> None:
        self._workers.end_journal(alive=report.alive)
        summary = journal._replace(alive=report.alive, footer=report.footer)
        self._journals.append((summary, report, references))

    def judge(
        self, open_rows: Iterable[Row], superseded: Superseded, going_on: Collection[ProcessKey]
    ) -> list[JournalCheck]:
        """Return the checks of the journals, in the order in which they were read.

        Parameters
        ----------
        open_rows
            The workflows and tasks without an end.
        superseded
            Tells attempts that another one followed.
        going_on
            The processes that are still there.
        """
        interrupted = {(row.hostname, row.pid) for row in open_rows if row.status == Status.INTERRUPTED.value}
        open_workflows = self._open_workflows()
        parents = self._tasks.missing_parents()
        checks = []
        opening = {
            process_key(references.header) for _, _, references in self._journals if references.names.opened
        }
        for journal, report, references in self._journals:
            header = journal.header
            check = check_journal(
                report,
                worker=references.of_worker(opens=process_key(header) in opening),
                open_named=bool(open_workflows[process_key(header)])
                or (header.hostname, header.pid) in interrupted,
                # What is open in a process that goes on, in this file or a later one, has no record yet.
                missing_parents=0 if process_key(header) in going_on else parents.get(header.journal_id, 0),
            )
            is_superseded = self._is_superseded(journal, references, superseded)
            checks.append(msgspec.structs.replace(check, superseded=is_superseded))
        return checks

    def _open_workflows(self) -> Counter[ProcessKey]:
        """Return how many workflows each process opened and did not end, in any of its journals."""
        by_process: dict[ProcessKey, Counter[str]] = {}
        for journal, _, references in self._journals:
            by_process.setdefault(process_key(journal.header), Counter()).update(
                references.names.open_workflows
            )
        return Counter(
            {process: sum(count > 0 for count in counts.values()) for process, counts in by_process.items()}
        )

    @staticmethod
    def _is_superseded(
        journal: JournalSummary, references: JournalReferences, superseded: Superseded
    ) -> bool:
        return superseded.has_journal(journal.header, journal.last_at, references.names.workflows)

    def missing(self, superseded: Superseded, *, partial: bool, on_server: bool) -> Iterator[str]:
        """Yield a sentence for all that the records name, and that no journal holds.

        Parameters
        ----------
        superseded
            Tells attempts that another one followed.
        partial
            Whether only a part of the campaign was read: then other journals cannot be expected.
        on_server
            Whether the journals are those of a server: its other campaigns are not there to be looked into.
        """
        everything = [references for _, _, references in self._journals]
        present = {references.header.journal_id for references in everything}
        yield from self._workers.missing(None if partial else present)
        if partial:
            return
        counting = [
            (journal, references)
            for journal, _, references in self._journals
            if not self._is_superseded(journal, references, superseded)
        ]
        paths = {journal.path for journal, _ in counting}
        for sentence, ranks in missing_ranks(in_succession(journal for journal, _, _ in self._journals)):
            if any(journal.path in paths for journal in ranks):
                yield sentence
        workflows = missing_workflows(everything, parents=not on_server)
        if workflows and not on_server:
            workflows -= _held_elsewhere(workflows, [journal for journal, _, _ in self._journals])
        if workflows:
            yield f"no journal holds the record of {name_some('workflow', sorted(workflows))}"
        yield from missing_journals((references for _, references in counting), present)
        yield from self._missing_participants(present, on_server=on_server)

    def _missing_participants(self, present: set[str], *, on_server: bool) -> Iterator[str]:
        running = any(report.alive for _, report, _ in self._journals)
        yield from self._participants.missing(present, running=running)
        if on_server:
            return
        journals = [journal for journal, _, _ in self._journals]
        campaigns = {journal.path.parent.parent for journal in journals}
        hosts = {host for folder in campaigns for host in _folders_in(folder)}
        yield from unwritten(hosts, self._participants)
        yield from overwritten(hosts, present, self._participants)
        path = journals[0].path
        if len(path.parents) > 2:  # a journal lies in buffer/campaign/host
            yield from in_last_resort(journals[0].header.campaign_id, path.parents[2], present)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:  # it belongs to another user
        return []


def _held_elsewhere(workflow_ids: set[str], journals: list[JournalSummary]) -> set[str]:
    """Return which workflows are recorded in other campaigns of the same buffer folder."""
    own = {journal.path for journal in journals}
    path = journals[0].path
    if len(path.parents) < 3:  # a journal lies in buffer/campaign/host
        return set()
    found: set[str] = set()
    for other in find_journals(path.parents[2]):
        if other not in own and workflow_ids - found:
            found |= _search(other, workflow_ids - found)
    return found


_BEGINNING = re.compile(rb'\{"type":"workflow","workflow_id":("[^"\\]*(?:\\.[^"\\]*)*")')


def _search(path: Path, workflow_ids: set[str]) -> set[str]:
    """Return which workflows have a record in a journal, without decoding its lines."""
    ids = {msgspec.json.encode(name): name for name in workflow_ids}

    def decode(line: bytes) -> str | None:
        match = _BEGINNING.match(line)
        return ids.get(match[1]) if match else None

    found: set[str] = set()
    try:
        found.update(
            name for _, name in JournalReader(path, 0, decode, missing_ok=True).read() if name is not None
        )
    except OSError:  # it belongs to another campaign, so it need not be readable
        return found
    return found
