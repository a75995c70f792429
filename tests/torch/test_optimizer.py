"""Steps of optimizers: one record each, and the same parameters as without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import records
from flowprov.capture.torch import async_values
from flowprov.capture.torch import optimizer as optimizer_module
from flowprov.runtime import runtime
from tests.support import only, tasks
from tests.torch.support import Plain, batch, open_scopes


def configure(folder: Path, setting: str | None) -> Path:
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": {"optimizer": setting}})
    return folder


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer folder, with steps and the norm of gradients."""
    return configure(tmp_path / "buffer", "steps_and_gradient_norm")


def build_model() -> Plain:
    """Create a model whose parameters are the same each time."""
    model = Plain()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    return model


def norm_of(model: torch.nn.Module) -> float:
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def steps(folder: Path) -> list[records.Task]:
    return [task for task in tasks(folder) if task.subtype == "optimizer_step"]


def backward(model: torch.nn.Module, x: torch.Tensor | None = None) -> None:
    y: Any = model(batch() if x is None else x)
    y.square().sum().backward()


def used(task: records.Task) -> dict[str, Any]:
    assert task.used is not None
    return task.used


class Failing(torch.optim.SGD):
    """An optimizer whose step may raise."""

    error: BaseException | None = None

    def step(self, closure: Any = None) -> Any:
        """Run the step of the base class, for which torch calls its hooks too."""
        if self.error is not None:
            raise self.error
        return super().step(closure)


