"""Which tasks are runs that failed before their first loop began."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.read.answers import failed_tasks
from flowprov.read.answers.extract_builder import extract_of
from flowprov.read.source import Source
from flowprov.records import Error, Footer, Record, Task, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.buffers import Journals
from tests.read.test_extracts import check
from tests.support import only, run

pytest.importorskip("pandas")
_DIM = 8


@flowprov.task
def train(lr: float, nhead: int = 2) -> None:
    """A training that fails at once where the heads do not divide the dimension."""
    if _DIM % nhead:
        raise ValueError(f"{_DIM} is not divisible by {nhead}")
    loop = flowprov.EpochLoop(2)
    for epoch in loop:
        loop.end_iter(val_loss=lr / (epoch + 1))


def search(*heads: int, call: Callable[..., Any] = train) -> None:
    """Train with each number of heads, whatever fails."""
    with flowprov.workflow("search", used={"seed": 1}):
        for nhead in heads:
            with suppress(ValueError):
                call(0.1, nhead)


def runs() -> list[dict[str, Any]]:
    return [{str(key): value for key, value in line.items()} for line in flowprov.runs().to_dict("records")]


# -- which tasks ------------------------------------------------------------------------------------------


def test_a_task_that_failed_before_its_loop_is_a_run_beside_one_that_trained(buffer: Path) -> None:
    search(2, 5, 4)
    found = runs()
    assert [line["params.nhead"] for line in found] == [2, 5, 4]
    assert [line["status"] for line in found] == ["FINISHED", "ERROR", "FINISHED"]
    assert found[1]["error"] == "ValueError: 8 is not divisible by 5"
    assert (found[1]["params.seed"], found[1]["attempts"]) == (1, 1)
    assert flowprov.campaigns()["runs"].tolist() == [3]
    assert set(flowprov.metrics()["run_id"]) == {found[0]["run_id"], found[2]["run_id"]}


def test_what_it_used_belongs_to_it(buffer: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1")

    @flowprov.task
    def fit(lr: float) -> None:
        flowprov.use_artifact(tmp_path / "data.csv")
        if lr > 1:
            raise ValueError("diverges")
        flowprov.log_metrics(loss=lr)

    with flowprov.workflow("search"):
        for lr in (0.1, 10.0):
            with suppress(ValueError):
                fit(lr)
    first, second = flowprov.runs()["run_id"]
    assert flowprov.artifacts()["run_id"].tolist() == [first, second]
    assert flowprov.diff(first, second).to_dict()["params"] == {"lr": [0.1, 10.0]}


def test_it_is_a_run_in_the_iterations_of_a_loop_too(buffer: Path) -> None:
    with flowprov.workflow("search"):
        for nhead in flowprov.Loop([5, 2, 3], name="trial"):
            with suppress(ValueError):
                train(0.1, nhead)
    assert [line["params.nhead"] for line in runs()] == [5, 2, 3]


def test_where_all_failed_before_a_loop_the_workflow_is_the_run(buffer: Path) -> None:
    with suppress(ValueError), flowprov.workflow("search"):
        train(0.1, 5)
    assert (only(runs())["name"], only(runs())["status"]) == ("search", "ERROR")


def test_a_failed_task_of_another_name_is_no_run(buffer: Path) -> None:
    with flowprov.workflow("search"):
        with suppress(ValueError), flowprov.task_scope("load"):
            raise ValueError("no data")
        train(0.1)
    assert only(runs())["params.lr"] == 0.1


def test_a_failed_task_inside_another_one_is_no_run(buffer: Path) -> None:
    with flowprov.workflow("search"):
        train(0.1)
        with flowprov.task_scope("outer"), suppress(ValueError):
            train(0.1, 5)
    assert only(runs())["status"] == "FINISHED"


def test_a_failed_task_of_another_workflow_is_no_run(buffer: Path) -> None:
    search(2)
    search(5)
    assert [line["name"].rpartition(".")[2] for line in runs()] == ["train", "search"]


def test_a_task_whose_process_went_away_before_its_loop_is_a_run(tmp_path: Path) -> None:
    run(_KILLED, tmp_path, status=-signal.SIGKILL)
    found = flowprov.runs(tmp_path / "flowprov_buffer")
    assert found["status"].tolist() == ["FINISHED", "INTERRUPTED"]
    assert found["params.lr"].tolist() == [0.1, 0.2]


_KILLED = """
    import os, signal
    import flowprov

    @flowprov.task
    def train(lr):
        if lr == 0.2:
            flowprov.log_params(momentum=0.9)
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in flowprov.EpochLoop(1):
            pass

    with flowprov.workflow("search"):
        for lr in (0.1, 0.2):
            train(lr)
