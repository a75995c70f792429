"""Which runs there are, with what parameters, and what they measured."""

from __future__ import annotations

import math
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.errors import UnknownIdError
from flowprov.read.answers import tables
from flowprov.read.answers.tables import METRIC_COLUMNS, RUN_COLUMNS
from tests.support import run

pd = pytest.importorskip("pandas")


@flowprov.task
def train(lr: float, epochs: int = 2, *, model: Any = None) -> dict[str, float]:
    """A training with a value in each epoch."""
    loop = flowprov.EpochLoop(epochs)
    for epoch in loop:
        loop.end_iter(loss=lr / (epoch + 1), text="no number", flag=True)
    return {"best": lr}


def curve(run_id: str | None = None, name: str = "loss") -> list[float]:
    return list(flowprov.metrics(run_id=run_id, names=[name])["value"])


def test_a_plain_script_is_one_run(buffer: Path) -> None:
    with flowprov.workflow("script", used={"lr": 0.5, "model": {"layers": 3, "kind": "lstm"}, "x": [1]}):
        loop = flowprov.EpochLoop(3)
        for epoch in loop:
            loop.end_iter(loss=[0.3, 0.1, 0.2][epoch])
    runs = flowprov.runs()
    assert tuple(runs.columns[: len(RUN_COLUMNS)]) == RUN_COLUMNS
    (only,) = runs.to_dict("records")
    assert (only["name"], only["status"], only["attempts"]) == ("script", "FINISHED", 1)
    assert only["run_id"] == only["workflow_id"]
    assert (only["params.lr"], only["params.model.layers"], only["params.model.kind"]) == (0.5, 3, "lstm")
    assert "params.x" not in only
    assert [only[f"metrics.loss{end}"] for end in ("", ".min", ".max")] == [0.2, 0.1, 0.3]
    assert 0 <= only["duration"] < 60
    assert str(runs["started_at"].dtype) == "datetime64[ns, UTC]"


def test_each_task_that_trains_is_a_run_and_its_workflow_is_none(buffer: Path) -> None:
    with flowprov.workflow("search", used={"seed": 1, "lr": 9.0}):
        for lr in (0.1, 0.2, 0.4):
            train(lr)
    runs = flowprov.runs()
    assert runs["name"].str.endswith("train").all()
    assert list(runs["params.lr"]) == [0.1, 0.2, 0.4]
    assert list(runs["params.seed"]) == [1, 1, 1]
    assert list(runs["metrics.loss"]) == [0.05, 0.1, 0.2]
    assert runs["run_id"].is_unique
    assert runs.sort_values("metrics.loss").iloc[0]["params.lr"] == 0.1


def test_a_task_that_trains_in_a_loop_of_its_workflow_is_a_run(buffer: Path) -> None:
    with flowprov.workflow("search"):
        for lr in flowprov.Loop([0.1, 0.2], name="trial"):
            train(lr)
    assert list(flowprov.runs()["params.lr"]) == [0.1, 0.2]


def test_a_workflow_with_metrics_of_its_own_is_a_run_beside_its_tasks(buffer: Path) -> None:
    with flowprov.workflow("search"):
        loop = flowprov.Loop([0.1, 0.2], name="trial")
        for lr in loop:
            loop.end_iter(best=train(lr)["best"])
    runs = flowprov.runs()
    workflow = runs[runs["name"] == "search"]
    assert list(workflow["metrics.best.max"]) == [0.2]
    assert len(runs) == 3


def test_a_workflow_without_loops_is_a_run(buffer: Path) -> None:
    with flowprov.workflow("prepare"):
        pass
    assert list(flowprov.runs()["name"]) == ["prepare"]


def test_the_description_of_a_captured_model_is_no_run(buffer: Path) -> None:
    torch = pytest.importorskip("torch")
    model = flowprov.torch_capture(torch.nn.Linear(2, 1))
    with flowprov.workflow("fit"):
        loop = flowprov.EpochLoop(2)
        for _ in loop:
            loop.end_iter(loss=model(torch.ones(1, 2)).sum())
    assert list(flowprov.runs()["name"]) == ["fit"]


def test_the_outermost_task_around_a_loop_is_the_run(buffer: Path) -> None:
    @flowprov.task
    def outer() -> None:
        train(0.1)
        train(0.2)

    with flowprov.workflow("w"):
        outer()
    (only,) = flowprov.runs().to_dict("records")
    assert only["name"].endswith("outer")
    assert curve() == [0.1, 0.05, 0.2, 0.1]
    assert list(flowprov.metrics(names=["loss"])["step"]) == [0, 1, 2, 3]


