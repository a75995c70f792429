"""The example of a versioned pipeline: of a bare file it tells data, code, parameters and metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.pipelines.conftest import FOLDER
from tests.support import REPOSITORY, clean_environment

_RUN = REPOSITORY / "examples" / "versioned_pipeline" / "run.py"


def _run(folder: Path, python: Path | str, *arguments: str) -> str:
    pytest.importorskip("torch", reason="NO TORCH")
    done = subprocess.run(
        [str(python), str(_RUN), "runs", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _history(folder: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "flowprov", "history", "--json"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {one["step"]: one for one in map(json.loads, done.stdout.splitlines())}


def _check_story(folder: Path, printed: str) -> None:
    """Check what is told of the converted checkpoint, and of one that only has another name."""
    unknown = folder / "runs_elsewhere" / "unknown.safetensors"
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder / "runs", text=True).strip()
    for part in (
        "weights digest",
        "lr 0.5",
        "loss 0.6",
        "accuracy",
        "epoch 3",
        commit,
        "cleaned.csv",
        "raw.csv",
    ):
        assert part in printed
    buffer = folder / "runs" / "flowprov_buffer"
    found = flowprov.whence(unknown, buffer)
    assert found is not None
    assert found.found_by == "weights"
    (folder / "renamed").write_bytes((folder / "runs" / "checkpoints" / "lr0.5_epoch3.pt").read_bytes())
    found = flowprov.whence(folder / "renamed", buffer)
    assert found is not None
    assert found.found_by == "digest"
    (folder / "strange").write_text("never seen")
    assert flowprov.whence(folder / "strange", buffer) is None


def test_the_plain_pipeline_tells_what_made_its_best_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="NO SAFETENSORS")
    _check_story(tmp_path, _run(tmp_path, sys.executable, "--plain", "--rates", "0.5"))
    steps = _history(tmp_path / "runs")
    assert {name: len(step["history"]) for name, step in steps.items()} == {"DATA_CLEANING": 1, "TRAINING": 1}


@pytest.mark.soak
@pytest.mark.timeout(900)  # it starts some twenty processes, each of which imports Dagster and torch
def test_the_pipeline_of_dagster_and_dvc_tells_the_version_of_its_data_too(tmp_path: Path) -> None:
    if not (FOLDER / "bin" / "python").exists():
        pytest.skip("NO TOOLS: make tools")
    printed = _run(tmp_path, FOLDER / "bin" / "python")
    _check_story(tmp_path, printed)
    declared = (tmp_path / "runs" / "data.dvc").read_text()
    md5 = declared.partition("md5: ")[2].split()[0]
    assert f"data: data  {md5}" in printed
    steps = _history(tmp_path / "runs")
    assert {name: len(step["history"]) for name, step in steps.items()} == {
        "DATA_CLEANING": 2,
        "TRAINING": 2,
        "REPORT": 2,
    }
    first, second = steps["DATA_CLEANING"]["executions"]
    assert first["data"][0]["md5_at_end"] == md5 == second["data"][0]["md5"]
    assert [one["data"] for one in steps["REPORT"]["executions"]] == [[], []]
    runs = [
        {one["campaign_id"] for one in executions}
        for executions in zip(*(step["executions"] for step in steps.values()), strict=True)
    ]
    assert [len(campaigns) for campaigns in runs] == [1, 1]  # each run of Dagster is a campaign
    report = next(
        row
        for row in flowprov.read_buffer(tmp_path / "runs" / "flowprov_buffer", return_df=False)
        if row["name"] == "REPORT"
    )
    assert report["used"] == {"best": "checkpoints/lr0.5_epoch3.pt"}
    assert report["orchestrator"]["handle"] == "report"
