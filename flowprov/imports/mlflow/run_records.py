"""The records that stand for a run of MLflow.

Flows in: the run, and the values of its metrics. Flows out: a workflow, metrics, artifacts and digests.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

from flowprov.contents.stat_cache import stat_fields
from flowprov.export.mlflow.limits import Point, as_stored
from flowprov.export.mlflow.run_export import RUN_ID
from flowprov.export.mlflow.store import StoredExperiment, StoredRun, local_path
from flowprov.records import Artifact, Digest, Metrics, Status, Workflow
from flowprov.values import Summarizer, as_name, redact_urls

ENDED = {
    "FINISHED": Status.FINISHED.value,
    "FAILED": Status.ERROR.value,
    "KILLED": Status.INTERRUPTED.value,
}
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(?P<fraction>\.\d*)?(?P<exponent>[eE][-+]?\d+)?")
_WORDS = {"True": True, "False": False}
_OWN_TAGS = ("mlflow.", "flowprov.")
_EXPORTED_TAGS = {"run_name", "base_run_name", "run_id"}
_MS = 1_000_000  # nanoseconds
_LARGEST = as_stored(math.inf)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def workflow_id_of(mlflow_id: str) -> str:
    """Return the id of the workflow that stands for a run: that of the run, in the form of flowprov's ids."""
    try:
        return str(UUID(mlflow_id))
    except ValueError:
        return f"mlflow-{mlflow_id}"


def workflow_of(run: StoredRun, experiment: StoredExperiment, summarizer: Summarizer) -> Workflow:
    """Return the workflow that stands for a run; of one that MLflow holds for running, an interrupted one."""
    tags = run.tags
    parent = tags.get("mlflow.parentRunId") if RUN_ID not in tags else None  # a step is no workflow
    name = tags.get("base_run_name", run.name) if RUN_ID in tags else run.name
    exported = tags.get("flowprov.status")
    own = {
        name: summarizer.summarize(value, key=name)
        for name, value in tags.items()
        if not name.startswith(_OWN_TAGS) and not (RUN_ID in tags and name in _EXPORTED_TAGS)
    }
    code = {
        "commit": tags.get("mlflow.source.git.commit"),
        "branch": tags.get("mlflow.source.git.branch"),
        "remote": redact_urls(tags.get("mlflow.source.git.repoURL", "")) or None,
    }
    source = {
        "run_id": run.mlflow_id,
        "experiment": experiment.name,
        "experiment_id": experiment.experiment_id,
        "status": run.status,
        "source": tags.get("mlflow.source.name"),
        "note": tags.get("mlflow.note.content"),
    }
    return Workflow(
        workflow_id=workflow_id_of(run.mlflow_id),
        parent_workflow_id=None if parent is None else workflow_id_of(parent),
        name=as_name(name),
        used={name: summarizer.summarize(_typed(text), key=name) for name, text in run.params.items()},
        custom_metadata={
            "mlflow": {
                name: summarizer.summarize(value, key=name)
                for name, value in source.items()
                if value is not None
            },
            **({"tags": [f"{name}={value}" for name, value in own.items()]} if own else {}),
        },
        user=as_name(tags.get("mlflow.user") or run.user),
        code_repository={name: value for name, value in code.items() if value is not None} or None,
        started_at=_nanoseconds(run.started_at),
        ended_at=_nanoseconds(run.ended_at),
        status=exported
        if exported in set(ENDED.values())
        else ENDED.get(run.status, Status.INTERRUPTED.value),
    )


def metrics_of(
    workflow_id: str, series: Iterable[Sequence[Point]], summarizer: Summarizer
) -> Iterator[Metrics]:
    """Yield the values of metrics: one record for those of one moment and step.

    Where values of a metric share a step, as they do if a program gave none, steps count on in the order of
    time.
    """
    # Where a metric has several values at one moment, too, each has a record of its own.
    groups: dict[tuple[int, int, int, int], dict[str, Any]] = {}
    for points in series:
        counted = Counter(point.step for point in points)
        repeats = any(count > 1 for count in counted.values())
        seen: Counter[int] = Counter()
        for point in sorted(points, key=lambda one: (one.at, one.step)):
            group = (point.at, 0, 0, seen[point.at]) if repeats else (point.at, 1, point.step, 0)
            seen[point.at] += 1
            groups.setdefault(group, {})[point.name] = summarizer.summarize(_number(point.value))
    for (at, has_step, step, _), values in sorted(groups.items(), key=itemgetter(0)):
        yield Metrics(at=at * _MS, workflow_id=workflow_id, step=step if has_step else None, values=values)


def artifacts_of(
    run: StoredRun, listed: Iterable[tuple[str, int | None]], next_number: Callable[[], int]
) -> Iterator[Artifact | Digest]:
    """Yield the artifacts of a run, and the data sets that it used."""
    workflow_id = workflow_id_of(run.mlflow_id)
    ended = _nanoseconds(run.ended_at if run.ended_at is not None else run.started_at) or 0
    root = local_path(run.artifact_uri)
    for path, size in listed:
        number = next_number()
        place = None if root is None else root / path
        stat = None if place is None else _stat(place)
        yield Artifact(
            number=number,
            workflow_id=workflow_id,
            role="generated",
            name=as_name(path),
            kind="file",
            path=None if place is None else redact_urls(str(place)),
            uri=None if place is not None else redact_urls(f"{run.artifact_uri}/{path}"),
            size=size,
            stat=stat,
            at=ended,
        )
        if stat is None:
            yield Digest(number=number, state="skipped", reason="it lies with MLflow", at=ended)
    for dataset in run.datasets:
        yield from _dataset(dataset, workflow_id, next_number(), _nanoseconds(run.started_at) or 0)


def _dataset(
    dataset: Mapping[str, Any], workflow_id: str, number: int, at: int
) -> Iterator[Artifact | Digest]:
    context = dataset["context"].get("mlflow.data.context")
    source, profile = _object(dataset.get("source")), _object(dataset.get("profile"))
    place = next((source[name] for name in ("uri", "path", "url") if isinstance(source.get(name), str)), None)
    is_local = place is not None and place.startswith("/")
    yield Artifact(
        number=number,
        workflow_id=workflow_id,
        role="generated" if context == "generated" else "used",
        name=as_name(str(dataset.get("name"))),
        kind="dataset",
        path=place if is_local else None,
        uri=None if place is None or is_local else redact_urls(place),
        metadata={"digest": dataset.get("digest"), "context": context},
        at=at,
    )
    sha256, md5 = str(profile.get("sha256")), str(profile.get("md5"))
    digests = {"sha256": sha256} if _SHA256.fullmatch(sha256) else {}
    digests |= {"dvc" if md5.endswith(".dir") else "md5": md5} if "md5" in profile else {}
    if digests:
        yield Digest(number=number, state="digested", digests=digests, at=at)
    else:
        yield Digest(number=number, state="skipped", reason="MLflow knows its own digest only", at=at)


def _typed(text: str) -> Any:
    """Return the value that a param had before MLflow made a text of it, where that is certain."""
    if text in _WORDS:
        return _WORDS[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    return float(text) if match["fraction"] or match["exponent"] else int(text)


def _number(value: float) -> float:
    """Return a value as the program had it: MLflow keeps infinity as the largest number."""
    return math.copysign(math.inf, value) if abs(value) == _LARGEST else value


def _stat(path: Path) -> list[int] | None:
    try:
        return stat_fields(path.stat())
    except (OSError, ValueError):  # it is gone, or lies on another machine
        return None


def _object(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = {"uri": text}
    return found if isinstance(found, dict) else {}


def _nanoseconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds * _MS
