"""``flowprov show --ranks``: the ranks of a job side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import flowprov
from tests.support import start

PROGRAM = """
    import os, time
    import flowprov

    rank = int(os.environ["RANK"])
    repeats, slow, fewer, same = KINDS

    class Loader:
        def __init__(self, epoch):
            first = 0 if same else 100 * rank
            count, turn = 4 - (fewer and rank), 1 + (0 if repeats else epoch)
            self.order = [[first + 10 * batch + turn] for batch in range(count)]
        def __iter__(self):
            return iter(self.order)

    with flowprov.workflow("training", workflow_id="w", campaign_id="c"):
        for epoch in flowprov.EpochLoop(2):
            for batch in flowprov.BatchLoop(flowprov.sampled(Loader(epoch), name="train")):
                time.sleep(0.03 if slow and rank == 1 else 0.001)
"""


def record(folder: Path, **kinds: bool) -> None:
    """Run the program on two ranks at once."""
    names = ("repeats", "slow", "fewer", "same")
    program = PROGRAM.replace("KINDS", repr(tuple(kinds.get(name, False) for name in names)))
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    ranks = [start(program, folder, env={**env, "RANK": str(n), "LOCAL_RANK": str(n)}) for n in range(2)]
    for one in ranks:
        assert one.communicate(timeout=120)[1] == ""


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({}, []),
        ({"repeats": True}, ["rank 0, loader train: the order repeats", "rank 1, loader train: the order"]),
        ({"slow": True, "fewer": True}, ["rank 1, loader train: 0.0", "rank 1, loader train: 6 batches"]),
        ({"same": True}, ["ranks 0 and 1 were handed the same samples in 8 batches"]),
    ],
)
def test_what_is_odd_about_ranks_is_said(tmp_path: Path, kinds: dict[str, bool], said: list[str]) -> None:
    record(tmp_path, **kinds)
    found: dict[str, Any] = json.loads(flowprov("show", "--ranks", "--json", cwd=tmp_path).out)
    assert [(one["rank"], one["world_size"], one["loader"], one["passes"]) for one in found["ranks"]] == [
        (0, 2, "train", 2),
        (1, 2, "train", 2),
    ]
    assert [one["batches"] for one in found["ranks"]] == [8, 6 if kinds.get("fewer") else 8]
    slow_by_chance = [text for text in found["odd"] if "s an iteration" in text and not kinds.get("slow")]
    odd = [text for text in found["odd"] if text not in slow_by_chance]
    assert len(odd) == len(said)
    assert all(text.startswith(beginning) for text, beginning in zip(odd, said, strict=True))
    table = flowprov("show", "--ranks", cwd=tmp_path).out
    assert "world_size" in table
    assert all(text in table for text in found["odd"])


NEVER_SHUFFLED_ANEW = """
    import torch
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
    import flowprov

    dataset = TensorDataset(torch.arange(20))
    for name in ("set_epoch", "forgotten"):
        sampler = DistributedSampler(dataset, 1, 0)
        loader = DataLoader(dataset, 4, sampler=sampler, drop_last=True)
        with flowprov.workflow(name):
            for epoch in flowprov.EpochLoop(2):
                if name == "set_epoch":
                    sampler.set_epoch(epoch)
                for batch in flowprov.BatchLoop(loader):
                    pass
                for batch in flowprov.BatchLoop(DataLoader(dataset, 4), step="eval"):
                    pass
"""


def test_a_sampler_whose_epoch_nobody_set_is_said_by_show_and_verify(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    env = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    with start(NEVER_SHUFFLED_ANEW, tmp_path, env=env) as process:
        assert process.communicate(timeout=120)[1] == ""
    said = "rank 0, loader train: the order repeats in all 2 passes; did nobody call set_epoch?"
    assert json.loads(flowprov("show", "--json", cwd=tmp_path).out)["odd"] == [said]
    verified = json.loads(flowprov("verify", "--json", cwd=tmp_path).out)
    assert (verified["odd"], verified["verdict"]) == ([said], "COMPLETE")
    assert flowprov("show", cwd=tmp_path).out.count(said) == 1
    assert flowprov("verify", cwd=tmp_path).out.count(said) == 1
    ranks: dict[str, Any] = json.loads(flowprov("show", "--ranks", "--json", cwd=tmp_path).out)
    assert [[one[name] for name in ("loader", "batches", "sequences")] for one in ranks["ranks"]] == [
        ["eval", 20, 80],
        ["train", 20, 80],
    ]


def test_a_campaign_without_ranks_says_so(tmp_path: Path) -> None:
    with start("import flowprov\nwith flowprov.workflow('w'): pass", tmp_path) as process:
        process.communicate(timeout=120)
    assert "No process of this campaign was a rank" in flowprov("show", "--ranks", cwd=tmp_path).out
