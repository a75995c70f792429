"""A training that was killed and resumed reads as one run, equal to one that was not interrupted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

import flowprov
from flowprov import records
from flowprov.read.answers.resumes import Chains, Resume, resume_of
from flowprov.read.compaction import compact
from flowprov.read.parquet_files import digests_of
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from tests.support import run

pd = pytest.importorskip("pandas")

EPOCHS, BATCHES = 3, 4
TRAINING = """
    import json, os, pathlib, signal, sys
    import flowprov

    checkpoint = pathlib.Path("checkpoint.json")

    def main(workflow_id, die_at):
        state = {"step": 0, "epoch": 0}
        with flowprov.workflow("training", workflow_id=workflow_id):
            if len(sys.argv) > 3:
                state = json.loads(checkpoint.read_text())
                if BY_CHECKPOINT:
                    flowprov.resume_from(checkpoint)
                else:
                    flowprov.resume_from(**state, workflow_id=sys.argv[3])
            step = state["step"]
            epochs = flowprov.EpochLoop(range(state["epoch"], 3))
            for epoch in epochs:
                batches = flowprov.BatchLoop(range(step - epoch * 4, 4))
                for batch in batches:
                    batches.end_iter(loss=1 / (1 + step))
                    flowprov.log_metrics({"grad": step * 2.0})
                    step += 1
                    if step == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    if step % SAVE_EVERY == 0:
                        checkpoint.write_text(json.dumps({"step": step, "epoch": step // 4}))
                        flowprov.log_artifact(checkpoint)
                epochs.end_iter(val_loss=10 - epoch)

    main(sys.argv[1], int(sys.argv[2]))
"""


def _curves(buffer: Path, **chosen: Any) -> list[tuple[str, int, float]]:
    frame = flowprov.metrics(buffer, **chosen)
    return list(frame[["name", "step", "value"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("by_checkpoint", "campaign", "save_every", "die_at"),
    [
        (True, None, 4, 7),
        (True, "same", 3, 8),
        (True, None, 7, 11),
        (True, None, 1, 6),
        (False, None, 4, 8),
        (False, "same", 3, 8),
        (False, None, 1, 6),
    ],
)
def test_metrics_of_a_killed_and_resumed_training_equal_the_uninterrupted_ones(
    tmp_path: Path, *, by_checkpoint: bool, campaign: str | None, save_every: int, die_at: int
) -> None:
    program = TRAINING.replace("SAVE_EVERY", str(save_every)).replace("BY_CHECKPOINT", str(by_checkpoint))
    environment = {} if campaign is None else {"FLOWPROV_CAMPAIGN_ID": campaign}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    run(program, whole, "plain", "0", env=environment)
    run(program, cut, "first", str(die_at), env=environment, status=None)
    run(program, cut, "second", "0", "first", env=environment)
    expected = _curves(whole / "flowprov_buffer")
    assert len(expected) == EPOCHS + 2 * EPOCHS * BATCHES
    assert _curves(cut / "flowprov_buffer") == expected
    (only,) = flowprov.runs(cut / "flowprov_buffer").to_dict("records")
    assert (only["run_id"], only["attempts"], only["status"]) == ("first", 2, "FINISHED")
    assert only["metrics.val_loss"] == 8
    both = flowprov.runs(cut / "flowprov_buffer", attempts=True)
    assert both[["run_id", "status", "attempts"]].to_numpy().tolist() == [
        ["first", "INTERRUPTED", 1],
        ["second", "FINISHED", 2],
    ]


def test_the_time_of_a_resumed_run_counts_the_killed_attempt(tmp_path: Path) -> None:
    program = TRAINING.replace("SAVE_EVERY", "4").replace("BY_CHECKPOINT", "True")
    run(program, tmp_path, "first", "7", status=None)
    buffer = tmp_path / "flowprov_buffer"
    killed = flowprov.runs(buffer).iloc[0]
    (journal,) = Source(buffer).summaries()
    known = (journal.last_at - killed["started_at"].value) / 1e9
    assert killed["status"] == "INTERRUPTED"
    assert pd.isna(killed["ended_at"])
    assert killed["duration"] == known > 0
    assert flowprov.campaigns(buffer)["duration"][0] >= known
    run(program, tmp_path, "second", "0", "first")
    first, second = flowprov.runs(buffer, attempts=True)["duration"]
    (whole,) = flowprov.runs(buffer)["duration"]
    assert first == known
    assert whole == pytest.approx(first + second)
    run(program, tmp_path, "other", "0")
    told = flowprov.diff("first", "other", buffer).to_dict()
    assert told["durations"]["duration"][0] == whole
    journals = Source(buffer).summaries()
    compact(journals, {}, writer := ParquetWriter())
    writer.close()
    assert len(digests_of([journal.path for journal in journals])) == len(journals)
    assert flowprov.runs(buffer, attempts=True)["duration"][0] == known


def test_a_third_attempt_goes_on_from_the_second(buffer: Path) -> None:
    for number, (first, last) in enumerate([(0, 5), (4, 8), (6, 10)]):
        with flowprov.workflow("w", workflow_id=f"w-{number}", campaign_id="c"):
            if number:
                flowprov.resume_from(step=first, workflow_id=f"w-{number - 1}")
            loop = flowprov.BatchLoop(range(first, last))
            for step in loop:
                loop.end_iter(loss=step * 1.0, attempt=number)
    assert _curves(buffer, names=["loss"]) == [("loss", step, step * 1.0) for step in range(10)]
    attempts = [value for _, _, value in _curves(buffer, names=["attempt"])]
    assert attempts == [0] * 4 + [1] * 2 + [2] * 4
    assert list(flowprov.runs()["attempts"]) == [3]


def test_tasks_that_train_are_matched_by_their_name_and_order(buffer: Path) -> None:
    def search(own_id: str, steps: range, **resume: Any) -> None:
        with flowprov.workflow("search", workflow_id=own_id, campaign_id="c"):
            if resume:
                flowprov.resume_from(**resume)
            for name in ("a", "b"):
                with flowprov.task_scope(name):
                    loop = flowprov.BatchLoop(steps)
                    for step in loop:
                        loop.end_iter(loss=float(step))

    search("one", range(3))
    search("two", range(3, 5), step=3, workflow_id="one")
    frame = flowprov.runs()
    assert frame[["name", "attempts", "metrics.loss"]].to_numpy().tolist() == [["a", 2, 4.0], ["b", 2, 4.0]]
    assert list(flowprov.metrics()["value"]) == [0.0, 1.0, 2.0, 3.0, 4.0] * 2


def test_the_same_workflow_id_may_say_where_it_goes_on(buffer: Path) -> None:
    for first, last in [(0, 5), (3, 6)]:
        with flowprov.workflow("w", workflow_id="w", campaign_id="c"):
            if first:
                flowprov.resume_from(step=first)
            loop = flowprov.BatchLoop(range(first, last))
            for step in loop:
                loop.end_iter(loss=float(step))
    assert list(flowprov.metrics()["value"]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("given", [{}, {"step": -1}, {"step": "many"}])
def test_what_cannot_be_used_is_said_once_and_harms_nothing(
    buffer: Path, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), flowprov.workflow("w"):
        for _ in range(3):
            flowprov.resume_from(**given)
    assert sum("resume_from" in line for line in caplog.messages) >= 1
    assert len(flowprov.runs()) == 1


def test_circles_and_values_of_damaged_journals_are_borne() -> None:
    def workflow(name: str, given: Any) -> records.Workflow:
        return records.Workflow(workflow_id=name, custom_metadata={"resumed_from": given})

    assert resume_of(workflow("a", [1])) is None
    nothing = resume_of(workflow("a", {"workflow_id": 1, "step": "x", "epoch": True, "checkpoint": {}}))
    assert nothing == Resume(None, None, None)
    circle = [workflow("a", {"workflow_id": "b"}), workflow("b", {"workflow_id": "a"})]
    chains = Chains(circle)
    assert chains.first("a") == chains.first("b") == "a"
    far = [workflow(f"{n}", {"workflow_id": f"{n - 1}"}) for n in range(2_000)]
    assert Chains(msgspec.convert(far, list)).first("1999") == "0"
