"""Tools that move or remove one of the two hooks of capture leave no false errors and no wrong parents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.support import only, tasks
from tests.torch.support import Calls, Plain, batch, children, forwards, hooks, open_scopes, paths

_quantization: Any = torch.ao.quantization  # which torch leaves without types

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MOVED = "moved or removed one of the two hooks"


def convolutions() -> torch.nn.Sequential:
    """Return a model of modules that torch fuses."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()
    )


def image() -> torch.Tensor:
    return torch.ones(2, 3, 2, 2)


def fuse_three(model: torch.nn.Sequential) -> None:
    _quantization.fuse_modules(model.eval(), ["0", "1", "2"], inplace=True)


def fuse_two(model: torch.nn.Sequential) -> None:
    _quantization.fuse_modules(model.eval(), ["0", "1"], inplace=True)


def fuse_for_training(model: torch.nn.Sequential) -> None:
    _quantization.fuse_modules_qat(model.train(), ["0", "1", "2"], inplace=True)


def clear_hooks_after_forwards(model: torch.nn.Sequential) -> None:
    for module in model:
        module._forward_hooks.clear()


def move_hooks_before_forwards(model: torch.nn.Sequential) -> None:
    for hook in model[0]._forward_pre_hooks.values():
        model[3].register_forward_pre_hook(hook)
    model[0]._forward_pre_hooks.clear()


def move_hooks_after_forwards(model: torch.nn.Sequential) -> None:
    for hook in model[0]._forward_hooks.values():
        model[3].register_forward_hook(hook)
    model[0]._forward_hooks.clear()


def replace_dicts(model: torch.nn.Sequential) -> None:
    for module in model:
        module._forward_hooks = type(module._forward_hooks)()


TOOLS = [
    fuse_three,
    fuse_two,
    fuse_for_training,
    clear_hooks_after_forwards,
    move_hooks_before_forwards,
    move_hooks_after_forwards,
    replace_dicts,
]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_parted_hooks_record_nothing_wrong_and_a_warning_says_so(
    buffer: Path, caplog: pytest.LogCaptureFixture, tool: Callable[[torch.nn.Sequential], None]
) -> None:
    model = flowprov.torch_capture(convolutions(), what="parent_and_children")
    with flowprov.workflow("W"):
        with torch.no_grad():
            model.eval()(image())
        before = len(tasks(buffer))
        tool(model)
        for _ in range(2):
            with flowprov.task_scope("step"), torch.no_grad():
                model.eval()(image())
        assert open_scopes() == 0
    rows = tasks(buffer)[before:]
    assert {row.status for row in rows} == {"FINISHED"}
    steps = [row.task_id for row in rows if row.activity_id == "step"]
    roots = [row for row in rows if row.subtype == "parent_forward"]
    assert [row.parent_task_id for row in roots] == steps
    assert all(
        row.parent_task_id in {root.task_id for root in roots}
        for row in rows
        if row.subtype == "child_forward"
    )
    assert caplog.text.count(MOVED) == 1


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_what_was_parted_before_the_first_forward_is_hooked_anew(
    buffer: Path, tool: Callable[[torch.nn.Sequential], None]
) -> None:
    model = flowprov.torch_capture(convolutions(), what="parent_and_children")
    tool(model)
    with torch.no_grad():
        model.eval()(image())
        model(image())
    assert {row.status for row in tasks(buffer)} == {"FINISHED"}
    assert paths(children(buffer)) == ["0", "1", "2", "3"] * 2


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_model_with_parted_hooks_can_be_released_and_captured_again(
    buffer: Path, tool: Callable[[torch.nn.Sequential], None]
) -> None:
    model = flowprov.torch_capture(convolutions(), what="parent_and_children")
    tool(model)
    flowprov.torch_release(model)
    assert sum(hooks(module) for module in model.modules()) == 0
    flowprov.torch_capture(model, what="parent_and_children")
    with torch.no_grad():
        model.eval()(image())
    assert paths(children(buffer)) == ["0", "1", "2", "3"]
    assert only(forwards(buffer)).status == "FINISHED"


def test_a_model_whose_own_hooks_were_cleared_leaves_its_forwards_out(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inner = flowprov.torch_capture(Plain())
    outer = flowprov.torch_capture(Calls(inner))
    outer(batch())
    inner._forward_hooks.clear()
    outer(batch())
    assert [row.activity_id for row in forwards(buffer)] == ["Plain", "Calls", "Calls"]
    assert {row.status for row in forwards(buffer)} == {"FINISHED"}
    assert caplog.text.count(MOVED) == 1
    flowprov.torch_capture(inner)
    outer(batch())
    assert [row.activity_id for row in forwards(buffer)][3:] == ["Plain", "Calls"]


def test_hooks_that_moved_together_go_on_recording(buffer: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = flowprov.torch_capture(Plain())
    other = torch.nn.Linear(3, 2)
    other.register_forward_hook(lambda *_: None)
    for pre_hook in model._forward_pre_hooks.values():
        other.register_forward_pre_hook(pre_hook)
    for hook in model._forward_hooks.values():
        other.register_forward_hook(hook)
    other(batch())
    assert only(forwards(buffer)).status == "FINISHED"
    assert MOVED not in caplog.text


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_model_whose_hooks_were_cleared_is_recorded_by_those_of_the_original(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    compiled: Any = torch.compile(model, backend="eager")
    compiled(batch())
    compiled._forward_hooks.clear()
    compiled(batch())
    assert {row.status for row in tasks(buffer)} == {"FINISHED"}
    assert open_scopes() == 0


@pytest.mark.parametrize("first", ["A", "B"])
def test_a_module_in_two_models_is_recorded_in_the_one_that_was_called(buffer: Path, first: str) -> None:
    shared = torch.nn.Linear(3, 3)
    models = {
        name: flowprov.torch_capture(torch.nn.Sequential(shared), what="parent_and_children", name=name)
        for name in sorted("AB", reverse=first == "B")
    }
    for model in models.values():
        for _ in range(2):
            model(batch())
    rows = {row.task_id: row for row in tasks(buffer)}
    assert {row.status for row in rows.values()} == {"FINISHED"}
    names = [rows[str(row.parent_task_id)].activity_id for row in children(buffer)]
    assert names == [name for name in models for _ in range(2)]
