"""``flowprov rm``: it removes what was chosen, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flowprov as package
from tests.cli.support import flowprov, start_endless
from tests.support import clean_environment, run

_PROGRAM = """
    import sys, flowprov
    for name in sys.argv[1:]:
        with flowprov.campaign(name, campaign_id=f"id-{name}"), flowprov.workflow("w"):
            pass
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The folder of four campaigns, two of one name."""
    run(_PROGRAM, tmp_path, "one", "two", "three")
    run(_PROGRAM.replace("id-", "again-"), tmp_path, "two")
    return tmp_path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "flowprov_buffer").iterdir())


def test_campaigns_are_removed_by_id_beginning_or_name(recorded: Path) -> None:
    result = flowprov("rm", "--yes", "id-o", "three", cwd=recorded)
    assert (result.status, result.out, result.err) == (0, "removed 2 campaigns\n", "")
    assert left(recorded) == ["again-two", "id-two"]
    assert list(package.campaigns(recorded / "flowprov_buffer")["campaign_id"]) == ["id-two", "again-two"]


def test_all_but_the_latest_are_removed(recorded: Path) -> None:
    assert flowprov("rm", "--yes", "--keep", "1", cwd=recorded).status == 0
    assert left(recorded) == ["again-two"]
    assert flowprov("rm", "--yes", "--keep", "0", cwd=recorded).out == "removed 1 campaign\n"
    assert left(recorded) == []


def test_old_ones_are_removed(recorded: Path) -> None:
    assert flowprov("rm", "--yes", "--older-than", "30d", cwd=recorded).out == ""
    assert len(left(recorded)) == 4
    assert flowprov("rm", "--yes", "--older-than", "0s", cwd=recorded).status == 0
    assert left(recorded) == []


@pytest.mark.parametrize(("answer", "kept"), [("n\n", 4), ("", 4), ("y\n", 3)])
def test_it_asks_first(recorded: Path, answer: str, kept: int) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "flowprov", "rm", "one"], cwd=recorded, env=clean_environment(),
        input=answer, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout.startswith("campaign  one  id-one\nRemove 1 campaign? [y/N]")
    assert len(left(recorded)) == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "takes campaigns, --older-than or --keep"),
        (("two",), "'two' may mean"),
        (("id-",), "'id-' may mean"),
        (("nowhere",), "no campaign 'nowhere'"),
        (("--older-than", "soon"), "soon is no age"),
        (("one", "--source", "redis://localhost:1/0"), "takes a buffer folder"),
        (("one", "--source", "missing"), "does not exist"),
    ],
)
def test_a_mistake_removes_nothing(recorded: Path, arguments: tuple[str, ...], said: str) -> None:
    result = flowprov("rm", "--yes", *arguments, cwd=recorded)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert len(left(recorded)) == 4


def test_what_still_runs_is_left_unless_it_is_forced(recorded: Path) -> None:
    with start_endless(recorded) as process:
        try:
            result = flowprov("rm", "--yes", "--keep", "0", cwd=recorded)
            assert (result.status, result.out) == (1, "removed 4 campaigns\n")
            assert "still runs; --force removes it" in result.err
            assert len(left(recorded)) == 1
            assert flowprov("rm", "--yes", "--force", "nightly", cwd=recorded).status == 0
            assert left(recorded) == []
        finally:
            process.kill()


def test_what_is_not_delivered_is_left(recorded: Path) -> None:
    env = {"FLOWPROV__SINKS__REDIS__URI": "redis://127.0.0.1:1/0"}
    result = flowprov("rm", "--yes", "one", cwd=recorded, env=env)
    assert result.status in (1, 2)
    assert len(left(recorded)) == 4


def test_json_says_what_was_removed_and_what_refused(recorded: Path) -> None:
    result = flowprov("rm", "--yes", "--json", "one", "three", cwd=recorded)
    assert (result.status, result.json) == (0, {"removed": ["id-one", "id-three"], "refused": {}})
    asked = subprocess.run(
        [sys.executable, "-m", "flowprov", "rm", "--keep", "0", "--json"], cwd=recorded,
        env=clean_environment(), input="n\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (asked.returncode, asked.stdout) == (0, '{"removed":[],"refused":{}}\n')
    assert "Remove 2 campaigns? [y/N]" in asked.stderr
    assert len(left(recorded)) == 2


def test_other_files_stay(recorded: Path) -> None:
    notes = recorded / "flowprov_buffer" / "id-one" / "notes.txt"
    notes.write_text("mine")
    assert flowprov("rm", "--yes", "one", cwd=recorded).status == 0
    assert notes.read_text() == "mine"
