"""Backward passes: one record each, linked to the forward, and the same gradients as without."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import flowprov
from flowprov import guard, records
from flowprov.capture.torch import backward as backward_module
from flowprov.runtime import context
from tests.support import only, tasks
from tests.torch.support import Calls, Plain, batch, forwards, hooks, metadata, open_scopes


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer folder, with backward passes."""
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": {"backward": True}})
    return folder


def backwards(folder: Path) -> list[records.Task]:
    return [task for task in tasks(folder) if task.subtype == "backward"]


def loss_of(model: Callable[..., Any], x: torch.Tensor | None = None) -> Any:
    return model(batch() if x is None else x).square().sum()


class Broken(torch.autograd.Function):
    """A function whose backward raises."""

    @staticmethod
    def forward(_context: Any, x: torch.Tensor) -> torch.Tensor:
        """Return it."""
        return x.clone()

    @staticmethod
    def backward(_context: Any, _gradient: torch.Tensor) -> Any:
        """Raise."""
        raise ValueError("no gradient")


class Breaks(torch.nn.Module):
    """A model whose backward raises."""

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return Broken.apply(x) * 2  # type: ignore[no-untyped-call]


def test_a_backward_is_one_record_in_its_iteration(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(2):
            loss_of(model).backward()
    first, second = backwards(buffer)
    iterations = [task.task_id for task in tasks(buffer) if task.subtype == "iteration"]
    assert [first.parent_task_id, second.parent_task_id] == iterations
    assert (first.activity_id, first.status, first.error) == ("Plain_backward", "FINISHED", None)
    assert [task.used for task in (first, second)] == [{"forward": each.task_id} for each in forwards(buffer)]
    assert first.workflow_id == forwards(buffer)[0].workflow_id
    assert metadata(first) == {"create_graph": False}
    assert first.started_at is not None
    assert first.ended_at is not None
    assert (forwards(buffer)[0].ended_at or 0) <= first.started_at <= first.ended_at


def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    flowprov.configure(journal={"path": str(tmp_path / "b")})
    model = flowprov.torch_capture(Plain())
    loss_of(model).backward()
    assert backwards(tmp_path / "b") == []
    assert hooks(model) == 2


def test_gradients_are_the_same(buffer: Path) -> None:
    def train(model: torch.nn.Module) -> list[torch.Tensor]:
        torch.manual_seed(2)
        x = torch.randn(5, 3, requires_grad=True)
        y = model(x)
        y += 1  # in place, which full backward hooks forbid
        y.square().sum().backward()
        return [each.grad for each in (x, *model.parameters()) if each.grad is not None]

    plain, captured = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    captured.load_state_dict(plain.state_dict())
    expected, found = train(plain), train(flowprov.torch_capture(captured))
    assert len(expected) == 3
    assert all(torch.equal(*each) for each in zip(expected, found, strict=True))
    assert len(backwards(buffer)) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, y * 2, None),
        lambda y: {"loss": y, "hidden": [y * 2, (y * 3,)]},
        lambda y: [y.split(1)],
    ],
    ids=["tuple", "dict", "views"],
)
def test_outputs_of_every_form_give_one_backward(buffer: Path, wrap: Any) -> None:
    model = flowprov.torch_capture(Calls(lambda x: wrap(x * 2)))
    x = batch().requires_grad_()
    output = model(x)
    found = backward_module._tensors_in(output, 0)
    total: Any = sum(each.sum() for each in found)
    total.backward()
    assert len(backwards(buffer)) == 1
    assert x.grad is not None