def test_parameters_are_scalars_and_no_descriptions_of_tensors(buffer: Path) -> None:
    torch = pytest.importorskip("torch")
    with flowprov.workflow("w", used={"x": torch.ones(2, 3), "nested": {"y": torch.ones(1), "z": 1}}):
        pass
    assert [name for name in flowprov.runs().columns if name.startswith("params.")] == ["params.nested.z"]


def test_a_failed_run_tells_its_error(buffer: Path) -> None:
    @flowprov.task
    def failing() -> None:
        for _ in flowprov.EpochLoop(2):
            raise ValueError("diverged")

    with flowprov.workflow("w"), pytest.raises(ValueError, match="diverged"):
        failing()
    (only,) = flowprov.runs().to_dict("records")
    assert (only["status"], only["error"]) == ("ERROR", "ValueError: diverged")


def test_steps_count_on_through_the_epochs_and_epochs_are_told(buffer: Path) -> None:
    with flowprov.workflow("w"):
        epochs = flowprov.EpochLoop(2)
        for epoch in epochs:
            batches = flowprov.BatchLoop([[1], [2], [3]])
            for number, _ in enumerate(batches):
                batches.end_iter(loss=float(10 * epoch + number))
            epochs.end_iter(val_loss=float(epoch))
    frame = flowprov.metrics()
    assert tuple(frame.columns) == METRIC_COLUMNS
    loss = frame[frame["name"] == "loss"]
    assert list(loss["step"]) == [0, 1, 2, 3, 4, 5]
    assert list(loss["epoch"]) == [0, 0, 0, 1, 1, 1]
    assert list(frame[frame["name"] == "val_loss"]["epoch"]) == [0, 1]
    wide = frame.pivot(index="step", columns="name", values="value")
    assert list(wide["val_loss"].dropna()) == [0.0, 1.0]


def test_of_one_name_in_several_loops_the_outermost_keeps_the_plain_name(buffer: Path) -> None:
    with flowprov.workflow("w"):
        epochs = flowprov.EpochLoop(1)
        for _ in epochs:
            for step in ("train", "eval"):
                batches = flowprov.BatchLoop([[1]], step=step)
                for _ in batches:
                    batches.end_iter(loss=1.0)
            epochs.end_iter(loss=2.0)
    frame = flowprov.metrics()
    assert dict(zip(frame["name"], frame["value"], strict=True)) == {
        "loss": 2.0,
        "train_batch/loss": 1.0,
        "eval_batch/loss": 1.0,
    }


def test_values_that_are_no_finite_numbers_are_kept(buffer: Path) -> None:
    with flowprov.workflow("w"):
        loop = flowprov.Loop(4)
        for number in loop:
            loop.end_iter(loss=[1.0, math.nan, math.inf, 3][number])
    assert str(curve()) == str([1.0, math.nan, math.inf, 3.0])
    (only,) = flowprov.runs().to_dict("records")
    assert (only["metrics.loss.min"], only["metrics.loss.max"]) == (1.0, math.inf)


# -- log_params and log_metrics -----------------------------------------------------------------------------


def test_logged_metrics_are_values_of_the_run_and_no_rows(buffer: Path) -> None:
    with flowprov.workflow("w"):
        for number in range(3):
            flowprov.log_metrics({"loss": number}, acc=1 - number)
        flowprov.log_metrics(loss=9.0, step=7)
        flowprov.log_metrics(loss=10.0, step=7)
    frame = flowprov.metrics(names=["loss"])
    assert list(frame["step"]) == [0, 1, 2, 7]
    assert list(frame["value"]) == [0, 1, 2, 10]
    assert len(flowprov.read_buffer()) == 1


def test_metrics_logged_in_a_task_make_it_a_run(buffer: Path) -> None:
    @flowprov.task
    def fit(lr: float) -> None:
        flowprov.log_metrics(loss=lr)

    with flowprov.workflow("w"):
        fit(0.1)
        fit(0.2)
    assert list(flowprov.runs()["metrics.loss"]) == [0.1, 0.2]


def test_metrics_logged_in_an_epoch_know_it(buffer: Path) -> None:
    with flowprov.workflow("w"):
        for epoch in flowprov.EpochLoop(2):
            flowprov.log_metrics(loss=epoch)
    assert list(flowprov.metrics()["epoch"]) == [0, 1]


