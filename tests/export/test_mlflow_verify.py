"""``flowprov verify`` and ``flowprov rm`` count the runs that MLflow holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowprov.cli import main
from flowprov.errors import SinkUnavailableError
from flowprov.export.mlflow import run_probe
from flowprov.export.mlflow.campaign_export import export_campaigns
from tests.cli.support import flowprov, start_endless
from tests.export.memory_store import MemoryStore
from tests.support import run

_URI = "http://localhost:5000"
_PROGRAM = """
    import sys, flowprov
    for name in sys.argv[1:]:
        with flowprov.campaign(name, campaign_id=f"id-{name}"):
            for step in ("CLEAN", "TRAIN"):
                with flowprov.workflow(step, workflow_id=f"{name}-{step}"):
                    flowprov.log_metrics(loss=0.5)
"""
_RESUMED = """
    import flowprov
    with flowprov.campaign("second", campaign_id="id-second"), flowprov.workflow("TRAIN"):
        flowprov.resume_from(step=1, workflow_id="first-TRAIN")
        flowprov.log_metrics(loss=0.25)
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStore:
    """Return what verify and rm open in place of MLflow; a program has recorded here."""
    store = MemoryStore()
    monkeypatch.setattr(run_probe, "Store", lambda _: store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWPROV__SINKS__MLFLOW__URI", _URI)
    run(_PROGRAM, tmp_path, "first")
    return store


def _flowprov(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def _verify(*arguments: str) -> tuple[int, str]:
    result = _flowprov("verify", *arguments)
    return result.exit_code, result.stdout.splitlines()[-1]


def _deliveries(*arguments: str) -> Any:
    return json.loads(_flowprov("verify", "--json", *arguments).stdout)["run_deliveries"]


def test_runs_that_wait_make_a_campaign_incomplete_until_they_are_exported(store: MemoryStore) -> None:
    status, verdict = _verify()
    assert (status, verdict) == (
        1,
        f"INCOMPLETE: 2 runs wait for {_URI}: `flowprov ship` delivers them.",
    )
    assert _verify("--to", _URI)[1].endswith(f"`flowprov ship --to {_URI}` delivers them.")
    counts = {"sink": _URI, "runs": 2, "held": 0, "waiting": 2, "deleted": 0, "unknown": None}
    assert _deliveries() == [counts]
    export_campaigns(store, "flowprov_buffer")
    status, verdict = _verify()
    assert (status, verdict.startswith("COMPLETE"), f"delivered to {_URI}." in verdict) == (0, True, True)
    assert f"  {_URI}  holds 2 of 2 runs\n" in _flowprov("verify").stdout
    assert _deliveries() == [{**counts, "held": 2, "waiting": 0}]


def test_a_run_of_which_something_is_new_waits_again(store: MemoryStore, tmp_path: Path) -> None:
    export_campaigns(store, "flowprov_buffer")
    run(_PROGRAM.replace('("CLEAN", "TRAIN")', '("TRAIN",)').replace("0.5", "0.75"), tmp_path, "first")
    assert [(one["held"], one["waiting"]) for one in _deliveries()] == [(1, 1)]
    assert "1 run waits" in _verify()[1]


def test_what_a_person_deleted_in_mlflow_is_told_and_no_fault(store: MemoryStore) -> None:
    export_campaigns(store, "flowprov_buffer")
    store.children("TRAIN")[0].deleted = True
    assert f"{_URI}  holds 1 of 2 runs, 1 deleted there" in _flowprov("verify").stdout
    assert _verify()[0] == 0
    store.steps()["CLEAN"].deleted = True
    assert [one["deleted"] for one in _deliveries()] == [2]
    store.found["1"].deleted = True
    assert [one["deleted"] for one in _deliveries()] == [2]


def test_an_mlflow_that_is_away_is_unknown_and_asked_once(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path, "other")
    asked = []

    def refuse(uri: str) -> MemoryStore:
        asked.append(uri)
        raise SinkUnavailableError("it is away.")

    monkeypatch.setattr(run_probe, "Store", refuse)
    status, verdict = _verify()
    assert (status, f"delivery to {_URI} unknown." in verdict) == (1, True)
    assert f"{_URI}  unknown: it is away\n" in _flowprov("verify").stdout
    asked.clear()
    result = _flowprov("rm", "--yes", "--keep", "0")
    assert (result.exit_code, result.stderr.count("is not delivered; --force removes it")) == (1, 2)
    assert asked == [_URI]
    assert len(list(Path("flowprov_buffer").iterdir())) == 2


def test_rm_leaves_a_campaign_until_mlflow_holds_its_runs(store: MemoryStore, tmp_path: Path) -> None:
    export_campaigns(store, "flowprov_buffer")
    run(_PROGRAM, tmp_path, "other")
    result = _flowprov("rm", "--yes", "--keep", "0")
    assert (result.exit_code, result.stdout) == (1, "removed 1 campaign\n")
    assert "id-other is not delivered; --force removes it" in result.stderr
    export_campaigns(store, "flowprov_buffer")
    assert _flowprov("rm", "--yes", "other").exit_code == 0
    assert [path.name for path in Path("flowprov_buffer").glob("id-*")] == []


def test_a_run_that_another_campaign_went_on_with_is_held_by_both(store: MemoryStore, tmp_path: Path) -> None:
    run(_RESUMED, tmp_path)
    export_campaigns(store, "flowprov_buffer")
    for name, runs in (("id-first", 2), ("id-second", 1)):
        (counts,) = _deliveries("--campaign", name)
        assert (counts["waiting"], counts["held"], counts["runs"]) == (0, runs, runs)


def test_what_still_runs_may_wait(store: MemoryStore, tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        try:
            status, verdict = _verify()
        finally:
            process.kill()
    assert (status, verdict.startswith("RUNNING"), f"1 run waits for {_URI}" in verdict) == (0, True, True)


def test_of_a_part_of_a_campaign_no_runs_are_counted(store: MemoryStore) -> None:
    (journal,) = Path("flowprov_buffer").rglob("*.jsonl")
    assert _deliveries(str(journal)) == []
    assert _verify(str(journal))[0] == 0


def test_a_check_creates_no_database(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, "first")
    result = flowprov("verify", "--to", "sqlite:///mlflow.db", cwd=tmp_path)
    assert (result.status, "2 runs wait for sqlite:///mlflow.db" in result.out) == (1, True)
    assert not (tmp_path / "mlflow.db").exists()
