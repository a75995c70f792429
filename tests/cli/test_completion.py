"""A shell completes commands, campaigns and runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.shell_completion import ShellComplete

from flowprov.cli import main
from tests.support import WITHOUT_VERSIONS, clean_environment, run

Completed: TypeAlias = Callable[..., list[str]]

_PROGRAM = """
    import flowprov
    for name in ("first", "second", "second", "two words", None):
        with flowprov.campaign(name, campaign_id=f"id-{name}"), flowprov.workflow(f"work-{name}"):
            pass
    with flowprov.campaign("second", campaign_id="id-other"), flowprov.workflow("fit", workflow_id="run-1"):
        pass
"""

_ODD_PROGRAM = r"""
    import flowprov
    for number, name in enumerate(("mix\x1b[31m\u202e\n名", "x\nplain\n--yes", "--yes", "first,x")):
        with flowprov.campaign(name, campaign_id=f"id-{number}"):
            with flowprov.workflow(f"two words {number}", workflow_id=f"run-{number}"):
                pass
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of five campaigns, and a command ``flowprov`` in a folder ``bin``."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder, env=WITHOUT_VERSIONS)  # a journal whose version comes late is closed late, too
    (folder / "bin").mkdir()
    command = folder / "bin" / "flowprov"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowprov "$@"\n')
    command.chmod(0o755)
    return folder


@pytest.fixture
def completed(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Completed:
    """A function that returns what a shell is offered for the last word."""
    monkeypatch.chdir(recorded)

    def complete(*words: str) -> list[str]:
        offered = ShellComplete(main, {}, "flowprov", "_FLOWPROV_COMPLETE")
        return [
            item.value
            for item in offered.get_completions(list(words[:-1]), words[-1])
            if item.type == "plain"
        ]

    return complete


def test_campaigns_are_completed_by_their_names_or_else_their_ids(completed: Completed) -> None:
    assert completed("rm", "f") == ["first"]
    assert completed("tail", "") == ["id-other", "id-None", "id-second", "first"], "the latest first"
    assert completed("runs", "--campaign", "id-o") == ["id-other"]
    assert completed("--set", "journal.path=elsewhere", "rm", "f") == []


def test_runs_are_completed_where_they_are_asked_for(completed: Completed) -> None:
    assert completed("diff", "first", "run") == ["run-1"]
    assert completed("diff", "first", "fi") == ["fit", "first"]
    assert completed("show", "work-") == ["work-None", "work-first"]
    assert completed("rm", "work-") == []


def test_nothing_is_said_where_there_is_nothing(
    completed: Completed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed("rm", "f") == []
    assert completed("--settings", "missing.yaml", "rm", "f") == []
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with campaigns of odd names, and a run of each."""
    folder = tmp_path_factory.mktemp("odd")
    run(_ODD_PROGRAM, folder, env=WITHOUT_VERSIONS)
    return folder


@pytest.mark.parametrize(
    ("shell", "lines_of_item"), [("bash", 1), ("fish", 1), ("zsh", 3), ("powershell", 3)]
)
def test_no_name_steers_a_terminal_adds_a_word_or_is_taken_for_an_option(
    odd: Path, shell: str, lines_of_item: int
) -> None:
    position = "" if shell == "fish" else "2"
    done = subprocess.run(
        [sys.executable, "-m", "flowprov"], cwd=odd, capture_output=True, text=True, check=True,
        env=clean_environment(
            _FLOWPROV_COMPLETE=f"{shell}_complete", COMP_WORDS="flowprov diff ", COMP_CWORD=position
        ),
    )  # fmt: skip
    lines = done.stdout.removesuffix("\n").split("\n")
    assert all(line.replace("\t", " ").isprintable() for line in lines)
    items = ["\n".join(lines[at : at + lines_of_item]) for at in range(0, len(lines), lines_of_item)]
    words = {re.split(r"[\n\t]", item.replace(",", "\n", 1))[1] for item in items}
    assert words == {f"{kind}-{number}" for kind in ("id", "run") for number in range(4)}
    assert shell == "bash" or r"run of x\nplain\n--yes" in done.stdout


def test_commands_and_options_are_completed(completed: Completed) -> None:
    assert completed("sh") == ["ship", "show"]
    assert completed("runs", "--att") == ["--attempts"]


@pytest.mark.parametrize(
    "words", [("run", "tr"), ("show", "tr"), ("verify", "tr"), ("ls", "--source", "tr"), ("--settings", "tr")]
)
def test_files_are_completed_by_the_shell(recorded: Path, words: tuple[str, ...]) -> None:
    offered = ShellComplete(main, {}, "flowprov", "_FLOWPROV_COMPLETE")
    assert offered.get_completions(list(words[:-1]), words[-1])[0].type == "file"


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
