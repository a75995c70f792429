"""What MLflow gets of a run: its params, metrics, tags, data sets and artifacts.

Flows in: what campaigns hold. Flows out: one struct for each run, in which everything is as MLflow takes it.
A step is what runs of one name do.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import msgspec

from flowprov.export.mlflow.limits import (
    MAX_NAME,
    MAX_PARAM,
    MAX_TAG,
    Point,
    cut_mark,
    fit_experiment_name,
    fit_name,
    fit_value,
)
from flowprov.read.answers.contents import Contents
from flowprov.read.answers.kept_versions import version_at_start
from flowprov.read.answers.run_search import Run, TaskTree
from flowprov.read.answers.series import Value, values_of
from flowprov.read.answers.tables import Line, run_lines, runs_with_attempts
from flowprov.read.artifacts.catalog import Sighting
from flowprov.read.step_history import data_of
from flowprov.read.value_paths import as_float, value_paths
from flowprov.records import Status

COMMIT = "mlflow.source.git.commit"
"""The tag by which MLflow shows the commit of a run."""

RUN_ID = "flowprov.run_id"
"""The tag by which a run is found again; MLflow chooses its ids itself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_STATUS = {
    Status.FINISHED.value: "FINISHED",
    Status.ERROR.value: "FAILED",
    Status.RUNNING.value: "RUNNING",
    Status.SUBMITTED.value: "SCHEDULED",
}
_KILLED = "KILLED"  # MLflow has no word for interrupted


class DatasetUse(msgspec.Struct, frozen=True):
    """Data that a run used or generated; ``digest`` is its whole digest, if that is known."""

    path: str
    digest: str | None
    role: str
    facts: dict[str, Any]


