"""Some hundreds of rounds of the fuzzer of commands; tests/soak plays for an hour."""

from __future__ import annotations

import pytest

from tests.fuzzing.commands import RECORDED, CommandTarget
from tests.fuzzing.frame import fuzz
from tests.support import run


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> CommandTarget:
    """The fuzzer, with two campaigns."""
    folder = tmp_path_factory.mktemp("recorded")
    run(RECORDED, folder)
    return CommandTarget(folder)


@pytest.mark.parametrize("seed", [15, 16, 17])
def test_commands_do_what_they_are_asked_or_say_why_not(target: CommandTarget, seed: int) -> None:
    assert fuzz(target, seed, rounds=60) == 60
