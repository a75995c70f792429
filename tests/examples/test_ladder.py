"""The whole ladder: the example campaign under each of its nine settings, recorded as promised."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from tests.examples.support import RunScript

LADDER = Path(__file__).parents[2] / "examples" / "llm_campaign" / "ladder.py"


@pytest.fixture
def climb(run_script: RunScript) -> RunScript:
    """Run the ladder in an empty folder."""
    return partial(run_script, str(LADDER), "--output-dir", "runs", timeout=580)


@pytest.mark.timeout(600)
def test_each_step_records_exactly_what_it_promises(climb: RunScript) -> None:
    done = climb()
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


def test_a_folder_with_an_earlier_ladder_is_left_alone(climb: RunScript, tmp_path: Path) -> None:
    earlier = tmp_path / "runs" / "step_2"
    earlier.mkdir(parents=True)
    done = climb("--only", "2")
    assert done.returncode == 2
    assert "holds an earlier ladder" in done.stderr
    assert list(earlier.iterdir()) == []
