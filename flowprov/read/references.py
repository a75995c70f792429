"""What the records of a campaign name, and no journal holds: workflows, tasks, journals, ranks.

Flows in: every record of every journal of a campaign. Flows out: sentences on what is missing. A journal that
is lost with its file leaves no other trace.

Of a task only one bit is kept, and of a workflow its id, so that memory does not grow much with a long run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from flowprov.ids import full_id
from flowprov.journal.summary import JournalSummary
from flowprov.read.attempts import Period, ProcessKey, group_attempts, process_key, process_period
from flowprov.read.task_ids import TaskIds
from flowprov.read.workflows import is_addition
from flowprov.records import Artifact, Header, LeftOut, LoaderPass, Record, Task, Workflow

_OF_JOURNAL = re.compile(r"([0-9a-f]{32})-\d+$")  # other ids were given by a person
_MAX_NAMED = 5
_DASK_TASK = "dask_task"


class TaskList(msgspec.Struct):
    """Tasks that a journal records or names: ranges of its own numbers, and full ids of others."""

    numbers: list[tuple[int, int]] = []
    others: list[str] = []

    def ids(self, journal_id: str) -> Iterator[str]:
        """Yield the full ids."""
        for first, end in self.numbers:
            yield from (f"{journal_id}-{number}" for number in range(first, end))
        yield from self.others

    @classmethod
    def of(cls, journal_id: str, ids: TaskIds) -> TaskList:
        """Create the list of a set of ids."""
        return cls(ids.numbers(journal_id), sorted(ids.outside(journal_id)))


class TaskReferences:
    """The tasks of a campaign that are recorded, and those that are named as parents."""

    def __init__(self) -> None:
        self.recorded, self.parents = TaskIds(), TaskIds()

    def add(self, journal_id: str, recorded: TaskList, parents: TaskList) -> None:
        """Add the tasks of a journal that was read before."""
        for ids, listed in ((self.recorded, recorded), (self.parents, parents)):
            ids.add_numbers(journal_id, listed.numbers)
            for task_id in listed.others:
                ids.add(task_id)

    def parents_elsewhere(self) -> TaskIds:
        """Return the tasks that are named as parents, and have no record here."""
        return self.parents.without(self.recorded)

    def missing_parents(self) -> dict[str, int]:
        """Return, by journal, how many tasks have something inside them and no record of their own."""
        return self.parents.count_without(self.recorded)


class JournalNames(msgspec.Struct):
    """What the records of one journal name.

    Attributes
    ----------
    workflows, parent_workflows, held_workflows
        The workflows to which its records belong, those that are named as parents of others, and those of
        which it holds the opening or the end.
    opened
        How often a workflow was opened in it.
    open_workflows
        How often each workflow was opened and not ended, or, below zero, ended without an opening here.
    of_dask
        Whether it holds tasks of Dask.
    journals
        Those to which the tasks belong that are named as parents.
    """

    workflows: set[str] = msgspec.field(default_factory=set)
    opened: int = 0
    of_dask: bool = False
    open_workflows: dict[str, int] = msgspec.field(default_factory=dict)
    held_workflows: set[str] = msgspec.field(default_factory=set)
    parent_workflows: set[str] = msgspec.field(default_factory=set)
    journals: set[str] = msgspec.field(default_factory=set)


class JournalReferences:
    """Collects what the records of one journal name.

    Parameters
    ----------
    header
        The header of the journal.
    tasks
        The tasks of the campaign.
    names
        What the journal names, if it was read already.
    """

    def __init__(self, header: Header, tasks: TaskReferences, names: JournalNames | None = None) -> None:
        self.header = header
        self.names = names or JournalNames()
        self._tasks = tasks
        self._numbering = (header.journal_id, header.ancestors, header.first_number)

    def add(self, record: Record) -> None:
        """Add what a record names."""
        if isinstance(record, Task):
            self._add_task(record)
        elif isinstance(record, LeftOut):
            self.names.of_dask = True
            self.names.workflows.add(record.workflow_id)
        elif isinstance(record, (Artifact, LoaderPass)):
            self.names.workflows.add(record.workflow_id)
        elif isinstance(record, Workflow):
            self._add_workflow(record)

    def _add_task(self, task: Task) -> None:
        if task.workflow_id is not None:
            self.names.workflows.add(task.workflow_id)
        if task.subtype == _DASK_TASK:
            self.names.of_dask = True
        header, tasks = self.header, self._tasks
        task_id, parent_id = task.task_id, task.parent_task_id
        if type(task_id) is int and task_id >= header.first_number:
            tasks.recorded.add_number(header.journal_id, task_id)
        else:
            tasks.recorded.add(full_id(task_id, *self._numbering))
        if parent_id is None:
            return
        if type(parent_id) is int and parent_id >= header.first_number:
            tasks.parents.add_number(header.journal_id, parent_id)
            return
        parent = full_id(parent_id, *self._numbering)
        tasks.parents.add(parent)
        if match := _OF_JOURNAL.match(parent):
            self.names.journals.add(match[1])

    def _add_workflow(self, workflow: Workflow) -> None:
        name = workflow.workflow_id
        self.names.workflows.add(name)
        if is_addition(workflow):
            return
        self.names.held_workflows.add(name)
        if workflow.parent_workflow_id is not None:
            self.names.parent_workflows.add(workflow.parent_workflow_id)
        opens = workflow.ended_at is None
        self.names.opened += opens
        self.names.open_workflows[name] = self.names.open_workflows.get(name, 0) + (1 if opens else -1)
        if not self.names.open_workflows[name]:
            del self.names.open_workflows[name]

    def of_worker(self, *, opens: bool) -> bool:
        """Whether its process worked for another one, which ends it when it is no longer needed.

        The journal of a Dask worker may be a replica that ends before the worker did: it has to be closed.

        Parameters
        ----------
        opens
            Whether its process opened a workflow in any of its files.
        """
        return not self.names.of_dask and (self.header.parent_pid is not None or not opens)

    def named_journals(self) -> set[str]:
        """Return the ids of the journals that its records and its header name."""
        previous = [] if self.header.previous is None else [self.header.previous]
        return {*self.names.journals, *previous}


def missing_workflows(journals: Iterable[JournalReferences], *, parents: bool) -> set[str]:
    """Return the ids of the workflows that some journals name, and none of them holds.

    Parameters
    ----------
    journals
        The journals.
    parents
        Whether to return also those that are only the parents of others, and may be of another campaign.
    """
    journals = list(journals)
    named: set[str] = set().union(*(journal.names.workflows for journal in journals))
    if parents:
        named.update(*(journal.names.parent_workflows for journal in journals))
    return named.difference(*(journal.names.held_workflows for journal in journals))


def missing_journals(journals: Iterable[JournalReferences], present: set[str]) -> Iterator[str]:
    """Yield a sentence for each journal that others name, and that is not among those that are present."""
    named_by: dict[str, list[str]] = {}
    for journal in journals:
        for name in journal.named_journals() - present:
            named_by.setdefault(name, []).append(journal.header.journal_id)
    for name, others in sorted(named_by.items()):
        yield f"journal {name} is not there: {name_some('journal', others)} {_verb(others)} of it"


def _verb(names: list[str]) -> str:
    return "speaks" if len(names) == 1 else "speak"


def name_some(noun: str, names: list[str], count: int | None = None) -> str:
    """Return a noun with some names, as a text that does not grow with their number, which may be given."""
    count = len(names) if count is None else count
    some = f"{noun}{'' if count == 1 else 's'} {', '.join(names[:_MAX_NAMED])}"
    return some if count <= _MAX_NAMED else f"{some} and {count - _MAX_NAMED} more"


class Rank(msgspec.Struct):
    """A process that a launcher started as one of several ranks."""

    journal: JournalSummary

    @property
    def header(self) -> Header:
        """The header of its journal."""
        return self.journal.header

    @property
    def period(self) -> Period:
        """From when to when its process lived."""
        return process_period(self.journal)

    process_period = period


def missing_ranks(journals: Iterable[JournalSummary]) -> Iterator[tuple[str, list[JournalSummary]]]:
    """Yield a sentence for each launch of which ranks have no journal, with the journals that it has.

    As long as one of them is still written, the others may be about to begin.
    """
    processes: dict[ProcessKey, Rank] = {}
    for journal in journals:
        header = journal.header
        if header.rank is not None and not _is_child(header):
            processes.setdefault(process_key(header), Rank(journal))
    for ranks in group_attempts(processes.values()):
        size = max(rank.header.world_size or 0 for rank in ranks)
        present = {rank.header.rank for rank in ranks}
        # The size is what a header says: it need not be one that a list can have.
        missing = list(islice((str(rank) for rank in range(size) if rank not in present), _MAX_NAMED))
        count = size - sum(rank is not None and 0 <= rank < size for rank in present)
        if missing and not any(rank.journal.alive for rank in ranks):
            yield (
                f"{name_some('rank', missing, count)} of {size} {'has' if count == 1 else 'have'} no journal",
                [rank.journal for rank in ranks],
            )


def _is_child(header: Header) -> bool:
    return header.parent_pid is not None or bool(header.ancestors)
