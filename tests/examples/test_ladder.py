"""The whole ladder: the example campaign under each of its nine settings, recorded as promised."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.examples.conftest import script_runner
from tests.examples.support import RunScript, type_command

LADDER = Path(__file__).parents[2] / "examples" / "llm_campaign" / "ladder.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole ladder runs."""
    return tmp_path_factory.mktemp("ladder")


@pytest.fixture(scope="module")
def climbed(place: Path) -> subprocess.CompletedProcess[str]:
    """The whole ladder, which takes a minute: once for all tests."""
    pytest.importorskip("torch")
    return script_runner(place)(str(LADDER), "--output-dir", "runs", timeout=580)


@pytest.mark.timeout(600)
def test_each_step_records_exactly_what_it_promises(climbed: subprocess.CompletedProcess[str]) -> None:
    done = climbed
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\d) .*?(\d+) +(\d+)  (\w+)$", done.stdout, re.MULTILINE)
    assert [(int(step), int(expected), int(found)) for step, expected, found, _ in rows] == [
        (1, 3, 3),
        (2, 4, 4),
        (3, 8, 8),
        (4, 14, 14),
        (5, 15, 15),
        (6, 33, 33),
        (7, 129, 129),
        (8, 129, 129),
        (9, 585, 585),
    ]
    assert {verdict for *_, verdict in rows} == {"ok"}
    assert done.stdout.count("parent_forward TransformerModel") == 24  # the tree of step 6


def test_a_folder_with_an_earlier_ladder_is_left_alone(run_script: RunScript, tmp_path: Path) -> None:
    earlier = tmp_path / "runs" / "step_2"
    earlier.mkdir(parents=True)
    done = run_script(str(LADDER), "--output-dir", "runs", "--only", "2")
    assert done.returncode == 2
    assert "holds an earlier ladder" in done.stderr
    assert list(earlier.iterdir()) == []


@pytest.mark.timeout(600)
def test_the_ladder_ends_with_the_winner_and_three_commands_that_work(
    climbed: subprocess.CompletedProcess[str], place: Path
) -> None:
    ending = climbed.stdout.partition("the configuration that won, of 1 that ended well:\n")[2]
    (loss,) = re.findall(r"val_loss (\S+) in epoch 4", ending)
    (checkpoint,) = re.findall(r"checkpoint (\S+)", ending)
    assert (place / checkpoint).exists()
    assert "emsize=32 nhead=2 nhid=64 nlayers=2" in ending
    assert "records are in runs/step_9/flowprov_buffer" in ending
    show, verify, table = (type_command(line, place) for line in ending.splitlines()[-3:])
    assert f"val_loss={float(loss):.4g}" in show
    assert verify.splitlines()[-1].startswith("COMPLETE")
    assert re.search(r"^iteration +epoch_iteration +4 ", table, re.MULTILINE)
