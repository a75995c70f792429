"""Nothing is lost, counted wrong or stopped where a program does everything at once."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.records import Footer, Version
from tests.capture import everything_at_once
from tests.support import lines, of_type, run, tasks

ROUNDS = int(os.environ.get("FLOWPROV_TEST_ROUNDS", "200"))


def _assert_recorded_as_it_ran(folder: Path, seed: int) -> None:
    program = Path(everything_at_once.__file__).read_text(encoding="utf-8")
    printed, said = run(program, folder, str(seed), timeout=250)
    assert said == ""
    made, errors = json.loads(printed)
    assert errors == {}
    buffer = folder / "buffer"
    recorded = Counter(task.activity_id for task in tasks(buffer))
    assert {name: recorded[name] for name in made} == made
    written = lines(buffer)
    assert not any(footer.dropped or footer.internal_errors for footer in of_type(written, Footer))
    starts = Counter(
        version.workflow_id for version in of_type(written, Version) if version.moment == "start"
    )
    assert set(starts.values()) <= {1}
    campaigns = {path.parent.parent.name for path in find_journals(buffer)}
    assert {verify(buffer, campaign_id=one).verdict for one in campaigns} == {"COMPLETE"}


@pytest.mark.parametrize("seed", range(6))
def test_a_program_that_does_everything_at_once_is_recorded_as_it_ran(tmp_path: Path, seed: int) -> None:
    _assert_recorded_as_it_ran(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_such_programs_are_recorded_as_they_ran(tmp_path: Path) -> None:
    first = random.SystemRandom().randrange(1 << 30)
    for seed in range(first, first + ROUNDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        _assert_recorded_as_it_ran(folder, seed)
