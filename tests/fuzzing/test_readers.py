"""Some hundreds of rounds of the fuzzer of readers; tests/soak plays for an hour."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import get_args

import pytest

from flowprov.records import Record
from tests.fuzzing.everything import read_everything
from tests.fuzzing.frame import HeldUpError, fuzz, replay, time_limit
from tests.fuzzing.journals import write_buffers
from tests.fuzzing.mutations import mutate_bytes, mutate_fields, mutate_lines
from tests.fuzzing.readers import ReaderTarget


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> ReaderTarget:
    """The fuzzer, with journals of real programs."""
    return ReaderTarget(write_buffers(tmp_path_factory.mktemp("buffers")))


@pytest.mark.parametrize(
    "seed", [15, pytest.param(16, marks=pytest.mark.soak), pytest.param(17, marks=pytest.mark.soak)]
)
def test_mutated_journals_are_read_and_no_lost_record_goes_unsaid(target: ReaderTarget, seed: int) -> None:
    assert fuzz(target, seed, rounds=25) == 25


def test_the_journals_that_are_mutated_are_whole_and_hold_every_kind_of_record(target: ReaderTarget) -> None:
    verdicts = [read_everything(buffer).verdict for buffer in target.buffers]
    assert verdicts.count("COMPLETE") == 3
    kinds = {kind for buffer in target.buffers for kind in target.kinds_of(buffer)}
    assert kinds == {str(kind.__struct_config__.tag) for kind in get_args(Record)}


def test_a_round_is_played_again_by_its_name(target: ReaderTarget, tmp_path: Path) -> None:
    class Recorder:
        name = "recorder"

        def __init__(self) -> None:
            self.numbers: list[float] = []

        def play(self, rng: random.Random) -> None:
            self.numbers.append(rng.random())
            if len(self.numbers) == 3:
                raise ValueError("found")

    recorder = Recorder()
    with pytest.raises(AssertionError, match=r"round '7:2' of recorder: ValueError: found"):
        fuzz(recorder, 7, rounds=5)
    replay(recorder, "7:2")
    assert recorder.numbers[2] == recorder.numbers[3]


def _generators(count: int) -> list[random.Random]:
    return [random.Random(seed) for seed in range(count)]  # noqa: S311 - no secret


def test_mutations_follow_from_the_seed() -> None:
    line = b'{"type":"task","task_id":1,"used":{"a":[1,2]},"tags":["t"]}'
    for mutated in (
        lambda rng: mutate_fields(rng, line, ["x"]),
        lambda rng: mutate_lines(rng, [line] * 5, ["x"]),
        lambda rng: mutate_bytes(rng, line * 5),
    ):
        first, again = (list(map(mutated, _generators(50))) for _ in range(2))
        assert first == again
        assert len({repr(item) for item in first}) > 20


def test_a_round_that_hangs_is_ended() -> None:
    with pytest.raises(HeldUpError), time_limit(0.05):
        while True:
            shutil.which("true")
