"""``mode: exact``: each task carries the readings at its own start and end; who asked for none has none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.records import OpenTask, Task
from flowprov.runtime import runtime
from tests.support import lines, of_type, only

torch = pytest.importorskip("torch")

EXACT = {"process": True, "cpu": True, "mode": "exact"}


def record(buffer: Path, **settings: Any) -> None:
    flowprov.configure(journal={"path": str(buffer)}, **{"telemetry_capture": EXACT, **settings})


def recorded(buffer: Path) -> list[Task]:
    runtime.reset()
    return of_type(lines(buffer), Task)


def has_both(task: Task) -> bool:
    """Whether a task carries readings of its own, of the kinds that were asked for and in their order."""
    start, end = task.telemetry_at_start, task.telemetry_at_end
    if start is None or end is None:
        return False
    assert start.keys() == end.keys() == {"sampled_at", "cpu", "process"}
    assert start["sampled_at"] <= task.started_at <= task.ended_at  # type: ignore[operator]
    assert end["sampled_at"] >= task.ended_at
    return True


def has_none(task: Task) -> bool:
    return task.telemetry_at_start is None and task.telemetry_at_end is None and task.telemetry is False


def test_tasks_carry_their_readings(buffer: Path) -> None:
    record(buffer)
    flowprov.task(len)("abc")
    with flowprov.task_scope("scope"):
        pass
    with pytest.raises(ZeroDivisionError):
        flowprov.task(lambda: 1 / 0)()
    found = recorded(buffer)
    assert len(found) == 3
    assert all(map(has_both, found))


def test_iterations_carry_them_however_they_end(buffer: Path) -> None:
    record(buffer)
    for _ in flowprov.Loop(2):
        pass
    for epoch in flowprov.EpochLoop(3):
        if epoch == 1:
            break
        for _ in flowprov.BatchLoop(["a", "b"]):
            pass
    found = recorded(buffer)
    assert len(found) == 2 + 2 + 2
    assert all(map(has_both, found))


def test_lightweight_loops_carry_none(buffer: Path) -> None:
    record(buffer, instrumentation={"torch": {"epoch_loop": "lightweight", "batch_loop": "lightweight"}})
    for _ in flowprov.EpochLoop(1):
        for _ in flowprov.BatchLoop(2):
            flowprov.task(len)("abc")
    found = recorded(buffer)
    iterations = [task for task in found if task.subtype == "iteration"]
    assert len(iterations) == 3
    assert all(map(has_none, iterations))
    assert all(has_both(task) for task in found if task not in iterations)


@pytest.mark.parametrize(
    ("mode", "measured"),
    [
        ("lightweight", False),
        ("tensor_inspection", False),
        ("telemetry", True),
        ("telemetry_and_tensor_inspection", True),
    ],
)
def test_forwards_of_children_carry_them_where_their_mode_says_so(
    buffer: Path, mode: str, *, measured: bool
) -> None:
    record(buffer, instrumentation={"torch": {"what": "parent_and_children", "children_mode": mode}})
    model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))
    model(torch.ones(1, 3))
    found = recorded(buffer)
    parent = only([task for task in found if task.subtype == "parent_forward"])
    children = [task for task in found if task.subtype == "child_forward"]
    assert has_both(parent)
    assert len(children) == 2
    assert all(map(has_both if measured else has_none, children))


def test_backward_passes_and_steps_of_optimizers_carry_them(buffer: Path) -> None:
    record(buffer, instrumentation={"torch": {"backward": True, "optimizer": "steps"}})
    with flowprov.workflow("W"):
        model = flowprov.torch_capture(torch.nn.Linear(3, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    found = recorded(buffer)
    assert {task.subtype for task in found} >= {"parent_forward", "backward", "optimizer_step"}
    assert all(map(has_both, found))


def test_a_task_that_is_open_carries_the_reading_at_its_start(buffer: Path) -> None:
    record(buffer)
    with flowprov.task_scope("long"):
        only(runtime.get().journals()).write_heartbeat()
    opened = only(of_type(lines(buffer), OpenTask))
    assert opened.telemetry_at_start is not None


def test_without_exact_no_record_carries_any_reading(buffer: Path) -> None:
    record(buffer, telemetry_capture={**EXACT, "mode": "sampled"})
    flowprov.task(len)("abc")
    task = only(recorded(buffer))
    assert task.telemetry_at_start is None
    assert task.telemetry is None


def test_a_reading_that_cannot_be_encoded_costs_the_reading_alone(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(buffer)
    sampler = runtime.get().sampler
    assert sampler is not None

    class Odd:
        kind = "odd"

        def read(self) -> dict[str, Any]:
            return {"x": object()}

        def close(self) -> None:
            pass

    sampler._probes.append(Odd())
    flowprov.task(len)("abc")
    sampler._probes.pop()
    assert only(recorded(buffer)).generated == {"result": 3}
    assert "a fault of its own while reading telemetry" in caplog.text


def test_threads_read_at_once(buffer: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    record(buffer)
    with flowprov.workflow("W"), ThreadPoolExecutor(4) as pool:
        step = flowprov.task(time.sleep)
        list(pool.map(flowprov.bind(step), [0.001] * 40))
    found = recorded(buffer)
    assert len(found) == 40
    assert all(map(has_both, found))
