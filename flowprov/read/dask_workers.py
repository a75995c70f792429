"""Which Dask workers a campaign reached, and what of them is not there.

Flows in: the control records of Dask clients. Flows out: sentences on workers that recorded nothing, and on
journals that are not there.
"""

from __future__ import annotations

from collections.abc import Container

from flowprov.records import DaskWorker, Record


class DaskWorkers:
    """The workers that the journals of a campaign name."""

    def __init__(self) -> None:
        self._silent: dict[tuple[str, str | None, str], set[str]] = {}
        self._recording: dict[str, DaskWorker] = {}  # by the id of the journal
        self._of_this_journal: dict[str, DaskWorker] = {}

    def add(self, record: Record) -> None:
        """Add what a record says; most say nothing of workers."""
        if type(record) is not DaskWorker:
            return
        if record.reason is not None:
            key = (record.worker, record.hostname, record.reason)
            self._silent.setdefault(key, set()).add(record.workflow_id)
        elif record.journal_id is not None:
            self._of_this_journal[record.journal_id] = record

    def end_journal(self, *, alive: bool) -> None:
        """End one journal. While its process lives, the journals that it names may still arrive."""
        if not alive:
            self._recording.update(self._of_this_journal)
        self._of_this_journal = {}

    def missing(self, journal_ids: Container[str] | None) -> list[str]:
        """Return what is not there, one sentence each.

        Parameters
        ----------
        journal_ids
            The journals that are there; None if only a part of the campaign was read.
        """
        sentences = [
            f"Dask worker {worker} on {hostname} recorded nothing of {_workflows(workflow_ids)}: {reason}"
            for (worker, hostname, reason), workflow_ids in self._silent.items()
        ]
        if journal_ids is not None:
            sentences += [
                f"journal {worker.journal} of Dask worker {worker.worker}, which recorded workflow "
                f"{worker.workflow_id}"
                for journal_id, worker in self._recording.items()
                if journal_id not in journal_ids
            ]
        return sentences


def _workflows(workflow_ids: set[str]) -> str:
    if len(workflow_ids) > 1:
        return f"{len(workflow_ids)} workflows"
    return f"workflow {next(iter(workflow_ids))}"
