"""MLflow in memory: it refuses what MLflow refuses, and keeps whatever it is given twice."""

# ruff: noqa: D102 - the methods are those of Store

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowprov.errors import SinkRefusedError
from flowprov.export.mlflow.limits import LogBatch, Point, as_stored
from flowprov.export.mlflow.store import Store, StoredExperiment, StoredRun

_NAME = re.compile(r"[/\w.\- :]+")


class MemoryStore(Store):
    """Experiments and runs in memory; the call number ``interrupted_at`` raises KeyboardInterrupt.

    It refuses files with the names in ``refused``.
    """

    def __init__(self) -> None:
        self.uri = self.name = "sqlite:///memory.db"
        self.found: dict[str, StoredExperiment] = {}
        self.stored: dict[str, StoredRun] = {}
        self.experiment_of: dict[str, str] = {}
        self.points: dict[str, list[Point]] = {}
        self.files: dict[tuple[str, str], Any] = {}
        self.refused: set[str] = set()
        self.calls = 0
        self.interrupted_at: int | None = None

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt

    def experiments(self) -> list[StoredExperiment]:
        return list(self.found.values())

    def experiment(self, name: str) -> StoredExperiment | None:
        return next((one for one in self.found.values() if one.name == name), None)

    def create_experiment(self, name: str) -> str:
        self._count()
        assert self.experiment(name) is None
        experiment_id = str(len(self.found) + 1)
        self.found[experiment_id] = StoredExperiment(experiment_id, name, False, 1_000, "/nowhere")
        return experiment_id

    def runs(self, experiment_id: str) -> Iterator[StoredRun]:
        return (run for key, run in self.stored.items() if self.experiment_of[key] == experiment_id)

    def create_run(self, experiment_id: str, name: str, started_at: int, tags: Mapping[str, str]) -> str:
        self._count()
        mlflow_id = uuid.uuid4().hex
        self.stored[mlflow_id] = StoredRun(
            mlflow_id, name, False, "RUNNING", started_at, None, dict(tags), {}, [], f"s3://b/{mlflow_id}"
        )
        self.experiment_of[mlflow_id], self.points[mlflow_id] = experiment_id, []
        return mlflow_id

    def log(self, mlflow_id: str, batch: LogBatch) -> None:
        self._count()
        assert len(batch.metrics) <= 1_000
        assert len(batch.params) <= 100
        assert len(batch.tags) <= 100
        assert len(json.dumps([batch.params, batch.tags])) < 1_000_000
        run = self.stored[mlflow_id]
        for name, value in batch.params.items():
            assert len(value) <= 6_000
            assert run.params.get(name, value) == value
        for name in (*batch.params, *batch.tags, *(point.name for point in batch.metrics)):
            assert _NAME.fullmatch(name)
            assert len(name) <= 250
        assert all(len(value) <= 8_000 for value in batch.tags.values())
        run.params.update(batch.params)
        run.tags.update(batch.tags)
        for point in batch.metrics:
            self.points[mlflow_id].append(point._replace(value=as_stored(point.value)))
        run.metric_names = sorted({point.name for point in self.points[mlflow_id]})

    def history(self, mlflow_id: str, name: str) -> list[Point]:
        return [point for point in self.points[mlflow_id] if point.name == name]

    def log_datasets(self, mlflow_id: str, datasets: Iterable[Mapping[str, str]]) -> None:
        self._count()
        run = self.stored[mlflow_id]
        for one in datasets:
            assert len(one["digest"]) <= 36
            known = {**one, "context": {"mlflow.data.context": one["context"]}}
            if known not in run.datasets:  # as MLflow does
                run.datasets = [*run.datasets, known]

    def log_json(self, mlflow_id: str, value: Any, path: str) -> None:
        self._count()
        self.files[mlflow_id, path] = json.loads(json.dumps(value))

    def log_file(self, mlflow_id: str, path: Path, folder: str) -> None:
        self._count()
        assert re.fullmatch(r"[\w.\-=+]+", path.name, re.ASCII)
        assert len(path.name) < 200
        if path.name in self.refused:
            raise SinkRefusedError(f"{path.name} is refused")
        self.files[mlflow_id, f"{folder}/{path.name}"] = path.read_bytes()

    def end(self, mlflow_id: str, status: str, ended_at: int | None) -> None:
        self._count()
        self.stored[mlflow_id].status, self.stored[mlflow_id].ended_at = status, ended_at

    def artifacts(self, mlflow_id: str, folder: str | None = None) -> Iterator[tuple[str, int | None]]:
        return (
            (path, len(value) if isinstance(value, bytes) else 5)
            for (key, path), value in self.files.items()
            if key == mlflow_id and (folder is None or path.startswith(f"{folder}/"))
        )

    def steps(self) -> dict[str, StoredRun]:
        """Return the runs without a parent, by name."""
        found = [run for run in self.stored.values() if "mlflow.parentRunId" not in run.tags]
        assert len({run.name for run in found}) == len(found)
        return {run.name: run for run in found}

    def children(self, step: str) -> list[StoredRun]:
        """Return the runs of a step, the earliest first."""
        parent = self.steps()[step].mlflow_id
        found = [run for run in self.stored.values() if run.tags.get("mlflow.parentRunId") == parent]
        return sorted(found, key=lambda run: (run.started_at or 0, run.name))

    def content(self) -> Any:
        """Return everything, as a text that can be compared: NaN equals nothing."""
        runs = {key: repr(run) for key, run in self.stored.items()}
        return runs, repr(self.points), repr(self.files), list(itertools.chain(self.found))
