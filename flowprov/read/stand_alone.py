"""Whether the tasks of journals stand by themselves, so that each can be read without the others.

Flows in: what each journal records of which tasks. Flows out: yes or no, and the few tasks of which several
journals speak: those that were open when their process went on in a next file, or were corrected from there.
"""

from __future__ import annotations

from flowprov.journal.summary import JournalSummary
from flowprov.records import LocalId

_MAX_OTHERS = 1_000


class StandAlone:
    """Whether records in some journals speak of few tasks of other journals, or of none.

    Attributes
    ----------
    others
        Full ids of tasks of earlier files of a process, of which later ones speak.
    """

    def __init__(self) -> None:
        self._foreign = False
        self.others: set[str] = set()

    def __bool__(self) -> bool:
        return not self._foreign

    def refute(self) -> None:
        """Note that tasks depend on others, as those of Dask do."""
        self._foreign = True

    def add(self, journal: JournalSummary, task_id: LocalId) -> None:
        """Add the task of which a record speaks."""
        header = journal.header
        if not isinstance(task_id, int):
            self._foreign = True
        elif task_id < header.first_number and not self._foreign:
            self.others.add(header.full_id(task_id))
            self._foreign = len(self.others) > _MAX_OTHERS
