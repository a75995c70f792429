"""The example of stages: what made the best checkpoint, and those that were pruned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.examples.commands import (
    commit_all,
    copy_example,
    load_script,
    runner_of,
    type_commands_of_readme,
)

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("pandas")
_STAGES = ["generate", "mix", "train_00", "evaluate_00", "train_10", "evaluate_10"]


def names_of(found: Any, kind: str) -> set[str]:
    """Return the artifacts of a lineage by the ends of their paths."""
    nodes = found.nodes[found.nodes["type"] == kind]
    return {Path(name).name for name in nodes["name"]}


def test_the_best_checkpoint_tells_all_stages_and_a_pruned_one_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_example("staged_finetuning", tmp_path)
    monkeypatch.chdir(folder)
    run = runner_of(folder / "pipeline.py", monkeypatch)
    run("--profile", "tiny")
    shutil.copy("checkpoints/phase_00/epoch_1.pt", "old.bin")
    run("--profile", "tiny", "prune")
    assert sorted(map(str, Path("checkpoints").rglob("*.pt"))) == [
        "checkpoints/phase_00/epoch_0.pt",
        "checkpoints/phase_10/epoch_2.pt",
    ]
    first = flowprov.campaigns()["campaign_id"][0]
    rows = flowprov.read_buffer(return_df=False, campaign_id=first)
    assert [row["name"] for row in rows if row["type"] == "workflow"] == _STAGES

    load_script(folder.parent / "to_safetensors.py").main(Path("best.txt").read_text(), "x/found.st")
    found = flowprov.whence("x/found.st")
    assert found is not None
    assert found.found_by == "weights"
    assert names_of(found, "artifact") >= {
        "epoch_2.pt",
        "phase_10.jsonl",
        "easy.jsonl",
        "hard.jsonl",
        "phase_00.json",
        "epoch_0.pt",
        "phase_00.jsonl",
    }
    story = str(found)
    for part in ("of workflow train_10", "of workflow train_00", "train.phase_10.lr 0.003", "train_loss"):
        assert part in story
    assert "parameters: as above" in story

    pruned = flowprov.whence("old.bin")
    assert pruned is not None
    assert pruned.found_by == "digest"
    assert names_of(pruned, "artifact") == {"epoch_1.pt", "phase_00.jsonl", "easy.jsonl"}
    gone = flowprov.lineage("checkpoints/phase_00/epoch_2.pt")
    assert names_of(gone, "artifact") == {"epoch_2.pt", "phase_00.jsonl", "easy.jsonl"}
    assert flowprov.whence("profiles/tiny.yaml") is None
    assert "It looked in" in caplog.text


@pytest.mark.soak
def test_the_commands_of_its_readme_do_what_it_says(tmp_path: Path) -> None:
    folder = copy_example("staged_finetuning", tmp_path)
    commit = commit_all(tmp_path)
    printed = type_commands_of_readme("staged_finetuning", folder)
    assert "removed checkpoints/phase_00/epoch_1.pt" in "\n".join(printed.values())
    for command in (
        "flowprov whence elsewhere/found.safetensors",
        "flowprov whence elsewhere/old.bin",
        "flowprov lineage checkpoints/phase_00/epoch_2.pt",
    ):
        assert f"code: commit {commit}" in printed[command]
        assert "easy.jsonl" in printed[command]
    assert "unknown" in printed["flowprov whence profiles/tiny.yaml || echo unknown"]
