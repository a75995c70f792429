"""The model and its training: shapes, causality, the best epoch, and the same losses each time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from llm_config import PARAMETERS
from llm_dataprep import dataprep_workflow
from llm_model import TransformerModel, evaluate, model_train
from llm_train_campaign import DATAPREP_ONLY

DEFAULTS: dict[str, Any] = {name: parameter.default for name, parameter in PARAMETERS.items()}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """Give the arguments of `model_train` that the default campaign gives."""
    prepared = dataprep_workflow("wikidata", DEFAULTS, tmp_path / "data")
    data: dict[str, Any] = {
        name: prepared[name] for name in ("ntokens", "train_path", "valid_path", "test_path")
    }
    config = {name: value for name, value in DEFAULTS.items() if name not in DATAPREP_ONLY}
    return config | data | {"epochs": 2, "checkpoint_path": str(tmp_path / "checkpoints" / "run.pt")}


def test_the_model_predicts_each_next_token() -> None:
    model = TransformerModel(ntokens=11, emsize=8, nhead=2, nhid=16, nlayers=1)
    assert model(torch.zeros(5, 3, dtype=torch.long)).shape == (5, 3, 11)


def test_the_model_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    model = TransformerModel(ntokens=11, emsize=8, nhead=2, nhid=16, nlayers=2).eval()
    tokens = torch.randint(11, (6, 1))
    changed = tokens.clone()
    changed[-1] = (changed[-1] + 1) % 11
    with torch.no_grad():
        assert torch.allclose(model(tokens)[:-1], model(changed)[:-1], atol=1e-6)


def test_a_loss_is_the_mean_over_all_tokens() -> None:
    model = TransformerModel(ntokens=11, emsize=8, nhead=2, nhid=16, nlayers=1)
    torch.nn.init.zeros_(model.decoder.weight)
    torch.nn.init.zeros_(model.decoder.bias)
    assert evaluate(model, torch.randint(11, (8, 2)), bptt=3) == pytest.approx(math.log(11))


def test_training_prints_returns_and_saves_the_same_losses(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = model_train(**arguments)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [float(words[4]) for words in printed] == result["train_losses"]
    assert [float(words[6]) for words in printed] == result["val_losses"]
    saved = torch.load(arguments["checkpoint_path"], weights_only=True)
    assert saved["epoch"] == result["best_epoch"]
    assert saved["val_loss"] == result["best_val_loss"] == min(result["val_losses"])
    assert result["test_loss"] > 0


def test_one_seed_gives_one_result(arguments: dict[str, Any]) -> None:
    assert model_train(**arguments)["val_losses"] == model_train(**arguments)["val_losses"]
    other = model_train(**arguments | {"random_seed": 1})
    assert other["val_losses"] != model_train(**arguments)["val_losses"]
