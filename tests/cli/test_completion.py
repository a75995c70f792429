"""A shell completes commands, campaigns and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import clean_environment, run

_PROGRAM = """
    import flowprov
    for name in ("first", "second", "second", "two words", None):
        with flowprov.campaign(name, campaign_id=f"id-{name}"), flowprov.workflow(f"work-{name}"):
            pass
    with flowprov.campaign("second", campaign_id="id-other"), flowprov.workflow("fit", workflow_id="run-1"):
        pass
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of five campaigns, and a command ``flowprov`` in a folder ``bin``."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder)
    (folder / "bin").mkdir()
    command = folder / "bin" / "flowprov"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowprov "$@"\n')
    command.chmod(0o755)
    return folder


def completed(folder: Path, *words: str) -> list[str]:
    """Return what click offers for the last word."""
    environment = clean_environment(
        _FLOWPROV_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(("flowprov", *words)),
        COMP_CWORD=str(len(words)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "flowprov"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line.startswith("plain,")]


def test_campaigns_are_completed_by_their_names_or_else_their_ids(recorded: Path) -> None:
    assert completed(recorded, "rm", "f") == ["first"]
    assert completed(recorded, "tail", "") == ["id-other", "id-None", "id-second", "first"], (
        "the latest first"
    )
    assert completed(recorded, "runs", "--campaign", "id-o") == ["id-other"]
    assert completed(recorded, "--set", "journal.path=elsewhere", "rm", "f") == []


def test_runs_are_completed_where_they_are_asked_for(recorded: Path) -> None:
    assert completed(recorded, "diff", "first", "run") == ["run-1"]
    assert completed(recorded, "diff", "first", "fi") == ["fit", "first"]
    assert completed(recorded, "show", "work-") == ["work-None", "work-first"]
    assert completed(recorded, "rm", "work-") == []


def test_nothing_is_said_where_there_is_nothing(tmp_path: Path) -> None:
    assert completed(tmp_path, "rm", "f") == []
    assert completed(tmp_path, "--settings", "missing.yaml", "rm", "f") == []
    assert list(tmp_path.iterdir()) == []


def test_commands_and_options_are_completed(recorded: Path) -> None:
    assert completed(recorded, "sh") == ["ship", "show"]
    assert completed(recorded, "runs", "--att") == ["--attempts"]


def test_bash_completes_a_campaign(recorded: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("NO BASH")
    script = """
        eval "$(_FLOWPROV_COMPLETE=bash_source flowprov)"
        COMP_WORDS=(flowprov rm fi) COMP_CWORD=2
        _flowprov_completion flowprov fi rm
        echo "${COMPREPLY[@]}"
    """
    path = f"{recorded / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script], cwd=recorded, env=clean_environment(PATH=path), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("first\n", "")
