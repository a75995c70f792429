"""What MLflow holds of campaigns: whether their runs are there, as they are now.

Flows in: a buffer, and the address of MLflow. Flows out: counts of runs. MLflow has no lines of journals. A
run is held if the tag that its export wrote last says the same of it as the buffer does now.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from flowprov.errors import FlowprovError
from flowprov.export.mlflow.campaign_export import ExportedRun, exported_runs
from flowprov.export.mlflow.exporter import EXPORTED, runs_and_steps
from flowprov.export.mlflow.run_export import RunExport
from flowprov.export.mlflow.store import Store, StoredRun
from flowprov.read.campaign_sources import campaigns_of
from flowprov.read.sink_check import RunCounts
from flowprov.settings import redact_source

_HELD, _WAITING, _DELETED = "held", "waiting", "deleted"


class _Experiment(NamedTuple):
    """What MLflow holds of an experiment: its runs by their ids in flowprov, and its steps by their names."""

    deleted: bool
    runs: dict[str, StoredRun]
    steps: dict[str, StoredRun]


class MLflowProbe:
    """Asks one MLflow which runs of campaigns it holds; one that failed once is not asked again.

    Parameters
    ----------
    uri
        Its address.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._name = redact_source(uri)
        self._unknown: str | None = None
        self._store: Store | None = None
        self._experiments: dict[str, _Experiment | None] = {}
        self._all: dict[str, list[ExportedRun]] = {}

    def count(self, source: str, campaign_id: str) -> RunCounts:
        """Return how many runs of a campaign in a buffer MLflow holds."""
        runs = [one.run for one in exported_runs(campaigns_of(source, campaign_id, every_record=True))]
        if self._unknown is None:
            try:
                counts = self._compare(runs)
                if counts.waiting:  # or another campaign went on with its runs: these were exported as one
                    runs = [one.run for one in self._every_run(source) if campaign_id in one.campaigns]
                    counts = self._compare(runs)
            except FlowprovError as error:  # also if its client is not installed
                self._unknown = str(error).rstrip(".")
            else:
                return counts
        return RunCounts(sink=self._name, runs=len(runs), unknown=self._unknown)

    def _every_run(self, source: str) -> list[ExportedRun]:
        if source not in self._all:
            self._all[source] = list(exported_runs(campaigns_of(source, None, every_record=True)))
        return self._all[source]

    def _compare(self, runs: Iterable[RunExport]) -> RunCounts:
        states = Counter(map(self._state_of, runs))
        return RunCounts(
            sink=self._name,
            runs=states.total(),
            held=states[_HELD],
            waiting=states[_WAITING],
            deleted=states[_DELETED],
        )

    def _state_of(self, run: RunExport) -> str:
        experiment = self._experiment(run.experiment)
        if experiment is None:
            return _WAITING
        step, stored = experiment.steps.get(run.step), experiment.runs.get(run.run_id)
        if experiment.deleted or any(one is not None and one.deleted for one in (step, stored)):
            return _DELETED
        return _HELD if stored is not None and stored.tags.get(EXPORTED) == run.fingerprint() else _WAITING

    def _experiment(self, name: str) -> _Experiment | None:
        if name not in self._experiments:
            self._experiments[name] = self._look(name)
        return self._experiments[name]

    def _look(self, name: str) -> _Experiment | None:
        if _is_missing(self._uri):
            return None
        if self._store is None:
            self._store = Store(self._uri)
        found = self._store.experiment(name)
        if found is None:
            return None
        return _Experiment(found.deleted, *runs_and_steps(self._store, found.experiment_id))


def _is_missing(uri: str) -> bool:
    """Whether a database is a file that is not there: MLflow would create it, and a check writes nothing."""
    if not re.match(r"sqlite(\+\w+)?://", uri):
        return False
    path = urlsplit(uri).path[1:]
    return not (path and Path(path).exists())


__all__ = ["MLflowProbe"]
