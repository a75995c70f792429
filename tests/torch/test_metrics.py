"""Tensors and arrays without a dimension are numbers in what tasks and workflows generate."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import flowprov
from flowprov import records
from flowprov.capture.torch import async_values, numbers
from flowprov.runtime import runtime
from tests.support import lines, of_type, run
from tests.torch.support import Calls, Plain, batch


class Device:
    """A device whose copies are ready once ``done`` is true."""

    def __init__(self) -> None:
        self.done = False
        self.started = 0

    def start_copy(self, copied: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
        """Copy."""
        self.started += 1
        return copied.clone(), lambda: self.done


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that metrics take for another device than the CPU."""
    device = Device()
    monkeypatch.setattr(numbers, "is_on_host", lambda _: False)
    monkeypatch.setattr(async_values, "start_copy", device.start_copy)
    return device


def generated(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each row generated, by its activity or name."""
    rows = flowprov.read_buffer(folder, return_df=False)
    return {row["activity_id"] or row["name"]: row["generated"] for row in rows}


def loss() -> torch.Tensor:
    """Return a loss: 2.5, with a graph behind it."""
    return (torch.nn.Parameter(torch.ones(())) * 2.5).mean()


# -- where they are given ------------------------------------------------------------------------------------


@flowprov.task
def bare() -> Any:
    """Return one."""
    return loss()


@flowprov.task
def in_a_dictionary() -> Any:
    """Return some by name."""
    return {"loss": loss(), "nested": {"all": [loss(), (loss(),)]}, "other": "text"}


@flowprov.task(output_names=["loss", "correct"])
def in_a_tuple() -> Any:
    """Return two."""
    return loss(), torch.tensor(3)


@flowprov.task
async def in_a_coroutine() -> Any:
    """Return one."""
    return loss()


def give_everywhere(at_the_end: Callable[[], None]) -> None:
    """Give a loss in each way that there is."""
    with flowprov.workflow("W") as workflow:
        bare()
        in_a_dictionary()
        in_a_tuple()
        asyncio.run(in_a_coroutine())
        loop = flowprov.Loop(1)
        for _ in loop:
            loop.end_iter(loss=loss())
            loop.end_iter({"correct": torch.tensor(3)})
        with flowprov.task_scope("scope") as scope:
            scope.set_generated(loss=loss())
            task = flowprov.current_task()
            assert task is not None
            task.set_generated({"correct": torch.tensor(3)})
        workflow.set_generated(loss=loss())
        at_the_end()


EVERYWHERE: dict[str, Any] = {
    "bare": {"result": 2.5},
    "in_a_dictionary": {"loss": 2.5, "nested": {"all": [2.5, [2.5]]}, "other": "text"},
    "in_a_tuple": {"loss": 2.5, "correct": 3},
    "in_a_coroutine": {"result": 2.5},
    "loop_iteration": {"loss": 2.5, "correct": 3},
    "scope": {"loss": 2.5, "correct": 3},
    "W": {"loss": 2.5},
}


def test_a_loss_is_a_number_wherever_it_is_given(buffer: Path) -> None:
    give_everywhere(lambda: None)
    assert generated(buffer) == EVERYWHERE
    assert of_type(lines(buffer), records.Correction) == []


def test_a_loss_is_in_the_journal_when_the_call_returns(tmp_path: Path) -> None:
    run(
        """
        import os, signal, torch, flowprov
        with flowprov.workflow("W") as workflow:
            loop = flowprov.EpochLoop(1)
            for _ in loop:
                loop.end_iter(loss=torch.tensor(0.5))
                workflow.set_generated(best=torch.tensor(7))
                os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        status=-9,
    )
    found = generated(tmp_path / "flowprov_buffer")
    assert found["epoch_iteration"] == {"loss": 0.5}
    assert found["W"] == {"best": 7}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor(2), 2),
        (torch.tensor(True), True),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor(1.5, dtype=torch.float16), 1.5),
        (torch.tensor(200, dtype=torch.uint8), 200),
        (torch.nn.Parameter(torch.tensor(1.5)), 1.5),
        (np.array(0.25), 0.25),
        (np.array(7, dtype="uint16"), 7),
        (np.mean(np.ones(3, dtype="float32"), keepdims=False), 1.0),
        (np.float32(0.5), 0.5),
    ],
)
def test_each_kind_of_number_keeps_its_kind(buffer: Path, value: Any, expected: Any) -> None:
    loop = flowprov.Loop(1)
    for _ in loop:
        loop.end_iter(metric=value)
    found = generated(buffer)["loop_iteration"]["metric"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_diverged_is_kept(buffer: Path, value: float) -> None:
    loop = flowprov.Loop(2)
    for position in loop:
        loop.end_iter(loss=torch.tensor(value) if position else np.array(value))
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["subtype"] == "iteration"]
    assert [str(row["generated"]["loss"]) for row in rows] == [str(value)] * 2


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(1),
        torch.ones(2, 3),
        np.ones(1),
        torch.ones((), device="meta"),
        torch.ones(()).to_sparse(),
    ],
)
def test_what_has_dimensions_or_no_contents_is_described_as_before(buffer: Path, value: Any) -> None:
    loop = flowprov.Loop(1)
    for _ in loop:
        loop.end_iter(metric=value)
    found = generated(buffer)["loop_iteration"]["metric"]
    assert found["type"] in ("torch.Tensor", "numpy.ndarray")
    assert found["shape"] == list(value.shape)


