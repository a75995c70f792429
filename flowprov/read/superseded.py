"""Which attempts of workflows are superseded: another one came after them, and did again what they lost.

Flows in: the rows of workflows, with their attempts. Flows out: yes or no, for an attempt, a row or a
journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowprov.read.attempts import AttemptIndex
from flowprov.read.rows import Row
from flowprov.records import Header, Workflow


class Superseded:
    """Tells attempts that another one followed.

    What is inside a superseded attempt is superseded with it.

    Parameters
    ----------
    rows
        The rows of a campaign; those of its workflows are enough.
    attempts
        What finds the attempts of each workflow.
    """

    def __init__(self, rows: Iterable[Row], attempts: Mapping[str, AttemptIndex]) -> None:
        self._attempts = attempts
        self._known: dict[tuple[str, int], bool] = {}
        self._workflows = {(row.workflow_id, row.attempt): row for row in rows if isinstance(row, Workflow)}

    def has_attempt(self, workflow_id: str | None, attempt: int | None) -> bool:
        """Whether an attempt of a workflow is superseded, or the one around it."""
        visited: set[tuple[str, int]] = set()
        superseded = False
        while workflow_id is not None and workflow_id in self._attempts and attempt is not None:
            key = (workflow_id, attempt)
            if key in visited:  # a workflow inside itself
                break
            if key in self._known:
                superseded = self._known[key]
                break
            visited.add(key)
            if attempt < self._attempts[workflow_id].last:
                superseded = True
                break
            row = self._workflows.get(key)
            workflow_id = None if row is None else row.parent_workflow_id
            if row is not None and workflow_id is not None and workflow_id in self._attempts:
                attempt = self._attempts[workflow_id].begun_at(row.started_at or 0)
        self._known.update(dict.fromkeys(visited, superseded))
        return superseded

    def has_row(self, row: Row) -> bool:
        """Whether a row belongs to a superseded attempt."""
        return self.has_attempt(row.workflow_id, row.attempt)

    def has_journal(self, header: Header, last_at: int, workflow_ids: Iterable[str]) -> bool:
        """Whether all records of a journal belong to superseded attempts.

        Parameters
        ----------
        header, last_at
            The header of the journal, and the time of its last record.
        workflow_ids
            The workflows to which its records belong.
        """
        keys = [
            (workflow_id, number)
            for workflow_id in workflow_ids
            for number in (
                self._attempts[workflow_id].of_journal(header, last_at)
                if workflow_id in self._attempts
                else ()
            )
        ]
        return bool(keys) and all(self.has_attempt(*key) for key in keys)
