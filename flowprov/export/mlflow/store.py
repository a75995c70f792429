"""A tracking server of MLflow, or its database: the one file that knows the client of MLflow.

Flows in: the address, and what is to be stored. Flows out: calls of MLflow's client; whatever it raises
becomes an error of a sink, with what mends it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flowprov.errors import FlowprovError, MissingExtraError, SinkRefusedError, SinkUnavailableError
from flowprov.export.mlflow.limits import LogBatch, Point
from flowprov.settings import redact_source, redact_text

_PURPOSE = "talk to MLflow"
_OURS = {"mlflow": "mlflow-skinny", "sqlalchemy": "SQLAlchemy", "alembic": "Alembic"}  # of the extra
_ADDRESS = re.compile(r"(https?|sqlite|mysql|postgresql|mssql)(\+\w+)?://")
_LONGEST_REASON = 300
_PAGE = 1_000
# A person waits: MLflow itself would try for many minutes. And nothing about this use is sent anywhere.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_UI = "http://127.0.0.1:5000"  # of `mlflow ui`
_STAYS = "What is there already stays, and the same command writes the rest."
# What the messages of MLflow, its database layer and its HTTP layer say, and what is said in their place.
_REASONS = (
    (
        "disk is full|no space left|disk i/o|quota",
        SinkRefusedError,
        f"cannot be written: the disk is full. Make room, then export again. {_STAYS}",
    ),
    (
        "database is locked",
        SinkUnavailableError,
        f"is used by another program just now. Try again when that has ended. {_STAYS}",
    ),
    (
        "out-of-date database schema|can't locate revision",
        SinkRefusedError,
        "is of another version of MLflow. Install that one, or copy the database and run: mlflow db upgrade",
    ),
    (
        "file is not a database|unable to open database",
        SinkRefusedError,
        "is no database, or cannot be opened. Give the path of another file; a new one is created.",
    ),
    (
        "readonly database|permission denied",
        SinkRefusedError,
        "cannot be written: this user has no right to. Give another one, or the right to write.",
    ),
    (
        "max retries exceeded|connection(error| refused| reset)|timed? ?out",
        SinkUnavailableError,
        f"cannot be reached. Start the server (mlflow server --port PORT), or give another URI. {_STAYS}",
    ),
)


class StoredRun(msgspec.Struct):
    """A run as MLflow holds it."""

    mlflow_id: str
    name: str
    deleted: bool
    status: str
    started_at: int | None
    ended_at: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metric_names: list[str]
    artifact_uri: str | None = None
    user: str | None = None
    datasets: list[dict[str, Any]] = []


class StoredExperiment(msgspec.Struct):
    """An experiment as MLflow holds it."""

    experiment_id: str
    name: str
    deleted: bool
    created_at: int | None = None
    artifact_location: str | None = None


class Store:
    """The experiments and runs of one MLflow.

    Parameters
    ----------
    uri
        Its address: ``sqlite:///mlflow.db``, another database, or ``http(s)://`` of a tracking server.

    Raises
    ------
    MissingExtraError
        If MLflow's client, or what it needs for a database, is not installed.
    SinkError
        Also of each method: the server is away, the disk is full, the database is of another version.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.name = redact_source(uri)
        if not _ADDRESS.match(uri):
            raise SinkRefusedError(
                f"{self.name} names no MLflow. Give a database, as in sqlite:///mlflow.db, or a tracking "
                "server, as in http://localhost:5000; MLflow keeps no new runs in folders"
            )
        with self._translated():
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)

    def link(self, experiment_id: str) -> str:
        """Return the address at which a browser shows the runs of an experiment."""
        server = self.uri.rstrip("/") if self.uri.startswith(("http://", "https://")) else _UI
        return f"{redact_source(server)}/#/experiments/{experiment_id}?workflowType=machine_learning"

    @property
    def is_database(self) -> bool:
        """Whether there is no server, but a database that ``mlflow ui`` shows."""
        return not self.uri.startswith(("http://", "https://"))

    def experiments(self) -> list[StoredExperiment]:
        """Return all experiments, deleted ones too."""
        from mlflow.entities import ViewType

        with self._translated():
            found, token = [], None
            while True:
                page = self._client.search_experiments(
                    view_type=ViewType.ALL, max_results=_PAGE, page_token=token
                )
                found += [_experiment(one) for one in page]
                if not (token := page.token):
                    return found

    def experiment(self, name: str) -> StoredExperiment | None:
        """Return the experiment of a name; None if there is none."""
        with self._translated():
            found = self._client.get_experiment_by_name(name)
            return None if found is None else _experiment(found)

    def create_experiment(self, name: str) -> str:
        """Create an experiment; return its id."""
        with self._translated():
            return str(self._client.create_experiment(name))

    def runs(self, experiment_id: str) -> Iterator[StoredRun]:
        """Yield the runs of an experiment, deleted ones too."""
        from mlflow.entities import ViewType

        token = None
        while True:
            with self._translated():
                page = self._client.search_runs(
                    [experiment_id], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token
                )
            yield from map(_run, page)
            if not (token := page.token):
                return

    def create_run(self, experiment_id: str, name: str, started_at: int, tags: Mapping[str, str]) -> str:
        """Create a run; return the id that MLflow chose."""
        with self._translated():
            run = self._client.create_run(
                experiment_id, start_time=started_at, tags=dict(tags), run_name=name
            )
            return str(run.info.run_id)

    def log(self, mlflow_id: str, batch: LogBatch) -> None:
        """Add metrics, params and tags to a run, in one call."""
        from mlflow.entities import Metric, Param, RunTag

        with self._translated():
            self._client.log_batch(
                mlflow_id,
                metrics=[Metric(one.name, one.value, one.at, one.step) for one in batch.metrics],
                params=[Param(*pair) for pair in batch.params.items()],
                tags=[RunTag(*pair) for pair in batch.tags.items()],
            )

    def history(self, mlflow_id: str, name: str) -> list[Point]:
        """Return the values of a metric."""
        with self._translated():
            return [
                Point(one.key, one.value, one.step, one.timestamp)
                for one in self._client.get_metric_history(mlflow_id, name)
            ]

    def log_datasets(self, mlflow_id: str, datasets: Iterable[Mapping[str, str]]) -> None:
        """Add data sets to a run; each has ``name``, ``digest``, ``source``, ``profile`` and ``context``."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=one["name"],
                    digest=one["digest"],
                    source_type="local",
                    source=one["source"],
                    profile=one["profile"],
                ),
                [InputTag("mlflow.data.context", one["context"])],
            )
            for one in datasets
        ]
        if inputs:
            with self._translated():
                self._client.log_inputs(mlflow_id, inputs)

    def log_json(self, mlflow_id: str, value: Any, path: str) -> None:
        """Write a value as a JSON artifact of a run, over the one that is there."""
        with self._translated():
            self._client.log_text(mlflow_id, json.dumps(value, indent=2, ensure_ascii=False), path)

    def log_file(self, mlflow_id: str, path: Path, folder: str) -> None:
        """Write a file as an artifact of a run, into a folder there, over the one that has its name."""
        with self._translated():
            self._client.log_artifact(mlflow_id, str(path), folder)

    def end(self, mlflow_id: str, status: str, ended_at: int | None) -> None:
        """Set what became of a run, and when; of one that still runs, nothing."""
        with self._translated():
            if ended_at is None:
                self._client.update_run(mlflow_id, status=status)
            else:
                self._client.set_terminated(mlflow_id, status, ended_at)

    def artifacts(self, mlflow_id: str, folder: str | None = None) -> Iterator[tuple[str, int | None]]:
        """Yield path and size of each artifact of a run."""
        with self._translated():
            found = self._client.list_artifacts(mlflow_id, folder)
        for one in found:
            if one.is_dir:
                yield from self.artifacts(mlflow_id, one.path)
            else:
                yield one.path, one.file_size

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with _quiet_environment():
            try:
                yield
            except Exception as error:  # MLflow, its database layer and its HTTP layer have no common base
                raise self._error(error) from error

    def _error(self, error: Exception) -> FlowprovError:
        """Return what is said of an error of MLflow's client."""
        text = " ".join(str(error).split())
        if isinstance(error, ModuleNotFoundError):
            module = str(error.name).partition(".")[0]
            if module in _OURS:
                return MissingExtraError(_OURS[module], "mlflow", _PURPOSE)
            return SinkRefusedError(f"{self.name} needs the module {module}: pip install {module}")
        if isinstance(error, ImportError):
            return SinkRefusedError(
                f"MLflow cannot be loaded, as packages do not fit together ({text}). Install newer ones: "
                'pip install --upgrade "flowprov[mlflow]"'
            )
        for words, kind, reason in _REASONS:
            if re.search(words, text, re.IGNORECASE):
                return kind(f"{self.name} {reason}")
        return SinkRefusedError(f"{self.name}: {_shorten(redact_text(text)) or type(error).__name__}")


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """Have MLflow wait shortly, log warnings only, and report its use to nobody, as far as nobody said so."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    disabled = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(logging.ERROR)  # it logs errors that it raises, and configures its loggers when it likes
    try:
        yield
    finally:
        logging.disable(disabled)
        for name in added:
            os.environ.pop(name, None)


def local_path(uri: str | None) -> Path | None:
    """Return the path to which a URI of an artifact leads on this machine; None if it leads elsewhere."""
    if uri is None:
        return None
    parts = urlsplit(uri)
    return Path(parts.path) if parts.scheme in ("", "file") and parts.netloc in ("", "localhost") else None


def _experiment(found: Any) -> StoredExperiment:
    return StoredExperiment(
        str(found.experiment_id),
        str(found.name),
        found.lifecycle_stage == "deleted",
        found.creation_time,
        found.artifact_location,
    )


def _run(found: Any) -> StoredRun:
    inputs = getattr(found, "inputs", None)
    return StoredRun(
        mlflow_id=str(found.info.run_id),
        name=str(found.info.run_name),
        deleted=found.info.lifecycle_stage == "deleted",
        status=str(found.info.status),
        started_at=found.info.start_time,
        ended_at=found.info.end_time,
        tags=dict(found.data.tags),
        params=dict(found.data.params),
        metric_names=list(found.data.metrics),
        artifact_uri=found.info.artifact_uri,
        user=found.info.user_id,
        datasets=[
            {**one.dataset.to_dictionary(), "context": {tag.key: tag.value for tag in one.tags}}
            for one in (inputs.dataset_inputs if inputs is not None else ())
        ],
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