def test_what_is_no_number_is_left_out_of_metrics_and_said_once(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with flowprov.workflow("w"):
        for _ in range(2):
            flowprov.log_metrics({"loss": 1.0, "name": "x", "flag": True}, step="three")  # type: ignore[arg-type]
        flowprov.log_metrics(7)
    assert list(flowprov.metrics()["name"]) == ["loss", "loss", "value"]
    assert caplog.text.count("log_metrics records numbers") == 1


def test_tensors_without_a_dimension_are_numbers(buffer: Path) -> None:
    torch = pytest.importorskip("torch")
    with flowprov.workflow("w"):
        flowprov.log_metrics(loss=torch.tensor(0.5), grad=torch.tensor(float("nan")))
    assert curve() == [0.5]
    assert math.isnan(curve(name="grad")[0])


def test_params_go_to_the_task_or_workflow_around_the_loop(buffer: Path) -> None:
    @flowprov.task
    def fit(lr: float) -> None:
        for _ in flowprov.EpochLoop(1):
            flowprov.log_params({"optimizer": {"name": "sgd"}}, momentum=0.9)

    with flowprov.workflow("w", used={"seed": 3}):
        flowprov.log_params(size=5)
        fit(0.1)
    (only,) = flowprov.runs().to_dict("records")
    params = {name: value for name, value in only.items() if str(name).startswith("params.")}
    assert params == {
        "params.seed": 3,
        "params.size": 5,
        "params.lr": 0.1,
        "params.momentum": 0.9,
        "params.optimizer.name": "sgd",
    }


_KILLED = """
    import os, signal
    import flowprov

    @flowprov.task
    def fit(lr):
        flowprov.log_params(momentum=0.9)
        flowprov.log_metrics(loss=0.25)
        os.kill(os.getpid(), signal.SIGKILL)

    with flowprov.workflow("w"):
        fit(0.1)
"""


def test_what_was_logged_before_a_kill_is_found(tmp_path: Path) -> None:
    run(_KILLED, tmp_path, status=-signal.SIGKILL)
    (only,) = flowprov.runs(tmp_path / "flowprov_buffer").to_dict("records")
    assert (only["params.lr"], only["params.momentum"], only["metrics.loss"]) == (0.1, 0.9, 0.25)
    assert only["status"] == "INTERRUPTED"


def test_calls_that_cannot_be_used_raise_nothing(buffer: Path) -> None:
    with flowprov.workflow("w"):
        for given in (object(), [("a", 1)], None, {1: 2}, "x"):
            flowprov.log_params(given)
            flowprov.log_metrics(given)
    assert len(flowprov.runs()) == 1


# -- many runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def three_campaigns(buffer: Path) -> Path:
    for number in range(3):
        with flowprov.campaign(f"c{number}", campaign_id=f"id{number}"), flowprov.workflow("w"):
            train(float(number))
    return buffer


def test_runs_are_those_of_the_whole_buffer_unless_a_campaign_is_named(three_campaigns: Path) -> None:
    assert list(flowprov.runs()["campaign"]) == ["c0", "c1", "c2"]
    assert list(flowprov.runs(campaign_id="id1")["params.lr"]) == [1.0]
    assert len(flowprov.Buffer(three_campaigns).runs()) == 3
    assert len(flowprov.Buffer(three_campaigns).metrics(campaign_id="id2")) == 2
    with pytest.raises(UnknownIdError, match="id1"):
        flowprov.runs(campaign_id="id7")


def test_metrics_of_an_unknown_run_name_those_that_are_there(three_campaigns: Path) -> None:
    with pytest.raises(UnknownIdError, match="no run"):
        flowprov.metrics(run_id="unknown")


def test_several_buffers_are_read_as_one(three_campaigns: Path, tmp_path: Path) -> None:
    flowprov.configure(journal={"path": str(tmp_path / "other")})
    with flowprov.workflow("elsewhere"):
        pass
    runs = flowprov.runs([three_campaigns, tmp_path / "other"])
    assert len(runs) == 4


def test_campaigns_are_told_with_what_they_hold(three_campaigns: Path) -> None:
    frame = flowprov.campaigns()
    assert list(frame["campaign_id"]) == ["id0", "id1", "id2"]
    assert list(frame["runs"]) == [1, 1, 1]
    assert list(frame["tasks"]) == [1, 1, 1]
    assert set(frame["status"]) <= {"COMPLETE", "RUNNING"}
    assert (frame["size"] > 500).all()


def test_an_empty_buffer_has_no_runs(tmp_path: Path) -> None:
    assert flowprov.runs(tmp_path).empty
    assert flowprov.metrics(tmp_path).empty
    assert flowprov.campaigns(tmp_path).empty
    assert list(flowprov.runs(tmp_path).columns) == list(RUN_COLUMNS)


def test_tables_can_be_written_to_files(three_campaigns: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with flowprov.campaign("mixed"), flowprov.workflow("w", used={"lr": "auto", "n": 10**30, "flag": True}):
        flowprov.current_workflow().add_tags("a", "b")  # type: ignore[union-attr]
    for frame in (flowprov.runs(), flowprov.metrics(), flowprov.campaigns()):
        frame.to_parquet(tmp_path / "table.parquet")
        assert len(pd.read_parquet(tmp_path / "table.parquet")) == len(frame)
        frame.to_csv(tmp_path / "table.csv")
    assert flowprov.runs().groupby("campaign")["metrics.loss"].last().loc["c2"] == 1.0


_ATTEMPTS = """
    import os, sys
    import flowprov

    with flowprov.campaign("c", campaign_id="c"), flowprov.workflow("w", workflow_id="w1"):
        loop = flowprov.EpochLoop(range(int(sys.argv[1])))
        for epoch in loop:
            loop.end_iter(loss=int(sys.argv[2]) + epoch)
        if sys.argv[2] == "0":
            os.abort()
"""


def test_attempts_are_one_run_unless_they_are_asked_for(tmp_path: Path) -> None:
    run(_ATTEMPTS, tmp_path, "3", "0", status=-signal.SIGABRT)
    run(_ATTEMPTS, tmp_path, "2", "10")
    place = tmp_path / "flowprov_buffer"
    (folded,) = flowprov.runs(place).to_dict("records")
    assert (folded["run_id"], folded["status"], folded["attempts"]) == ("w1", "FINISHED", 2)
    assert list(flowprov.metrics(place)["value"]) == [10, 11, 2]
    assert list(flowprov.runs(place, attempts=True)["status"]) == ["INTERRUPTED", "FINISHED"]
    assert len(flowprov.metrics(place, attempts=True)) == 5


def test_a_metric_that_is_too_large_for_a_float_is_infinite_and_the_others_are_as_they_were(
    buffer: Path,
) -> None:
    with flowprov.workflow(used={"seed": 10**400}):
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            flowprov.log_metrics(loss=-(10**500), steps=epoch)
            loop.end_iter(count=10**400)
    line = flowprov.runs().iloc[0]
    assert (line["metrics.count"], line["metrics.loss.min"], line["metrics.steps"]) == (
        math.inf,
        -math.inf,
        1,
    )
    values = flowprov.metrics().set_index("name")["value"]
    assert (list(values["count"]), list(values["steps"])) == ([math.inf] * 2, [0, 1])
    assert flowprov.query("select count(*) as n from metrics").iloc[0]["n"] == 6
    assert flowprov.read_buffer(return_df=False)[0]["used"]["seed"] == 10**400


@pytest.mark.parametrize(
    ("fails", "errors"),
    [((), 0), (["task"], 1), (["workflow"], 1), (["inner"], 1), (["caught"], 1), (["caught", "inner"], 2)],
)
def test_an_error_counts_once_whether_a_task_told_it_or_only_its_workflow(
    buffer: Path, fails: Collection[str], errors: int
) -> None:
    def fail_at(place: str) -> None:
        if place in fails:
            raise ValueError(place)

    with suppress(ValueError), flowprov.campaign("c"), flowprov.workflow("outer"):
        with suppress(ValueError), flowprov.workflow("attempt"):
            fail_at("caught")
        with flowprov.workflow("inner"):
            fail_at("inner")
        with flowprov.task_scope("step"):
            fail_at("task")
        fail_at("workflow")
    assert flowprov.campaigns()["errors"].tolist() == [errors]


def test_a_table_that_would_be_too_large_leaves_out_what_the_fewest_runs_have(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of runs with parameter names of their own, each has as many cells as all of them have names."""
    for number in range(10):
        with flowprov.workflow(used={"lr": 0.1, **{f"own{number}_{n}": n for n in range(20)}}):
            flowprov.EpochLoop(1)
    assert {f"params.own{number}_0" for number in range(10)} <= set(flowprov.runs())
    monkeypatch.setattr(tables, "_MAX_CELLS", 10 * (len(RUN_COLUMNS) + 21))
    found = flowprov.runs()
    assert tuple(found.columns[: len(RUN_COLUMNS)]) == RUN_COLUMNS
    assert len(found.columns) == len(RUN_COLUMNS) + 21
    assert list(found["params.lr"]) == [0.1] * 10
    assert f"shows {len(RUN_COLUMNS) + 21} of {len(RUN_COLUMNS) + 201} columns of 10 lines" in caplog.text
