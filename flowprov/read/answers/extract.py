"""The extract of a journal: the records on which answers about runs depend, and counts of the others.

Flows in: what extracts hold. Flows out: what extracts of other journals must hold besides.

Most records of a training say nothing of a run as a whole: forwards, calls, and all iterations but those with
the last, the smallest or the largest value of a metric. An extract holds the workflows, what was logged, the
tasks around iterations, what has no end, failed tasks with the name of a run, and of the iterations of one
loop those few. The answers that follow from the extracts of a campaign are those that follow from all its
records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from flowprov.read.answers.failed_tasks import FailedNames
from flowprov.read.answers.loop_extremes import Placed
from flowprov.read.task_ids import TaskIds


class Counts(msgspec.Struct):
    """What is known of the records that an extract leaves out.

    Attributes
    ----------
    tasks, errors
        How many tasks are left out that are no iterations, and how many of these ended with an error.
    started_at, ended_at
        The earliest start and the latest end of all tasks of the journal.
    """

    tasks: int = 0
    errors: int = 0
    started_at: int | None = None
    ended_at: int | None = None

    def add(self, other: Counts) -> None:
        """Add the counts of another journal."""
        self.tasks += other.tasks
        self.errors += other.errors
        self.add_times(other.started_at, other.ended_at)

    def add_times(self, started_at: int | None, ended_at: int | None) -> None:
        """Extend the time over which tasks ran."""
        if started_at is not None and (self.started_at is None or started_at < self.started_at):
            self.started_at = started_at
        if ended_at is not None and (self.ended_at is None or ended_at > self.ended_at):
            self.ended_at = ended_at


NO_TASKS = TaskIds()


class Wanted(NamedTuple):
    """What extracts of other journals name: tasks, by their full ids, and runs, by their names."""

    tasks: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


NOTHING = Wanted()


class Extract(NamedTuple):
    """The records of a journal on which answers depend, in their order, and counts of the others.

    Attributes
    ----------
    records
        The records, each with its position.
    counts
        Of the records that are left out.
    elsewhere
        Full ids of tasks that these records name, and that have no number of this journal. What other
        journals hold of them belongs to their extracts.
    unusual
        Positions of the records of tasks of which the record of the end does not tell everything: those that
        have a start of their own, are open, corrected, recorded twice, or known by an id of another journal.
    failed
        Of which names it holds the failed tasks, and of which it does not.
    asked
        What it holds because other extracts name it.
    foreign
        Whether the journal holds records of tasks that have no number of its process.
    left_out
        The numbers of the tasks that are left out.
    """

    records: list[Placed]
    counts: Counts
    elsewhere: set[str]
    unusual: set[int]
    failed: FailedNames
    asked: Wanted = NOTHING
    foreign: bool = False
    left_out: TaskIds = NO_TASKS

    def leaves_out(self, task_id: str) -> bool:
        """Whether a task of the journal, by its full id, is recorded there and left out here."""
        digits = task_id.rpartition("-")[2]
        return digits.isdecimal() and self.left_out.has_number("", int(digits))


def unanswered(extracts: Mapping[str, Extract]) -> dict[str, Wanted]:
    """Return which journals hold what extracts of others name, and theirs was not asked for.

    Parameters
    ----------
    extracts
        The extracts of a campaign, by the id of the journal.

    Returns
    -------
    dict of Wanted
        All for which the extract of a journal must be asked; journals that were asked are left out.
    """
    tasks: dict[str, set[str]] = {}
    for extract in extracts.values():
        for task_id in extract.elsewhere:
            home = task_id.rpartition("-")[0]
            if home in extracts and extracts[home].leaves_out(task_id):
                tasks.setdefault(home, set()).add(task_id)
    runs = {name for extract in extracts.values() for name in extract.failed.runs}
    wanted = {}
    for home, extract in extracts.items():
        asked = extract.asked
        more = Wanted(asked.tasks.union(tasks.get(home, ())), asked.names.union(extract.failed.missing(runs)))
        if more != asked:
            wanted[home] = more
    return wanted
