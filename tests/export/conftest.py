"""A buffer with what exports must get through; it is recorded once."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import run

HOSTILE = 'weird\n<b onclick="x">\0 \\ "quoted" \u202e ../../etc/passwd'
ODD_METRIC = 'a/b \n<i>"\u202e'

_PROGRAM = f"""
    import asyncio, multiprocessing, os, pathlib, time
    import flowprov

    HOSTILE, ODD = {HOSTILE!r}, {ODD_METRIC!r}

    @flowprov.task
    def load(path, token="hunter2", url="https://me:secret@host/x"):
        flowprov.use_artifact(path, kind="dataset")
        flowprov.log_metrics(rows=2)
        return {{"rows": 2, "nan": float("nan"), "large": 2**60}}

    @flowprov.task
    def fail():
        raise ValueError("no <b>")

    @flowprov.task
    def helper(n):
        return n * 2

    @flowprov.task
    async def wait(n):
        await asyncio.sleep(0.01 * n)

    async def overlap():
        await asyncio.gather(*map(wait, (1, 2, 3)))

    if __name__ == "__main__":
        pathlib.Path("data.csv").write_text("a,b")
        pathlib.Path("odd\\n<i>.bin").write_bytes(b"odd")
        with flowprov.campaign("nightly", campaign_id="c1"), flowprov.workflow("train", used={{"lr": 0.5}}):
            load("data.csv")
            try:
                fail()
            except ValueError:
                pass
            for epoch in flowprov.EpochLoop(2):
                helper(epoch)
                flowprov.log_metrics({{ODD: epoch, "loss": 1 / (epoch + 1)}}, step=10 * epoch, huge=2**60)
            flowprov.log_metrics(broken=float("nan"))
            try:
                for _ in flowprov.Loop(1, name="broken"):
                    fail()
            except ValueError:
                pass
            asyncio.run(overlap())
            for score in range(2):
                with flowprov.workflow("again", workflow_id="again"):
                    helper(3)
                    flowprov.log_metrics(score=score)
            with flowprov.task_scope("pool"):
                child = multiprocessing.get_context("fork").Process(target=helper, args=(7,))
                child.start()
                child.join()
            with flowprov.task_scope(HOSTILE, used={{"a": {{HOSTILE: HOSTILE}}}}):
                pathlib.Path("model.bin").write_bytes(b"model")
                flowprov.log_artifact("model.bin", "../../model", kind="checkpoint", epoch=3)
                flowprov.log_artifact("odd\\n<i>.bin")
            with flowprov.workflow(HOSTILE, workflow_id="../a b:c"):
                helper(1)
"""
_KILLED = """
    import os, signal, flowprov

    @flowprov.task
    def inner():
        return 1

    @flowprov.task
    def outer():
        inner()
        os.kill(os.getpid(), signal.SIGKILL)

    with flowprov.campaign("killed", campaign_id="k1"), flowprov.workflow("Doomed"):
        flowprov.use_artifact("data.csv")
        flowprov.log_metrics(loss=0.25)
        with flowprov.task_scope("before"):
            pass
        outer()
"""
_TRAINING = """
    from pathlib import Path
    import flowprov
    from tests.contents.files import random_tensors, write_safetensors, write_torch_zip

    Path("raw.csv").write_text("a,b")
    Path("tuning.csv").write_text("c,d")
    Path("images/a b").mkdir(parents=True)
    Path("images/a b/1.png").write_bytes(b"one")
    Path("images/2.png").write_bytes(b"two")
    with flowprov.campaign("models", campaign_id="m1"):
        with flowprov.workflow("pretraining"):
            flowprov.use_artifact("raw.csv", kind="dataset")
            write_safetensors(Path("base.safetensors"), random_tensors(3))
            flowprov.log_artifact("base.safetensors", "base", kind="checkpoint")
        with flowprov.workflow("tuning", used={"lr": 0.5, "optimizer": {"name": "sgd"}}):
            with flowprov.task_scope("load"):
                flowprov.use_artifact("tuning.csv", kind="dataset")
                flowprov.use_artifact("base.safetensors")
            flowprov.log_metrics(loss=0.25, gap=float("nan"))
            with flowprov.task_scope("save"):
                tensors = random_tensors(4)
                write_safetensors(Path("model.safetensors"), tensors)
                flowprov.log_artifact("model.safetensors", "final", kind="model")
        with flowprov.workflow("evaluation"):
            flowprov.use_artifact("images")
            flowprov.use_artifact("model.safetensors")
    write_torch_zip(Path("converted.zip"), tensors)
    write_safetensors(Path("tuned.safetensors"), tensors | {"layers.0.weight": bytes(range(256)) * 8})
"""
_REMOTE = "git@example.com:me/my model.git"
_TELEMETRY = {f"FLOWPROV__TELEMETRY_CAPTURE__{kind}": "true" for kind in ("CPU", "MEM")}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two programs, of which the second was killed.

    Campaign c1 has artifacts, metrics, a failure, a correction, a second attempt, tasks that overlap, a
    process of its own, telemetry, and names that no format likes; campaign k1 has a workflow without an end.
    """
    folder = tmp_path_factory.mktemp("export")
    run(_PROGRAM, folder, env=_TELEMETRY)
    (folder / "program.py").rename(folder / "train.py")
    run(_KILLED, folder, status=-signal.SIGKILL)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that was trained in two steps, in a git repository.

    ``converted.zip`` holds the tensors of ``model.safetensors``, ``tuned.safetensors`` three of these four.
    """
    folder = tmp_path_factory.mktemp("trained")
    author = ("-c", "user.name=me", "-c", "user.email=me@example.com")
    for command in (
        ("init", "-q", "-b", "main"),
        ("remote", "add", "origin", _REMOTE),
        (*author, "commit", "-q", "--allow-empty", "-m", "first"),
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    run(_TRAINING, folder)
    return folder
