"""Experiments of MLflow become campaigns, whose runs, metrics and artifacts are read as all others."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

import flowprov
from flowprov.errors import JournalError, UnknownIdError
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.limits import LogBatch, Point
from flowprov.imports.mlflow.experiment_import import ImportReport, import_experiments
from flowprov.read.artifacts.questions import artifact_table
from flowprov.read.questions import run_table
from flowprov.read.verify import verify
from flowprov.settings import JournalSettings
from flowprov.values import Summarizer
from tests.export.memory_store import MemoryStore
from tests.support import run

_START = 1_700_000_000_000  # milliseconds


def _import(
    store: MemoryStore, buffer: Path, *, experiment: str | None = None, running: bool = False
) -> list[ImportReport]:
    settings = JournalSettings(path=str(buffer))
    return list(import_experiments(store, settings, Summarizer(), experiment=experiment, running=running))


@pytest.fixture
def store() -> MemoryStore:
    """Return an experiment of some other program: a parent with two runs, one of which still runs."""
    store = MemoryStore()
    experiment = store.create_experiment("theirs")
    outer = store.create_run(experiment, "outer", _START, {"team": "a", "mlflow.user": "eve"})
    store.end(outer, "FINISHED", _START + 9_000)
    for number, name in enumerate(("first", "second")):
        tags = {"mlflow.parentRunId": outer, "mlflow.source.git.commit": "c0ffee"}
        inner = store.create_run(experiment, name, _START + 1_000 + number, tags)
        params = {"lr": "1e-3", "layers": "3", "fast": "True", "name": "007", "password": "hunter2"}
        stepped = [Point("loss", 1 / (step + 1), step * 10, _START + step) for step in range(3)]
        odd = ((5, 0.1), (6, math.nan), (6, math.inf))
        unstepped = [Point("acc", value, 0, _START + at) for at, value in odd]
        store.log(inner, LogBatch([*stepped, *unstepped], params, {}))
        store.log_json(inner, {}, "plots/loss.json")
        if number == 0:
            store.end(inner, "FAILED", _START + 4_000)
    return store


def test_runs_have_params_metrics_times_and_status_of_mlflow(store: MemoryStore, tmp_path: Path) -> None:
    (report,) = _import(store, tmp_path)
    assert (report.name, report.imported, report.running, report.values) == ("theirs", 2, 1, 6)
    outer, first = run_table(tmp_path)
    assert (outer["name"], outer["status"], outer["tags"], outer["user"]) == (
        "outer",
        "FINISHED",
        ["team=a"],
        "eve",
    )
    assert (first["name"], first["status"], first["git_commit"]) == ("first", "ERROR", "c0ffee")
    assert (first["started_at"], first["ended_at"]) == ((_START + 1_000) * 10**6, (_START + 4_000) * 10**6)
    given = {name: first[f"params.{name}"] for name in ("lr", "layers", "fast", "name")}
    assert given == {"lr": 0.001, "layers": 3, "fast": True, "name": "007"}
    assert "hunter2" not in "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    metrics = flowprov.metrics(tmp_path)
    loss = metrics[metrics["name"] == "loss"]
    assert list(loss["step"]) == [0, 10, 20]
    assert list(loss["value"]) == [1.0, 0.5, 1 / 3]
    assert list(loss["at"].astype("int64") // 10**6) == [_START, _START + 1, _START + 2]
    acc = list(metrics[metrics["name"] == "acc"]["value"])
    assert repr(acc) == "[0.1, nan, inf]"
    (artifact,) = artifact_table(tmp_path)
    assert (artifact["name"], artifact["size"], artifact["state"]) == ("plots/loss.json", 5, "skipped")
    assert artifact["path"].endswith("/plots/loss.json")
    assert verify(tmp_path).verdict == "COMPLETE"


def test_a_second_import_gives_nothing_new(store: MemoryStore, tmp_path: Path) -> None:
    _import(store, tmp_path)
    files = sorted(tmp_path.rglob("*"))
    (report,) = _import(store, tmp_path)
    assert (report.imported, report.known, report.running) == (0, 2, 1)
    assert sorted(tmp_path.rglob("*")) == files
    for stored in store.stored.values():
        if stored.name == "second":
            store.end(stored.mlflow_id, "FINISHED", _START + 9_000)
    (report,) = _import(store, tmp_path)
    assert (report.imported, report.known, report.running) == (1, 2, 0)
    assert [line["status"] for line in run_table(tmp_path)] == ["FINISHED", "ERROR", "FINISHED"]
    assert len(flowprov.campaigns(tmp_path)) == 1


def test_a_run_that_nobody_ended_is_imported_where_that_is_asked_for(
    store: MemoryStore, tmp_path: Path
) -> None:
    (report,) = _import(store, tmp_path, running=True)
    assert report.imported == 3
    assert run_table(tmp_path)[2]["status"] == "INTERRUPTED"


def test_an_import_that_is_interrupted_leaves_nothing(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "artifacts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _import(store, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert _import(store, tmp_path)[0].imported == 2


def test_a_buffer_that_cannot_be_written_is_an_error(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        _import(store, tmp_path / "file")


def test_an_experiment_that_is_not_there_is_an_error(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match=r"no experiment 'thiers'\. Did you mean theirs"):
        _import(store, tmp_path, experiment="thiers")
    assert _import(MemoryStore(), tmp_path) == []


_RECORDED = """
    import flowprov
    with flowprov.campaign("there"), flowprov.workflow("TRAIN", used={"lr": 0.5}):
        for epoch in flowprov.EpochLoop(3):
            flowprov.log_metrics(loss=float(epoch))
"""


def test_what_was_exported_comes_back_without_its_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(_RECORDED, tmp_path)
    store, there, back = MemoryStore(), tmp_path / "flowprov_buffer", tmp_path / "back"
    export_campaigns(store, there)
    with caplog.at_level(logging.WARNING, "flowprov"):
        _import(store, back)
    (before,), (after,) = run_table(there), run_table(back)
    for name in ("name", "status", "campaign", "git_commit", "params.lr", "metrics.loss", "user"):
        assert after[name] == before[name], name
    assert list(flowprov.metrics(back)["value"]) == [0.0, 1.0, 2.0]
    assert artifact_table(back) == []
    assert caplog.records == []