def test_fake_tensors_are_not_read(buffer: Path) -> None:
    with FakeTensorMode(), flowprov.workflow("W") as workflow:
        workflow.set_generated(loss=torch.ones(()))
    assert not isinstance(generated(buffer)["W"]["loss"], float)


def test_inputs_stay_as_they_are_but_for_arrays_of_numpy(buffer: Path) -> None:
    @flowprov.task
    def train(weight: Any, factor: Any, password: Any) -> None:
        return None

    train(torch.tensor(1.5), np.array(2.5), np.array(3.5))
    (row,) = (row for row in flowprov.read_buffer(buffer, return_df=False) if row["activity_id"])
    assert row["used"]["weight"]["shape"] == []
    assert row["used"]["factor"] == 2.5
    assert row["used"]["password"] == {"$redacted": True}


def test_secrets_stay_secret(buffer: Path) -> None:
    with flowprov.workflow("W") as workflow:
        workflow.set_generated(password=torch.tensor(1.5), pin_code={"secret": torch.tensor(1.5)})
    assert "1.5" not in str(generated(buffer)["W"])


def test_outputs_of_forwards_are_described_and_never_read(buffer: Path) -> None:
    def compute(x: torch.Tensor) -> torch.Tensor:
        task = flowprov.current_task()
        assert task is not None
        task.set_generated(metric=x.sum())
        return x.sum()

    model = flowprov.torch_capture(Calls(compute))
    plain = flowprov.torch_capture(Calls(torch.sum))
    model(batch())
    plain(batch())
    rows = flowprov.read_buffer(buffer, return_df=False)
    with_metric, without = (row["generated"] for row in rows if row["subtype"] == "parent_forward")
    assert with_metric["metric"] == 12.0
    assert with_metric["output"] == without["output"]
    assert without["output"]["shape"] == []


def test_metrics_change_nothing_of_the_program(buffer: Path) -> None:
    model = Plain()
    value = model(batch()).sum()
    with flowprov.workflow("W") as workflow:
        workflow.set_generated(loss=value)
        value.backward()
    assert model.linear.weight.grad is not None
    assert generated(buffer)["W"]["loss"] == pytest.approx(value.item())


def test_it_holds_where_torch_comes_later_and_the_adapter_does_not(tmp_path: Path) -> None:
    run(
        """
        import flowprov
        with flowprov.workflow("W") as workflow:
            import torch
            workflow.set_generated(loss=torch.tensor(0.5))
        """,
        tmp_path,
    )
    assert generated(tmp_path / "flowprov_buffer")["W"] == {"loss": 0.5}


def test_results_of_dask_tasks_are_numbers_too(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    run(
        """
        import torch, flowprov
        from distributed import Client

        def train(lr):
            return {"loss": torch.tensor(lr) * 2}

        if __name__ == "__main__":
            with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as client:
                with flowprov.workflow("W", dask_client=client):
                    client.submit(train, 0.25).result()
        """,
        tmp_path,
    )
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    found = [row["generated"] for row in rows if row["subtype"] == "dask_task" and row["generated"]]
    assert [list(values.values()) for values in found] == [[0.5]]


# -- from another device -------------------------------------------------------------------------------------


def test_numbers_of_a_device_follow_without_waiting(buffer: Path, device: Device) -> None:
    before: dict[str, Any] = {}

    def finish() -> None:
        before.update(generated(buffer))
        device.done = True

    give_everywhere(finish)
    assert all("shape" in str(before[name]) for name in EVERYWHERE)
    assert generated(buffer) == EVERYWHERE


def test_a_workflow_waits_a_little_at_its_end_for_its_own_number(buffer: Path, device: Device) -> None:
    with flowprov.workflow("W") as workflow:
        workflow.set_generated(loss=loss())
        device.done = True
    assert generated(buffer)["W"] == {"loss": 2.5}


def test_a_number_that_never_comes_leaves_the_description(
    buffer: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_values, "MAX_WAIT_S", 0.01)
    with flowprov.workflow("W"):
        bare()
    assert generated(buffer)["bare"]["result"]["shape"] == []
    (journal,) = runtime.get().journals()
    assert journal.counts()[2] == {"statistics": 1}


def test_numbers_of_many_threads_find_their_tasks(buffer: Path, device: Device) -> None:
    @flowprov.task
    def compute(number: int) -> torch.Tensor:
        return torch.tensor(float(number))

    with flowprov.workflow("W"):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(compute, range(200)))
        device.done = True
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["activity_id"] == "compute"]
    assert len(rows) == 200
    assert all(row["generated"]["result"] == row["used"]["number"] for row in rows)


def test_a_value_that_was_overwritten_stays_so(buffer: Path, device: Device) -> None:
    with flowprov.workflow("W") as workflow, flowprov.task_scope("scope") as scope:
        for handle in (workflow, scope):
            handle.set_generated(loss=loss(), other=loss())
            handle.set_generated(loss=1.0)
        device.done = True
    assert generated(buffer) == {"W": {"loss": 1.0, "other": 2.5}, "scope": {"loss": 1.0, "other": 2.5}}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_no_metric_waits(buffer: Path) -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        with flowprov.workflow("W"):
            loop = flowprov.Loop(3)
            for _ in loop:
                loop.end_iter(loss=torch.ones((), device="cuda") * 2.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["subtype"] == "iteration"]
    assert [row["generated"] for row in rows] == [{"loss": 2.5}] * 3
