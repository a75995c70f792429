"""Whether the tasks of journals stand by themselves, so that each can be read without the others.

Flows in: what each journal records of which tasks. Flows out: yes or no.
"""

from __future__ import annotations

from flowprov.journal.summary import JournalSummary
from flowprov.records import LocalId


class StandAlone:
    """Whether no record in some journals speaks of tasks of another journal."""

    def __init__(self) -> None:
        self._foreign = False

    def __bool__(self) -> bool:
        return not self._foreign

    def refute(self) -> None:
        """Note that tasks depend on others, as those of Dask do."""
        self._foreign = True

    def add(self, journal: JournalSummary, task_id: LocalId) -> None:
        """Add the task of which a record speaks."""
        is_own = isinstance(task_id, int) and task_id >= journal.header.first_number
        self._foreign |= not is_own