def test_each_backward_through_a_kept_graph_is_a_record(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    loss = loss_of(model)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    torch.autograd.grad(loss, list(model.parameters()))
    assert len(backwards(buffer)) == 3
    assert len({str(task.used) for task in backwards(buffer)}) == 1


def test_a_backward_that_never_comes_leaves_nothing(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        loss_of(model)
        with torch.no_grad():
            loss_of(model)
        assert open_scopes() == 0
    assert backwards(buffer) == []


def test_a_double_backward_is_recorded_with_create_graph(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    x = batch().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    assert metadata(only(backwards(buffer))) == {"create_graph": True}
    penalty: Any = gradient.square().sum()
    penalty.backward()
    assert {task.status for task in backwards(buffer)} == {"FINISHED"}


def test_a_backward_that_raises_is_closed_by_the_scope_around_it(buffer: Path) -> None:
    model = flowprov.torch_capture(Breaks())
    with (
        pytest.raises(ValueError, match="no gradient"),
        flowprov.workflow("W"),
        flowprov.task_scope("train"),
    ):
        loss_of(model, batch().requires_grad_()).backward()
    found, train = only(backwards(buffer)), only([t for t in tasks(buffer) if t.activity_id == "train"])
    assert (found.status, found.parent_task_id) == ("ERROR", train.task_id)
    assert found.error.type == "ValueError"
    assert context.current.get() is None


def test_later_backwards_are_recorded_after_one_that_raised(buffer: Path) -> None:
    broken, sound = flowprov.torch_capture(Breaks()), flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(2):
            with pytest.raises(ValueError, match="no gradient"):
                loss_of(broken, batch().requires_grad_()).backward()
            loss_of(sound).backward()
    found = [(task.activity_id, task.status) for task in backwards(buffer)]
    assert sorted(found) == [("Breaks_backward", "ERROR")] * 2 + [("Plain_backward", "FINISHED")] * 2
    assert [task.status for task in tasks(buffer) if task.subtype == "iteration"] == ["FINISHED"] * 2


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputed_forward_is_no_new_backward(buffer: Path, reentrant: bool) -> None:  # noqa: FBT001
    part = torch.nn.Linear(3, 3)
    model = flowprov.torch_capture(Calls(lambda x: checkpoint(part, x, use_reentrant=reentrant)))
    inner = flowprov.torch_capture(part)
    loss_of(model, batch().requires_grad_()).backward()
    names = [task.activity_id for task in backwards(buffer)]
    assert names.count("Calls_backward") == 1
    assert len(names) == (1 if reentrant else 2)
    assert inner.weight.grad is not None


def test_a_backward_in_another_thread_belongs_to_the_workflow(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"), flowprov.task_scope("train"):
        loss = loss_of(model)
        worker = threading.Thread(target=loss.backward, name="worker")
        worker.start()
        worker.join()
    assert only(backwards(buffer)).parent_task_id is None


def in_a_thread_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a prehook believe that autograd runs it in a thread of its own, where it has no calling frame."""

    class NoCaller:
        f_back = None

    original = backward_module._get_frame
    monkeypatch.setattr(
        backward_module, "_get_frame", lambda depth: NoCaller if depth == 0 else original(depth + 1)
    )


def test_a_backward_in_a_thread_of_autograd_belongs_to_the_scope_that_called_it(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_thread_of_autograd(monkeypatch)
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        with flowprov.task_scope("first"):
            loss = loss_of(model)
        with flowprov.task_scope("second"):
            loss.backward()
    second = only([task for task in tasks(buffer) if task.activity_id == "second"])
    assert only(backwards(buffer)).parent_task_id == second.task_id


def test_a_backward_whose_caller_is_unknown_belongs_to_the_scope_of_the_forward(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_thread_of_autograd(monkeypatch)
    monkeypatch.setattr(backward_module, "has_context_of_caller", lambda _: False)
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        with flowprov.task_scope("first"):
            loss = loss_of(model)
            loss.backward(retain_graph=True)
        loss.backward()
    first = only([task for task in tasks(buffer) if task.activity_id == "first"])
    assert [task.parent_task_id for task in backwards(buffer)] == [first.task_id, None]


def test_graphs_and_outputs_are_freed_as_before(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    broken = flowprov.torch_capture(Breaks())
    before = _scopes()  # of other tests
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(1):
            y, z = model(batch()), broken(batch().requires_grad_())
            gone = [weakref.ref(y), weakref.ref(z)]
            task = flowprov.current_task()
            assert task is not None
            task.set_generated(y=y, z=z)  # the scope refers to the graph
            y.sum().backward()
            with pytest.raises(ValueError, match="no gradient"):
                z.sum().backward()
            del y, z, task
        loss_of(model).backward()  # torch itself keeps the context in which the last one was asked for
        gc.collect()
        assert [each() for each in gone] == [None, None]
        assert _scopes() - before < 10


def _scopes() -> int:
    gc.collect()
    return sum(1 for each in gc.get_objects() if issubclass(type(each), context.Scope))


def test_a_model_is_freed_with_its_last_reference(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    loss_of(model).backward()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_release_takes_the_hook_off(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    assert hooks(model) == 3
    flowprov.torch_release(model)
    assert hooks(model) == 0


def test_a_compiled_model_goes_on_as_before(buffer: Path) -> None:
    plain, model = Plain(), Plain()
    model.load_state_dict(plain.state_dict())
    compiled = torch.compile(flowprov.torch_capture(model), backend="aot_eager", fullgraph=True)
    loss_of(plain).backward()
    with flowprov.workflow("W"):
        loss_of(compiled).backward()
    for left, right in zip(plain.parameters(), model.parameters(), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert torch.equal(left.grad, right.grad)


def test_an_internal_error_does_not_end_a_backward(buffer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    model = flowprov.torch_capture(Plain())
    for name in ("forward_opened_by", "DetachedScope"):
        with monkeypatch.context() as patched:
            patched.setattr(backward_module, name, broken)
            loss_of(model).backward()
    assert model.linear.weight.grad is not None
    assert backwards(buffer) == []
    assert set(guard.internal_errors()) == {
        "watching for the backward of a model: ZeroDivisionError",
        "recording the start of a backward: ZeroDivisionError",
    }
    guard.reset()
