"""The shipper exports to MLflow what is new, and once more when a program has ended or was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowprov.errors import MissingExtraError, SinkError, SinkUnavailableError
from flowprov.export.mlflow import shipment as shipment_module
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.exporter import HISTORY_FILE
from flowprov.export.mlflow.shipment import MLflowShipment
from flowprov.export.mlflow.store import Store
from flowprov.settings import MLflowSettings, load_settings
from flowprov.shipping.service import open_shipment
from tests.cli.support import flowprov, start_endless
from tests.export.memory_store import MemoryStore
from tests.support import WITHOUT_VERSIONS, run
from tests.versioning.conftest import GitRepository


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Return what a shipment opens in place of MLflow."""
    store = MemoryStore()
    monkeypatch.setattr(shipment_module, "Store", lambda _: store)
    return store


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a program that is inside of a task, and records into ``flowprov_buffer``."""
    with start_endless(tmp_path, WITHOUT_VERSIONS) as process:
        yield process
        process.kill()


def _shipment(folder: Path, interval: float) -> MLflowShipment:
    settings = MLflowSettings(interval=interval, upload_bytes=100)
    return MLflowShipment("http://localhost", folder / "flowprov_buffer", None, settings)


def _statuses(store: MemoryStore) -> set[str]:
    return {run.status for run in store.stored.values()}


def test_what_goes_on_is_exported_and_once_more_when_it_was_killed(
    store: MemoryStore, program: subprocess.Popen[str], tmp_path: Path
) -> None:
    shipment = _shipment(tmp_path, 3_600)
    shipment.try_deliver()
    assert _statuses(store) == {"RUNNING"}
    assert (shipment.idle, shipment.delivered, shipment.waiting()) == (False, 1, 0)
    calls = store.calls
    shipment.try_deliver()
    assert store.calls == calls  # nothing is new
    program.kill()
    program.wait()
    assert shipment.waiting() == 1
    shipment.try_deliver()
    assert _statuses(store) == {"KILLED"}
    assert (shipment.idle, shipment.waiting(), shipment.last_error) == (True, 0, None)
    assert len(shipment.positions) == 1


def test_small_files_go_with_their_run(store: MemoryStore, tmp_path: Path) -> None:
    program = """
        import pathlib, flowprov
        with flowprov.workflow("TRAIN"):
            for name, size in (("small.bin", 100), ("large.bin", 101)):
                pathlib.Path(name).write_bytes(b"x" * size)
                flowprov.log_artifact(name)
    """
    run(program, tmp_path)
    shipment = _shipment(tmp_path, 30)
    shipment.try_deliver()
    assert [value for value in store.files.values() if isinstance(value, bytes)] == [b"x" * 100]
    assert (shipment.idle, shipment.last_error) == (True, None)


def test_a_run_that_goes_on_in_another_campaign_stays_one_run(store: MemoryStore, tmp_path: Path) -> None:
    program = """
        import sys, flowprov
        name, *earlier = sys.argv[1:]
        with flowprov.campaign(name, campaign_id=f"id-{name}"):
            with flowprov.workflow("CLEAN"):
                pass
            with flowprov.workflow("TRAIN", workflow_id=f"TRAIN-{name}"):
                if earlier:
                    flowprov.resume_from(step=1, workflow_id=f"TRAIN-{earlier[0]}")
                flowprov.log_metrics(loss=0.5)
    """
    run(program, tmp_path, "first")
    shipment = _shipment(tmp_path, 30)
    shipment.try_deliver()
    run(program, tmp_path, "second", "first")
    shipment.try_deliver()
    reports = export_campaigns(store, tmp_path / "flowprov_buffer", upload_bytes=100)
    assert [(one.created, one.updated, one.unchanged) for one in reports] == [(0, 0, 2), (0, 0, 1)]


def test_a_step_tells_of_all_its_runs_whichever_of_them_are_new(store: MemoryStore, tmp_path: Path) -> None:
    program = """
        import flowprov
        for _ in range(2):
            with flowprov.campaign("pipeline"), flowprov.workflow("TRAIN"):
                pass
    """
    GitRepository(tmp_path).commit(__gitignore="flowprov_buffer\nprogram.py\n")
    shipment = _shipment(tmp_path, 30)
    for _ in range(2):
        run(program, tmp_path)
        shipment.try_deliver()
    (step,) = store.steps().values()
    names = [child.name for child in store.children("TRAIN")]
    assert len(set(names)) == 4
    assert set(store.files[step.mlflow_id, HISTORY_FILE]) == set(names)
    calls = store.calls
    export_campaigns(store, tmp_path / "flowprov_buffer", upload_bytes=100)
    assert store.calls == calls


def test_the_next_export_waits_for_the_interval(
    store: MemoryStore, program: subprocess.Popen[str], tmp_path: Path
) -> None:
    shipment = _shipment(tmp_path, 3_600)
    shipment.try_deliver()
    (journal,) = (tmp_path / "flowprov_buffer").rglob("*.jsonl")
    shipment._exported[journal] = (-1, True)  # as if it had grown
    calls = store.calls
    shipment.try_deliver()
    assert (store.calls, shipment.waiting()) == (calls, 1)
    shipment._not_before = 0.0
    shipment.try_deliver()
    assert shipment.waiting() == 0


def test_a_server_that_is_away_is_said_and_tried_again(
    program: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> MemoryStore:
        raise SinkUnavailableError("it is away.")

    monkeypatch.setattr(shipment_module, "Store", refuse)
    shipment = _shipment(tmp_path, 30)
    with pytest.raises(SinkError):
        shipment.try_deliver()
    assert (shipment.last_error, shipment.idle, shipment.waiting()) == ("it is away", False, 1)
    store = MemoryStore()
    monkeypatch.setattr(shipment_module, "Store", lambda _: store)
    shipment.try_deliver()
    assert (shipment.last_error, shipment.waiting()) == (None, 0)


def test_the_shipper_knows_mlflow_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"sinks": {"mlflow": {"uri": "sqlite:///runs/mlflow.db"}}})
    assert settings.sinks.mlflow.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert isinstance(open_shipment(settings.sinks.mlflow.uri, tmp_path, settings), MLflowShipment)
    again = load_settings({"sinks": {"mlflow": {"uri": settings.sinks.mlflow.uri}}})
    assert again.sinks.mlflow.uri == settings.sinks.mlflow.uri


def test_the_commands_say_what_is_missing(tmp_path: Path) -> None:
    for command in ("export", "import"):
        result = flowprov(command, "mlflow", "--uri", "mlruns", cwd=tmp_path)
        assert (result.status, result.out) == (2, "")
        assert "mlruns names no MLflow. Give a database, as in sqlite:///mlflow.db" in result.err
    assert "Missing option '--uri'" in flowprov("export", "mlflow", cwd=tmp_path).err
    assert "experiments of MLflow" in flowprov("export", "--help", cwd=tmp_path).out


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "flowprov\[mlflow\]"'):
        Store("sqlite:///never-created.db")