class RunExport(msgspec.Struct, frozen=True):
    """What MLflow gets of a run.

    Attributes
    ----------
    run_id, step
        Its id in flowprov, and the name of its step.
    experiment
        The name of its experiment: that of its campaign, or its id.
    started_at, ended_at
        Milliseconds since the epoch.
    status
        In the words of MLflow.
    params, metrics, tags
        As MLflow takes them.
    datasets, artifacts
        What it used and generated.
    commit
        The commit on which it began.
    """

    run_id: str
    step: str
    experiment: str
    started_at: int
    ended_at: int | None
    status: str
    params: dict[str, str]
    metrics: list[Point]
    tags: dict[str, str]
    datasets: list[DatasetUse]
    artifacts: list[Line]
    commit: str | None

    @property
    def name(self) -> str:
        """Its name in MLflow: the date and the time at which it began, in UTC."""
        return (_EPOCH + timedelta(seconds=self.started_at // 1000)).strftime("%Y%m%d-%H%M%S")

    def fingerprint(self) -> str:
        """Return a digest of all of it: of a run that changed, another one."""
        return sha256(msgspec.json.encode(self)).hexdigest()


def exports_of(
    contents: Contents, sightings: Mapping[str, Sequence[Sighting]]
) -> Iterator[tuple[RunExport, Sequence[Run]]]:
    """Yield what MLflow gets of each run of a campaign, and its attempts, in the order of their starts.

    Parameters
    ----------
    contents
        The campaign, with every iteration.
    sightings
        The artifacts that were used and generated, by the id of the workflow.
    """
    tree = TaskTree(contents)
    groups = runs_with_attempts(contents, attempts=False)
    for line, group in zip(run_lines(contents), groups, strict=True):
        touched = [one for run in group for one in _touched_by(run, sightings)]
        values = values_of(group, tree)
        params = _params_of(group)
        names = dict.fromkeys([*params, *(value.name for value in values)])
        at = _milliseconds(line["started_at"]) or 0
        export = RunExport(
            run_id=str(line["run_id"]),
            step=fit_value(str(line["name"] or line["run_id"]), MAX_NAME),
            experiment=fit_experiment_name(str(line["campaign"] or line["campaign_id"])),
            started_at=at,
            ended_at=_milliseconds(line["ended_at"]),
            status=_STATUS.get(str(line["status"]), _KILLED),
            params={fit_name(name): fit_value(text, MAX_PARAM) for name, text in params.items()},
            metrics=[_point(value, at) for value in values],
            tags={**_tags_of(contents, line, group), **_marks(params, names, values)},
            datasets=_datasets_of(contents, group, touched),
            artifacts=[_artifact_line(one) for one in touched],
            commit=line["git_commit"],
        )
        yield export, group


def _params_of(group: Sequence[Run]) -> dict[str, str]:
    """Return what a run used, by its path: a task's own above its workflow's."""
    params: dict[str, str] = {}
    for run in group:
        for holder in (run.workflow, run.task):
            used = {} if holder is None else holder.used or {}
            texts = {path: _text(value) for path, value in value_paths(used)}
            params |= {path: text for path, text in texts.items() if text is not None}
    return params


def _text(value: Any) -> str | None:
    """Return the text that stands for a value; None for what is no param, as a tensor."""
    if isinstance(value, Mapping):
        beginning = value.get("$str")
        if isinstance(beginning, str) and isinstance(length := value.get("length"), int):
            return f"{beginning}{cut_mark(length)}"
        return str(value["$enum"]) if "$enum" in value else None
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return None if value is None else str(value)


def _point(value: Value, started_at: int) -> Point:
    at = _milliseconds(value.at)
    at = started_at if at is None else max(0, at)
    return Point(fit_name(value.name), as_float(value.value), value.step, at)


def _tags_of(contents: Contents, line: Line, group: Sequence[Run]) -> dict[str, str]:
    last = group[-1]
    workflow = last.workflow
    repository = {} if workflow is None else workflow.code_repository or {}
    version = None
    if workflow is not None:
        version = version_at_start(contents.versions, workflow.workflow_id, workflow.attempt)
    code = {**repository, **((None if version is None else version.record.code) or {})}
    tags = {
        "flowprov.workflow_id": line["workflow_id"],
        "flowprov.campaign_id": line["campaign_id"],
        "flowprov.campaign": line["campaign"],
        "flowprov.status": line["status"],
        "flowprov.error": line["error"],
        "flowprov.attempts": line["attempts"] if line["attempts"] != 1 else None,
        "flowprov.hostname": line["hostname"],
        "flowprov.tags": json.dumps(line["tags"]) if line["tags"] else None,
        COMMIT: line["git_commit"],
        "mlflow.source.git.branch": code.get("branch"),
        "mlflow.source.git.repoURL": code.get("remote"),
        "mlflow.source.git.dirty": None if line["git_dirty"] is None else str(line["git_dirty"]).lower(),
        "mlflow.source.name": None if version is None else version.record.script,
        "mlflow.user": line["user"],
    }
    return {name: fit_value(str(value), MAX_TAG) for name, value in tags.items() if value is not None}


def _marks(params: Mapping[str, str], names: Iterable[str], values: Iterable[Value]) -> dict[str, str]:
    """Return the tags that say what is not in MLflow as it was recorded."""
    marks: dict[str, Any] = {
        "flowprov.cut": [name for name, text in params.items() if len(text) > MAX_PARAM],
        "flowprov.renamed": {fit_name(name): name for name in names if fit_name(name) != name},
        # MLflow keeps the largest number in their place.
        "flowprov.infinite": Counter(value.name for value in values if math.isinf(value.value)),
    }
    return {name: fit_value(json.dumps(mark), MAX_TAG) for name, mark in marks.items() if mark}


def _touched_by(run: Run, sightings: Mapping[str, Sequence[Sighting]]) -> list[Sighting]:
    """Return the artifacts that a run used and generated; a run that is a task has those in it."""
    if run.workflow is None:
        return []
    touched = sightings.get(run.workflow.workflow_id, ())
    return [one for one in touched if run.task is None or str(run.task.task_id) in one.around]


def _datasets_of(contents: Contents, group: Sequence[Run], touched: Sequence[Sighting]) -> list[DatasetUse]:
    found: dict[tuple[str, str | None, str], DatasetUse] = {}
    for run in group:
        if run.workflow is None:
            continue
        for entry in data_of(contents.versions, run.workflow, touched):
            for use in _uses_of(entry):
                found.setdefault((use.path, use.digest, use.role), use)
    return list(found.values())


def _uses_of(entry: Mapping[str, Any]) -> Iterator[DatasetUse]:
    """Yield what was used, and what was generated, of data that DVC keeps, or of another data set."""
    path = str(entry["path"])
    if "role" in entry:
        yield DatasetUse(path, entry["sha256"], str(entry["role"]), {"sha256": entry["sha256"]})
        return
    yield DatasetUse(path, entry["md5"], "used", {"md5": entry["md5"], "state": entry["state"]})
    if entry.get("md5_at_end") not in (None, entry["md5"]):
        facts = {"md5": entry["md5_at_end"], "state": entry.get("state_at_end")}
        yield DatasetUse(path, entry["md5_at_end"], "generated", facts)


def _artifact_line(one: Sighting) -> Line:
    return {
        "role": one.role,
        "name": one.record.name,
        "kind": one.record.kind,
        "path": one.record.path,
        "uri": one.record.uri,
        "size": one.size,
        "sha256": one.sha256,
        "weights": one.weights,
        "state": one.state,
        "epoch": one.record.epoch,
        "step": one.record.step,
        "hostname": one.header.hostname,
        "artifact_id": one.artifact_id,
    }


def _milliseconds(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else nanoseconds // 1_000_000