"""


# -- attempts and ranks -----------------------------------------------------------------------------------


_ATTEMPTS = """
    import os, sys
    from contextlib import suppress
    import flowprov

    attempt = sys.argv[1]

    @flowprov.task
    def train(lr):
        if (attempt, lr) in (("1", 0.1), ("2", 0.2)):
            raise ValueError("no memory")
        for epoch in flowprov.EpochLoop(1):
            flowprov.log_metrics(loss=lr)

    with flowprov.campaign("c", campaign_id="c"), flowprov.workflow("search", workflow_id="w1"):
        for lr in (0.1, 0.2):
            with suppress(ValueError):
                train(lr)
        if attempt == "1":
            os.abort()
"""


def test_the_kth_of_a_name_is_one_run_in_all_attempts_whether_it_trained_or_failed(tmp_path: Path) -> None:
    run(_ATTEMPTS, tmp_path, "1", status=-signal.SIGABRT)
    run(_ATTEMPTS, tmp_path, "2")
    found = flowprov.runs(tmp_path / "flowprov_buffer")
    assert found["params.lr"].tolist() == [0.1, 0.2]
    assert found["attempts"].tolist() == [2, 2]
    assert found["status"].tolist() == ["FINISHED", "ERROR"]
    assert found["metrics.loss"].tolist() == [0.1, 0.2]


def _epoch(number: int, inside: int, at: int, loss: float = 0.5, **fields: Any) -> Task:
    values = {"loss": loss}
    return step(
        number, at, parent_task_id=inside, activity_id="epoch_iteration", subtype="iteration",
        generated=values, workflow_id="w0", **fields,
    )  # fmt: skip


def _train(number: int, at: int, status: str = "FINISHED", **fields: Any) -> Task:
    error = Error(type="ValueError", message="no") if status == "ERROR" else None
    return step(number, at, activity_id="train", workflow_id="w0", status=status, error=error, **fields)


def _search(*tasks: Task) -> list[Record]:
    opened = Workflow(workflow_id="w0", name="search", status="RUNNING", started_at=NS)
    ended = Workflow(workflow_id="w0", name="search", status="FINISHED", ended_at=90 * NS)
    return [opened, *tasks, ended]


def test_the_ranks_of_a_job_that_failed_at_once_are_one_run(tmp_path: Path) -> None:
    for rank in range(2):
        tasks = [_train(0, 1, "ERROR"), _epoch(2, 1, 4), _train(1, 3)]
        first = header(f"{rank:032x}", "c1", pid=100 + rank, rank=rank, started_at=NS)
        write(tmp_path, first, *_search(*tasks), Footer(at=95 * NS, captured=5, written=5))
    found = flowprov.runs(tmp_path)
    assert found["status"].tolist() == ["ERROR", "FINISHED"]
    assert found["run_id"].tolist() == [f"{0:032x}-0", f"{0:032x}-1"]


def test_a_rank_of_which_no_task_trained_adds_no_run(tmp_path: Path) -> None:
    tasks = [[_epoch(1, 0, 2), _train(0, 1), _epoch(3, 2, 5), _train(2, 4)], [_train(0, 4, "ERROR")]]
    for rank, own in enumerate(tasks):
        first = header(f"{rank:032x}", "c1", pid=100 + rank, rank=rank, started_at=NS)
        write(tmp_path, first, *_search(*own), Footer(at=95 * NS, captured=9, written=9))
    assert flowprov.runs(tmp_path)["status"].tolist() == ["FINISHED", "FINISHED"]


def _attempt(number: int, at: int, status: str = "FINISHED", key: str = "a") -> Task:
    metadata = {"dask_key": key}
    return _train(number, at, status, subtype="dask_task", submitted_at=NS, custom_metadata=metadata)


def test_the_attempts_of_a_dask_task_are_one_run(tmp_path: Path) -> None:
    tasks = [
        _attempt(0, 1, "ERROR"),
        *(_epoch(2, 1, 4, 0.9), _epoch(3, 1, 6, 0.1), _attempt(1, 3, "ERROR")),
        *(_epoch(5, 4, 12, 0.8), _attempt(4, 11)),
        _attempt(6, 20, "ERROR", key="b"),
        _attempt(7, 22, "ERROR", key="b"),
    ]
    write(
        tmp_path,
        header("0" * 32, "c1", started_at=NS),
        *_search(*tasks),
        Footer(at=95 * NS, captured=10, written=10),
    )
    found = flowprov.runs(tmp_path)
    assert found["run_id"].tolist() == ["0" * 32 + "-0", "0" * 32 + "-6"]
    assert found["status"].tolist() == ["FINISHED", "ERROR"]
    assert found["attempts"].tolist() == [3, 2]
    assert found["metrics.loss.max"].tolist()[0] == 0.8  # the later attempt made this epoch again
    assert flowprov.metrics(tmp_path)["value"].tolist() == [0.8, 0.1]
    each = flowprov.runs(tmp_path, attempts=True)
    assert each["attempts"].tolist() == [1, 2, 3, 1, 2]


# -- the same from extracts, digests and files ------------------------------------------------------------


def _journals(*, dask: bool = False) -> Journals:
    make = _attempt if dask else _train
    other = step(9, 9, activity_id="load", status="ERROR", workflow_id="w0")
    trained = [_epoch(1, 0, 3), make(0, 2)]
    failed = [make(number, 3 + number, "ERROR") for number in range(4)]
    nested = [
        _train(2, 40, "ERROR", parent_task_id=1),
        step(1, 39, activity_id="outer", workflow_id="w0"),
        _train(3, 41, "ERROR", parent_task_id=5),
        step(5, 41, activity_id="trial_iteration", subtype="iteration", workflow_id="w0"),
        other,
    ]
    return [
        (_search(*trained, _train(8, 8, "ERROR"), other), True, None),
        ([*failed, other], True, None),
        (list(nested), True, None),
    ]


@pytest.mark.parametrize("dask", [False, True])
@pytest.mark.parametrize(("held", "names"), [(1_000, 1_000), (2, 1_000), (0, 0)])
def test_failed_runs_are_the_same_from_extracts_and_from_digests(
    monkeypatch: pytest.MonkeyPatch, held: int, names: int, *, dask: bool
) -> None:
    monkeypatch.setattr(failed_tasks, "_MAX_HELD", held)
    monkeypatch.setattr(failed_tasks, "_MAX_NAMES", names)
    check(_journals(dask=dask))


def test_an_extract_does_not_grow_with_the_failed_tasks_that_are_no_runs(tmp_path: Path) -> None:
    tasks = [_epoch(1, 0, 3), _train(0, 2)]
    for number in range(2, 6_000, 3):
        tasks.append(_train(number, 4, "ERROR", parent_task_id=number + 1))
        tasks.append(step(number + 1, 4, activity_id="outer", workflow_id="w0"))
        tasks.append(step(number + 2, 4, activity_id=f"load {number}", workflow_id="w0", status="ERROR"))
    tasks.append(_train(7_000, 5, "ERROR"))
    write(
        tmp_path,
        header("0" * 32, "c1", started_at=NS),
        *_search(*tasks),
        Footer(at=95 * NS, captured=1, written=1),
    )
    (journal,) = Source(tmp_path).summaries()
    extract = extract_of(journal)
    assert [record.task_id for _, record in extract.records if isinstance(record, Task)] == [1, 0, 7_000]
    assert len(flowprov.runs(tmp_path)) == 2
    assert extract.counts.errors == 2 * 2_000
