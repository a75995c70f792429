"""With ``mode: exact`` each task has readings at its own start and end, unless telemetry is off for it."""

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


def recorded_tasks(buffer: Path) -> list[Task]:
    runtime.reset()
    return of_type(lines(buffer), Task)


def has_both(task: Task) -> bool:
    """Whether a task has exact readings, of the requested kinds and with times in order."""
    start, end = task.telemetry_at_start, task.telemetry_at_end
    if start is None or end is None:
        return False
    assert start.keys() == end.keys() == {"sampled_at", "cpu", "process"}
    assert start["sampled_at"] <= task.started_at <= task.ended_at  # type: ignore[operator]
    assert end["sampled_at"] >= task.ended_at
    return True


def has_none(task: Task) -> bool:
    return task.telemetry_at_start is None and task.telemetry_at_end is None and task.telemetry is False


def test_tasks_have_readings_at_their_start_and_end(buffer: Path) -> None:
    record(buffer)
    flowprov.task(len)("abc")
    with flowprov.task_scope("scope"):
        pass
    with pytest.raises(ZeroDivisionError):
        flowprov.task(lambda: 1 / 0)()
    tasks = recorded_tasks(buffer)
    assert len(tasks) == 3
    assert all(map(has_both, tasks))


def test_iterations_have_readings_however_they_end(buffer: Path) -> None:
    record(buffer)
    for _ in flowprov.Loop(2):
        pass
    for epoch in flowprov.EpochLoop(3):
        if epoch == 1:
            break
        for _ in flowprov.BatchLoop(["a", "b"]):
            pass
    tasks = recorded_tasks(buffer)
    assert len(tasks) == 2 + 2 + 2
    assert all(map(has_both, tasks))


def test_iterations_of_lightweight_loops_have_no_readings(buffer: Path) -> None:
    record(buffer, instrumentation={"torch": {"epoch_loop": "lightweight", "batch_loop": "lightweight"}})
    for _ in flowprov.EpochLoop(1):
        for _ in flowprov.BatchLoop(2):
            flowprov.task(len)("abc")
    tasks = recorded_tasks(buffer)
    iterations = [task for task in tasks if task.subtype == "iteration"]
    assert len(iterations) == 3
    assert all(map(has_none, iterations))
    assert all(has_both(task) for task in tasks if task not in iterations)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("lightweight", False),
        ("tensor_inspection", False),
        ("telemetry", True),
        ("telemetry_and_tensor_inspection", True),
    ],
)
def test_child_forwards_have_readings_if_their_mode_includes_telemetry(
    buffer: Path, mode: str, *, expected: bool
) -> None:
    record(buffer, instrumentation={"torch": {"what": "parent_and_children", "children_mode": mode}})
    model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))
    model(torch.ones(1, 3))
    tasks = recorded_tasks(buffer)
    parent = only([task for task in tasks if task.subtype == "parent_forward"])
    children = [task for task in tasks if task.subtype == "child_forward"]
    assert has_both(parent)
    assert len(children) == 2
    assert all(map(has_both if expected else has_none, children))


def test_backward_passes_and_optimizer_steps_have_readings(buffer: Path) -> None:
    record(buffer, instrumentation={"torch": {"backward": True, "optimizer": "steps"}})
    with flowprov.workflow("W"):
        model = flowprov.torch_capture(torch.nn.Linear(3, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    tasks = recorded_tasks(buffer)
    assert {task.subtype for task in tasks} >= {"parent_forward", "backward", "optimizer_step"}
    assert all(map(has_both, tasks))


def test_an_open_task_has_the_reading_at_its_start(buffer: Path) -> None:
    record(buffer)
    with flowprov.task_scope("long"):
        only(runtime.get().journals()).write_heartbeat()
    opened = only(of_type(lines(buffer), OpenTask))
    assert opened.telemetry_at_start is not None


def test_without_the_exact_mode_no_task_record_has_a_reading(buffer: Path) -> None:
    record(buffer, telemetry_capture={**EXACT, "mode": "sampled"})
    flowprov.task(len)("abc")
    task = only(recorded_tasks(buffer))
    assert task.telemetry_at_start is None
    assert task.telemetry is None


def test_a_reading_that_cannot_be_encoded_does_not_cost_the_record(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(buffer)
    sampler = runtime.get().sampler
    assert sampler is not None

    class UnencodableProbe:
        kind = "unencodable"

        def read(self) -> dict[str, Any]:
            return {"x": object()}

        def close(self) -> None:
            pass

    sampler._probes.append(UnencodableProbe())
    flowprov.task(len)("abc")
    sampler._probes.pop()
    assert only(recorded_tasks(buffer)).generated == {"result": 3}
    assert "a fault of its own while reading telemetry" in caplog.text


def test_several_threads_can_take_readings_at_the_same_time(buffer: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    record(buffer)
    with flowprov.workflow("W"), ThreadPoolExecutor(4) as pool:
        step = flowprov.task(time.sleep)
        list(pool.map(flowprov.bind(step), [0.001] * 40))
    tasks = recorded_tasks(buffer)
    assert len(tasks) == 40
    assert all(map(has_both, tasks))
