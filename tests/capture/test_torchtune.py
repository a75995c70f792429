"""A real recipe of torchtune, recorded by one line: its phases, its resume, what made its checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import clean_environment

pytestmark = pytest.mark.soak
pytest.importorskip("torch")
pytest.importorskip("pandas")

_NEEDED = ["torchtune==0.6.1", "torchao==0.13.0"]
_PARTS = """
import random
import flowprov
from torchtune.models.llama3 import llama3

class Tokenizer:
    pad_id = 0

def build_model():
    model = llama3(vocab_size=64, num_layers=2, num_heads=2, num_kv_heads=2, embed_dim=32, max_seq_len=32)
    return flowprov.torch_capture(model, what="parent_and_children", depth="all")

def build_data(tokenizer):
    chance = random.Random(1)
    rows = [[chance.randrange(1, 64) for _ in range(12)] for _ in range(12)]
    return [{"tokens": row, "labels": row} for row in rows]

class Logger:
    def log_config(self, config):
        pass
    def log_dict(self, payload, step):
        flowprov.log_metrics({"loss": payload["loss"]}, step=step)
    def log(self, name, data, step):
        pass
    def close(self):
        pass
"""
_PREPARE = """
import torch
from torchtune.models.llama3 import llama3
torch.manual_seed(0)
model = llama3(vocab_size=64, num_layers=2, num_heads=2, num_kv_heads=2, embed_dim=32, max_seq_len=32)
torch.save(model.state_dict(), "base/model.pt")
"""
_CONFIG = """
output_dir: out
model: {_component_: tiny_parts.build_model}
tokenizer: {_component_: tiny_parts.Tokenizer}
dataset: {_component_: tiny_parts.build_data}
checkpointer:
  _component_: torchtune.training.FullModelTorchTuneCheckpointer
  checkpoint_dir: base
  checkpoint_files: [model.pt]
  recipe_checkpoint: null
  output_dir: out
  model_type: LLAMA3
resume_from_checkpoint: false
seed: 7
shuffle: true
batch_size: 2
epochs: 2
max_steps_per_epoch: 3
gradient_accumulation_steps: 2
optimizer: {_component_: torch.optim.AdamW, lr: 0.01}
optimizer_in_bwd: false
loss: {_component_: torch.nn.CrossEntropyLoss}
compile: false
device: cpu
dtype: fp32
enable_activation_checkpointing: true
enable_activation_offloading: false
metric_logger: {_component_: tiny_parts.Logger}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with torchtune, in an environment above the one of the tests."""
    environment = tmp_path_factory.mktemp("torchtune")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "of_the_tests.pth").write_text("\n".join(site.getsitepackages()))
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    if subprocess.run([*pip, *_NEEDED], check=False).returncode:
        pytest.skip("torchtune cannot be installed here")
    return python


@pytest.fixture(scope="module")
def trained(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe trained two epochs, and the second one again, from its checkpoint."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "base").mkdir()
    (folder / "tiny_parts.py").write_text(_PARTS)
    (folder / "tiny.yaml").write_text(_CONFIG)
    environment = clean_environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(folder)])

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [str(python), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "flowprov met a fault" not in done.stderr

    run("-c", _PREPARE)
    run("-m", "torchtune._cli.tune", "cp", "full_finetune_single_device", "recipe.py")
    recipe = folder / "recipe.py"
    text = recipe.read_text()
    own = "class FullFinetuneRecipeSingleDevice"
    recipe.write_text(text.replace(own, f"import flowprov\n@flowprov.recipe\n{own}"))
    run("recipe.py", "--config", "tiny.yaml", "optimizer.lr=0.02")
    (saved,) = (folder / "out" / "epoch_0").glob("*model*")
    shutil.copytree(folder / "out" / "epoch_1", folder / "first")
    files = f"checkpointer.checkpoint_files=[epoch_0/{saved.name}]"
    run("recipe.py", "--config", "tiny.yaml", "optimizer.lr=0.02", "resume_from_checkpoint=true", files)
    return folder


def rows_of(folder: Path, attempt: int) -> list[dict[str, Any]]:
    buffer = folder / "flowprov_buffer"
    campaign = flowprov.campaigns(buffer)["campaign_id"][attempt]
    return flowprov.read_buffer(buffer, campaign_id=campaign, return_df=False)


def test_the_phases_are_tasks_with_attributes_forwards_and_numbers(trained: Path) -> None:
    rows = rows_of(trained, 0)
    names = {row["task_id"]: row["activity_id"] for row in rows}
    phases = [
        (row["activity_id"], names.get(row["parent_task_id"]))
        for row in rows
        if row["activity_id"] in ("init", "setup", "load_checkpoint", "train", "save_checkpoint", "cleanup")
    ]
    assert phases == [
        ("init", None),
        ("setup", None),
        ("load_checkpoint", "setup"),
        ("train", None),
        ("save_checkpoint", "train"),
        ("save_checkpoint", "train"),
        ("cleanup", None),
    ]
    (train,) = [row for row in rows if row["activity_id"] == "train"]
    assert train["generated"]["epochs_run"] == 2
    assert train["generated"]["global_step"] == 6
    forwards = [row for row in rows if row["subtype"] == "parent_forward"]
    assert len(forwards) == 12
    flagged = [row for row in rows if (row["custom_metadata"] or {}).get("recomputed")]
    assert flagged
    (config,) = filter(None, ((row["custom_metadata"] or {}).get("config") for row in rows))
    assert config["optimizer.lr"]["origin"] == "override optimizer.lr=0.02"
    assert config["batch_size"]["origin"] == "tiny.yaml"


def test_the_resumed_attempt_goes_on_in_the_same_curve(trained: Path) -> None:
    buffer = trained / "flowprov_buffer"
    folded = flowprov.metrics(buffer, names=["loss"])
    assert folded["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(flowprov.metrics(buffer, names=["loss"], attempts=True)) == 9
    (given,) = filter(
        None, ((row["custom_metadata"] or {}).get("resumed_from") for row in rows_of(trained, 1))
    )
    assert (given["step"], given["epoch"]) == (3, 1)
    assert json.dumps(given["checkpoint"]).startswith('{"$artifact"')


def test_the_last_checkpoint_tells_both_attempts(trained: Path) -> None:
    (last,) = (trained / "first").glob("*model*")
    elsewhere = trained / "elsewhere"
    elsewhere.mkdir()
    found = flowprov.whence(shutil.copy(last, elsewhere / "x"), trained / "flowprov_buffer")
    story = str(found)
    assert story.count("generated by task save_checkpoint of workflow FullFinetune") >= 2
    for part in ("[likely]", "[the same content]", "optimizer.lr 0.02", "metrics: loss"):
        assert part in story
