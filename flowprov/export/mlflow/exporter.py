"""Export runs to MLflow: a run for each step, and under it one for each run of that step.

Flows in: what MLflow gets of runs, and what it holds already. Flows out: what is new. An export that was
interrupted is completed by the next one, as a run is marked as exported when all of it is there. What a
person deleted in MLflow stays deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from flowprov.export.mlflow.limits import (
    MAX_DATASET_DIGEST,
    MAX_DATASET_NAME,
    MAX_TAG,
    LogBatch,
    Point,
    as_stored,
    batches,
    fit_value,
)
from flowprov.export.mlflow.run_export import COMMIT, RUN_ID, RunExport
from flowprov.export.mlflow.store import Store, StoredRun
from flowprov.export.mlflow.uploads import NOT_UPLOADED, UPLOADED, upload, uploadables_of

STEP = "flowprov.step"
EXPORTED = "flowprov.exported"
"""The tag with the fingerprint of what was exported; it is written last."""

HISTORY_FILE = "commit_history.json"
ARTIFACTS_FILE = "artifacts.json"
_PARENT = "mlflow.parentRunId"
_NO_DIGEST = "unknown"


class ExperimentReport(msgspec.Struct):
    """What an export did to one experiment.

    Attributes
    ----------
    name, experiment_id
        The experiment; the id is None if it was deleted.
    steps
        How many steps its campaigns have.
    created, updated, unchanged
        How many runs are new, had something new, or were there already.
    points
        How many values of metrics were written.
    deleted
        The steps and runs that a person deleted; they stay deleted.
    changed_params
        How many params have another value now; MLflow keeps the first one.
    uploaded
        How many files were uploaded.
    not_uploaded
        The files that could not be uploaded, each with the reason.
    """

    name: str
    experiment_id: str | None = None
    steps: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    points: int = 0
    deleted: list[str] = []
    changed_params: int = 0
    uploaded: int = 0
    not_uploaded: list[str] = []


def export_runs(store: Store, runs: Iterable[RunExport], *, upload_bytes: int = 0) -> list[ExperimentReport]:
    """Export runs; return what that did, for each experiment.

    Parameters
    ----------
    store
        MLflow.
    runs
        The runs.
    upload_bytes
        Files of at most so many bytes that runs generated are uploaded; 0 uploads none.

    Raises
    ------
    SinkError
        If MLflow fails. What was exported until then stays.
    """
    by_experiment: dict[str, list[RunExport]] = {}
    for run in runs:
        by_experiment.setdefault(run.experiment, []).append(run)
    return [
        _ExperimentExport(store, name, upload_bytes).export(group) for name, group in by_experiment.items()
    ]


def runs_and_steps(store: Store, experiment_id: str) -> tuple[dict[str, StoredRun], dict[str, StoredRun]]:
    """Return the runs of an experiment by their ids in flowprov, and its steps by their names."""
    runs: dict[str, StoredRun] = {}
    steps: dict[str, StoredRun] = {}
    for stored in store.runs(experiment_id):
        if RUN_ID in stored.tags:
            runs[stored.tags[RUN_ID]] = stored
        elif STEP in stored.tags:
            known = steps.get(stored.tags[STEP])
            if known is None or known.deleted:  # one that is there goes before a deleted one
                steps[stored.tags[STEP]] = stored
    return runs, steps


class _Member(NamedTuple):
    """What a step tells of one of its runs; times are in milliseconds since the epoch."""

    started_at: int
    run_id: str
    name: str
    commit: str | None
    status: str
    ended_at: int | None


def _member_of(run: RunExport, name: str) -> _Member:
    return _Member(run.started_at, run.run_id, name, run.commit, run.status, run.ended_at)


def _stored_member(run: StoredRun) -> _Member:
    tags = run.tags
    return _Member(run.started_at or 0, tags[RUN_ID], run.name, tags.get(COMMIT), run.status, run.ended_at)


class _ExperimentExport:
    """The export of the runs of one experiment."""

    def __init__(self, store: Store, name: str, upload_bytes: int) -> None:
        self._store = store
        self._upload_bytes = upload_bytes
        self._report = ExperimentReport(name)
        self._steps: dict[str, StoredRun] = {}
        self._runs: dict[str, StoredRun] = {}
        self._runs_of_steps: dict[str | None, list[StoredRun]] = {}
        self._experiment_id = ""

    def export(self, runs: Sequence[RunExport]) -> ExperimentReport:
        """Export runs, in the order of their starts; return what that did."""
        found = self._store.experiment(self._report.name)
        by_step: dict[str, list[RunExport]] = {}
        for run in sorted(runs, key=lambda one: (one.started_at, one.run_id)):
            by_step.setdefault(run.step, []).append(run)
        self._report.steps = len(by_step)
        if found is not None and found.deleted:
            self._report.deleted.append(f"the experiment {found.name}")
            return self._report
        if found is None:
            self._experiment_id = self._store.create_experiment(self._report.name)
        else:
            self._experiment_id = found.experiment_id
            self._runs, self._steps = runs_and_steps(self._store, found.experiment_id)
            for stored in self._runs.values():
                self._runs_of_steps.setdefault(stored.tags.get(_PARENT), []).append(stored)
        self._report.experiment_id = self._experiment_id
        for step, of_step in by_step.items():
            self._export_step(step, of_step)
        return self._report

    def _export_step(self, step: str, runs: Sequence[RunExport]) -> None:
        parent = self._steps.get(step)
        if parent is not None and parent.deleted:
            self._report.deleted.append(f"{step}, with its {len(runs)} runs")
            return
        if parent is None:
            parent = self._create(step, runs[0].started_at, {STEP: step, "base_run_name": step})
        others = self._others(parent, runs)
        names = self._names(runs, {one.name for one in others})
        for run in runs:
            self._export_run(run, names[run.run_id], parent.mlflow_id)
        members = sorted(
            [_member_of(run, names[run.run_id]) for run in runs] + list(map(_stored_member, others))
        )
        history = {one.name: one.commit for one in members}
        latest, ends = members[-1], [one.ended_at for one in members]
        ended_at = None if latest.ended_at is None else max(filter(None, ends))
        fingerprint = _digest(history, latest.status, ended_at)
        if parent.tags.get(EXPORTED) != fingerprint:
            self._store.log_json(parent.mlflow_id, history, HISTORY_FILE)
            self._store.end(parent.mlflow_id, latest.status, ended_at)
            self._store.log(parent.mlflow_id, LogBatch([], {}, {EXPORTED: fingerprint}))

    def _others(self, parent: StoredRun, runs: Sequence[RunExport]) -> list[StoredRun]:
        """Return the runs of a step that MLflow holds and that are not exported this time."""
        exported = {run.run_id for run in runs}
        held = self._runs_of_steps.get(parent.mlflow_id, [])
        return [stored for stored in held if stored.tags[RUN_ID] not in exported]

    def _names(self, runs: Sequence[RunExport], taken: set[str]) -> dict[str, str]:
        """Return the name of each run in MLflow; of those that begin in the same second, the later is -2."""
        names = {run.run_id: self._runs[run.run_id].name for run in runs if run.run_id in self._runs}
        taken = taken | set(names.values())
        for run in runs:
            if run.run_id not in names:
                name, number = run.name, 1
                while name in taken:
                    number += 1
                    name = f"{run.name}-{number}"
                names[run.run_id] = name
                taken.add(name)
        return names

    def _create(self, name: str, started_at: int, tags: Mapping[str, str]) -> StoredRun:
        """Create a run, which its tags tell from the beginning."""
        tags = {"run_name": name, **tags}
        mlflow_id = self._store.create_run(self._experiment_id, name, started_at, tags)
        self._store.log(mlflow_id, LogBatch([], {}, {"run_id": mlflow_id}))
        return StoredRun(mlflow_id, name, False, "RUNNING", started_at, None, dict(tags), {}, [])

    def _export_run(self, run: RunExport, name: str, parent_id: str) -> None:
        stored = self._runs.get(run.run_id)
        if stored is not None and stored.deleted:
            self._report.deleted.append(f"{run.step} {name}")
            return
        fingerprint = run.fingerprint()
        if stored is None:
            self._report.created += 1
            identity = {RUN_ID: run.run_id, "base_run_name": run.step, _PARENT: parent_id}
            stored = self._create(name, run.started_at, identity)
        elif stored.tags.get(EXPORTED) == fingerprint:
            self._report.unchanged += 1
        else:
            self._report.updated += 1
        if stored.tags.get(EXPORTED) != fingerprint:
            self._write(stored, run)
            self._store.log(stored.mlflow_id, LogBatch([], {}, {EXPORTED: fingerprint}))
        self._upload(stored, run)

    def _upload(self, stored: StoredRun, run: RunExport) -> None:
        """Upload the small files of a run that MLflow does not hold yet."""
        result = upload(self._store, stored, uploadables_of(run.artifacts, self._upload_bytes))
        if result.fingerprint is None:
            return
        tags = {UPLOADED: result.fingerprint}
        if result.failed or NOT_UPLOADED in stored.tags:
            tags[NOT_UPLOADED] = fit_value(json.dumps(result.failed), MAX_TAG)
        self._store.log(stored.mlflow_id, LogBatch([], {}, tags))
        self._report.uploaded += result.uploaded
        self._report.not_uploaded += [
            f"{run.step} {stored.name}, {name}: {reason}" for name, reason in result.failed.items()
        ]

    def _write(self, stored: StoredRun, run: RunExport) -> None:
        """Write what is new of a run."""
        params = {name: value for name, value in run.params.items() if name not in stored.params}
        changed = {
            name: value for name, value in run.params.items() if stored.params.get(name, value) != value
        }
        tags = {"run_id": stored.mlflow_id, **run.tags}
        if changed:
            tags["flowprov.changed_params"] = fit_value(json.dumps(changed), MAX_TAG)
            self._report.changed_params += len(changed)
        points = self._new_points(stored, run.metrics)
        for batch in batches(points, params.items(), tags.items()):
            self._store.log(stored.mlflow_id, batch)
        self._report.points += len(points)
        self._store.log_datasets(stored.mlflow_id, map(_dataset, map(msgspec.to_builtins, run.datasets)))
        self._store.log_json(stored.mlflow_id, {stored.name: run.commit}, HISTORY_FILE)
        if run.artifacts:
            self._store.log_json(stored.mlflow_id, run.artifacts, ARTIFACTS_FILE)
        self._store.end(stored.mlflow_id, run.status, run.ended_at)

    def _new_points(self, stored: StoredRun, points: Sequence[Point]) -> list[Point]:
        """Return the values that MLflow does not hold yet."""
        known = {
            _key(point)
            for name in {point.name for point in points} & set(stored.metric_names)
            for point in self._store.history(stored.mlflow_id, name)
        }
        return [point for point in points if _key(point) not in known]


def _key(point: Point) -> tuple[str, int, str]:
    return point.name, point.step, repr(as_stored(point.value))  # as a text: NaN equals nothing


def _dataset(use: Mapping[str, Any]) -> dict[str, str]:
    digest = use["digest"] or _NO_DIGEST
    return {
        "name": fit_value(use["path"].rpartition("/")[2] or use["path"], MAX_DATASET_NAME),
        "digest": digest[:MAX_DATASET_DIGEST],
        "source": json.dumps({"uri": use["path"]}),
        "profile": json.dumps(use["facts"]),
        "context": use["role"],
    }


def _digest(*values: Any) -> str:
    return sha256(msgspec.json.encode(values)).hexdigest()
