"""Which Dask workers a campaign reached, and what of them is not there.

Flows in: the control records of Dask clients. Flows out: sentences on workers that recorded nothing.
"""

from __future__ import annotations

from flowprov.records import DaskWorker, Record


class DaskWorkers:
    """The workers that the journals of a campaign name."""

    def __init__(self) -> None:
        self._silent: dict[tuple[str, str | None, str], set[str]] = {}

    def add(self, record: Record) -> None:
        """Add what a record says; most say nothing of workers."""
        if type(record) is DaskWorker and record.reason is not None:
            key = (record.worker, record.hostname, record.reason)
            self._silent.setdefault(key, set()).add(record.workflow_id)

    def missing(self) -> list[str]:
        """Return what is not there, one sentence each."""
        return [
            f"Dask worker {worker} on {hostname} recorded nothing of {_workflows(workflow_ids)}: {reason}"
            for (worker, hostname, reason), workflow_ids in self._silent.items()
        ]


def _workflows(workflow_ids: set[str]) -> str:
    if len(workflow_ids) > 1:
        return f"{len(workflow_ids)} workflows"
    return f"workflow {next(iter(workflow_ids))}"
