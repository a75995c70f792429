"""An hour of fuzzing: FLOWPROV_FUZZ_MINUTES for all targets together. `make soak` runs it.

A round that fails is named in the error: ``tests.fuzzing.frame.replay(target, name)`` plays it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzzing.commands import RECORDED, CommandTarget
from tests.fuzzing.frame import Target, fuzz
from tests.fuzzing.journals import write_buffers
from tests.fuzzing.readers import ReaderTarget
from tests.fuzzing.settings import SettingsTarget
from tests.fuzzing.values import ValueTarget
from tests.support import run

MINUTES = float(os.environ.get("FLOWPROV_FUZZ_MINUTES", "60"))

pytestmark = [pytest.mark.soak, pytest.mark.timeout(60 * MINUTES + 600)]


def _readers(folder: Path) -> Target:
    return ReaderTarget(write_buffers(folder))


def _commands(folder: Path) -> Target:
    run(RECORDED, folder)
    return CommandTarget(folder)


# What is fuzzed, by name: each creates its target in a folder of its own, and gets an equal part of the time.
TARGETS: dict[str, Callable[[Path], Target]] = {
    "commands": _commands,
    "readers": _readers,
    "settings": lambda _: SettingsTarget(),
    "values": lambda _: ValueTarget(),
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_an_hour(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV__JOURNAL__COMPACT", "off")  # no process is left in a folder that is removed
    target = TARGETS[name](tmp_path)
    seed = time.time_ns()  # another one each time; an error names it
    assert fuzz(target, seed, seconds=60 * MINUTES / len(TARGETS)) > 0