def test_a_step_is_one_record_in_its_iteration(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    groups: list[dict[str, Any]] = [
        {"params": [model.linear.weight], "lr": 0.5},
        {"params": [model.linear.bias]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.25)
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(2):
            optimizer.zero_grad()
            backward(model)
            norm = norm_of(model)
            optimizer.step()
    first, second = steps(buffer)
    iterations = [task.task_id for task in tasks(buffer) if task.subtype == "iteration"]
    assert [first.parent_task_id, second.parent_task_id] == iterations
    assert (first.activity_id, first.status, first.error) == ("SGD", "FINISHED", None)
    assert (used(first)["param_groups"], used(first)["lr"]) == (2, [0.5, 0.25])
    assert "loss_scale" not in used(first)
    assert used(second)["gradient_norm"] == pytest.approx(norm)
    assert first.started_at is not None
    assert first.ended_at is not None
    assert first.started_at <= first.ended_at


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_parameters_and_state_are_the_same(tmp_path: Path, make: Any) -> None:
    def train(model: torch.nn.Module) -> tuple[list[torch.Tensor], Any]:
        optimizer = make(model.parameters(), lr=0.01)
        torch.manual_seed(0)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model, torch.randn(4, 3))
            optimizer.step()
        return list(model.parameters()), optimizer.state_dict()["state"]

    expected, expected_state = train(build_model())

    buffer = configure(tmp_path / "buffer", "steps_and_gradient_norm")
    found, found_state = train(flowprov.torch_capture(build_model()))
    assert all(torch.equal(*each) for each in zip(expected, found, strict=True))
    for key, kept in expected_state.items():
        for name, value in kept.items():
            assert value is found_state[key][name] is None or torch.equal(value, found_state[key][name])
    assert len(steps(buffer)) == 3


def test_the_norm_is_only_computed_where_it_is_asked_for(tmp_path: Path) -> None:
    for number, setting in enumerate(["steps", None]):
        folder = configure(tmp_path / str(number), setting)
        with flowprov.workflow("W"):
            model = flowprov.torch_capture(build_model())
            backward(model)
            torch.optim.SGD(model.parameters(), lr=1.0).step()
        found = steps(folder)
        assert [used(each) for each in found] == ([{"param_groups": 1, "lr": [1.0]}] if setting else [])


def test_closures_belong_to_the_same_iteration(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(batch()).square().sum()
        loss.backward()
        return loss

    with flowprov.workflow("W"), flowprov.task_scope("train"):
        step_with: Any = optimizer.step
        step_with(closure)
    *_, step, train = tasks(buffer)
    assert (step.activity_id, step.status) == ("LBFGS", "FINISHED")
    assert {task.parent_task_id for task in tasks(buffer)} == {train.task_id, None}


def test_a_step_that_calls_the_step_of_its_base_class_is_one_step(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    backward(model)
    torch.optim.SGD(model.parameters(), lr=1.0)  # from now on torch has its hooks on the base class too
    Failing(model.parameters(), lr=1.0).step()
    assert [each.activity_id for each in steps(buffer)] == ["Failing"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_step_that_raises_is_closed_by_the_scope_around_it(buffer: Path, error: BaseException) -> None:
    model = flowprov.torch_capture(build_model())
    backward(model)
    optimizer = Failing(model.parameters(), lr=1.0)
    optimizer.error = error
    with pytest.raises(type(error)), flowprov.workflow("W"), flowprov.task_scope("train"):
        optimizer.step()
    step = only(steps(buffer))
    assert step.status == "ERROR"
    assert step.error.type == type(error).__name__


def test_a_step_that_raised_is_closed_by_the_next_one(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    backward(model)
    optimizer = Failing(model.parameters(), lr=1.0)
    with flowprov.workflow("W"):
        optimizer.error = ValueError("broken")
        with pytest.raises(ValueError, match="broken"):
            optimizer.step()
        optimizer.error = None
        optimizer.step()
        assert open_scopes() == 0
        assert [each.status for each in steps(buffer)] == ["ERROR", "FINISHED"]


def test_the_scale_of_the_loss_is_recorded_and_a_skipped_step_is_not(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # which wraps the step
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with flowprov.workflow("W"):
        for factor in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            loss: Any = scaler.scale((model.linear.weight * factor).sum())
            loss.backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
    assert [used(each)["loss_scale"] for each in steps(buffer)] == [8.0, 4.0]


def test_the_norm_is_of_unscaled_gradients_where_the_optimizer_unscales_them(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    backward(model)
    plain = norm_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    optimizer.zero_grad()
    loss: Any = scaler.scale(model(batch()).square().sum())
    loss.backward()
    scaler.step(optimizer)
    assert used(only(steps(buffer)))["gradient_norm"] == pytest.approx(plain)


def test_gradients_that_have_no_common_norm_are_left_out(buffer: Path) -> None:
    model = flowprov.torch_capture(torch.nn.Embedding(4, 2, sparse=True))
    model(torch.tensor([1])).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert "gradient_norm" not in used(only(steps(buffer)))


def test_numbers_that_a_device_computes_follow_as_a_correction(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [False]

    def start_copy(numbers: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
        return numbers.clone(), lambda: done[0]

    monkeypatch.setattr(optimizer_module, "is_on_host", lambda _: False)
    monkeypatch.setattr(async_values, "start_copy", start_copy)
    model = flowprov.torch_capture(build_model())
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.5), capturable=False, foreach=False)
    with flowprov.workflow("W"), flowprov.task_scope("train"):
        backward(model)
        optimizer.step()
        assert (used(steps(buffer)[0])["lr"], used(steps(buffer)[0])["gradient_norm"]) == ([None], None)
        done[0] = True
    rows = flowprov.read_buffer(buffer, return_df=False)
    row = next(row for row in rows if row["subtype"] == "optimizer_step")
    assert (row["used"]["lr"], row["status"]) == ([0.5], "FINISHED")
    assert row["used"]["gradient_norm"] > 0


def test_an_internal_error_does_not_prevent_a_step(buffer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    model = flowprov.torch_capture(build_model())
    backward(model)
    before = model.linear.weight.clone()
    with monkeypatch.context() as patched:
        patched.setattr(optimizer_module, "_loss_scale", broken)
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(before, model.linear.weight)
    assert steps(buffer) == []
    faults = flowprov.guard.internal_errors()
    assert list(faults) == ["recording the start of a step of an optimizer: ZeroDivisionError"]
    flowprov.guard.reset()


def test_steps_are_counted_as_every_event(buffer: Path) -> None:
    model = flowprov.torch_capture(build_model())
    backward(model)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    captured, written, dropped = only(runtime.get().journals()).counts()
    assert (captured, dropped) == (written, {})
