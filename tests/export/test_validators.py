"""Validators that are not ours, in an environment of their own, which ``make standards`` installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.support import REPOSITORY

_PYTHON = Path(os.environ.get("FLOWPROV_TEST_STANDARDS", REPOSITORY / ".standards")) / "bin" / "python"
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not _PYTHON.exists(), reason="NO VALIDATORS: make standards installs them"),
]


def _validate(module: str, path: Path) -> str:
    done = subprocess.run(
        [_PYTHON, "-m", f"tests.export.{module}", path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("campaign", ["c1", "k1"])
@pytest.mark.parametrize("name", ["crate", "crate.zip"])
def test_roc_validator_accepts_a_crate(recorded: Path, tmp_path: Path, campaign: str, name: str) -> None:
    assert flowprov("export", "rocrate", campaign, "-o", tmp_path / name, cwd=recorded).status == 0
    assert "91 of 91 checks passed" in _validate("validate_crate", tmp_path / name)


def test_the_client_of_openlineage_takes_every_event(recorded: Path, tmp_path: Path) -> None:
    flowprov("export", "openlineage", "c1", "k1", "-o", tmp_path / "events", cwd=recorded)
    count = len((tmp_path / "events").read_text().splitlines())
    assert f"{count} events taken" in _validate("validate_events", tmp_path / "events")


@pytest.mark.parametrize("file", ["model.safetensors", "converted.zip", "tuned.safetensors", "tuning.csv"])
def test_the_schema_of_cyclonedx_allows_a_bill(trained: Path, tmp_path: Path, file: str) -> None:
    flowprov("export", "cyclonedx", file, "-o", tmp_path / "bill.json", cwd=trained)
    assert "CycloneDX 1.6: " in _validate("validate_bill", tmp_path / "bill.json")


def test_the_schema_of_cyclonedx_allows_names_that_hold_anything(recorded: Path, tmp_path: Path) -> None:
    for number, file in enumerate(("model.bin", "odd\n<i>.bin")):
        flowprov("export", "cyclonedx", file, "-o", tmp_path / str(number), cwd=recorded)
        assert "CycloneDX 1.6: " in _validate("validate_bill", tmp_path / str(number))


def test_mlcroissant_reads_the_data_of_a_campaign(recorded: Path, trained: Path, tmp_path: Path) -> None:
    for folder, campaign, count in ((trained, "m1", 4), (recorded, "c1", 1)):
        flowprov("export", "croissant", campaign, "-o", tmp_path / campaign, cwd=folder)
        assert f"{count} files read" in _validate("validate_croissant", tmp_path / campaign)
