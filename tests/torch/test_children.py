"""The forwards of child modules: which are recorded, where they belong, and what is kept of their tensors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import flowprov
from flowprov import records
from tests.support import only
from tests.torch.support import (
    Calls,
    Plain,
    batch,
    children,
    forwards,
    hooks,
    metadata,
    paths,
    summary,
)


class Block(torch.nn.Module):
    """A module with children."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.activation = torch.nn.ReLU()

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.activation(self.first(x))


class Deep(torch.nn.Module):
    """A model of three levels."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Holds(torch.nn.Module):
    """A model with one child."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.part(x)


FIRST = ["blocks.0.first", "blocks.0.activation", "blocks.0"]
SECOND = ["blocks.1.first", "blocks.1.activation", "blocks.1"]
ALL = [*FIRST, *SECOND, "head"]


def capture(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
    return flowprov.torch_capture(model, what="parent_and_children", **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["head"]),
        ({"depth": 2}, ["blocks.0", "blocks.1", "head"]),
        ({"depth": 3}, ALL),
        ({"depth": "all"}, ALL),
        ({"depth": "all", "include": ["blocks.*.first"]}, ["blocks.0.first", "blocks.1.first"]),
        ({"depth": "all", "include": ["blocks.1*", "head"]}, [*SECOND, "head"]),
        ({"depth": "all", "exclude": ["blocks.*"]}, ["head"]),
        ({"depth": 2, "include": ["blocks.*"], "exclude": ["*.0"]}, ["blocks.1"]),
    ],
)
def test_depth_and_patterns_choose_the_modules(
    buffer: Path, options: dict[str, Any], expected: list[str]
) -> None:
    with flowprov.workflow("W"):
        capture(Deep(), **options)(batch())
    assert paths(children(buffer)) == expected
    assert len(forwards(buffer)) == 1


def test_the_settings_choose_where_the_arguments_do_not(tmp_path: Path) -> None:
    chosen = {"what": "parent_and_children", "depth": "all", "exclude": ["*activation"]}
    flowprov.configure(journal={"path": str(tmp_path / "b")}, instrumentation={"torch": chosen})
    with flowprov.workflow("W"):
        flowprov.torch_capture(Deep(), exclude=[])(batch())
        flowprov.torch_capture(Deep(), depth=1)(batch())
    assert paths(children(tmp_path / "b")) == [*ALL, "head"]


def test_each_forward_belongs_to_the_enclosing_one(buffer: Path) -> None:
    with flowprov.workflow("W"):
        capture(Deep(), depth="all")(batch())
    parent = only(forwards(buffer))
    found = {metadata(task)["module_path"]: task for task in children(buffer)}
    assert found["blocks.0.first"].parent_task_id == found["blocks.0"].task_id
    assert found["blocks.0"].parent_task_id == found["head"].parent_task_id == parent.task_id
    assert {task.workflow_id for task in found.values()} == {parent.workflow_id}
    assert found["blocks.1.activation"].activity_id == "ReLU"
    times = [found[path] for path in ("blocks.0", "blocks.0.first", "blocks.1")]
    outer, inner, later = ((task.started_at or 0, task.ended_at or 0) for task in times)
    assert parent.started_at <= outer[0] <= inner[0] <= inner[1] <= outer[1] <= later[0] <= parent.ended_at


def test_inputs_and_outputs_are_recorded_in_every_mode(buffer: Path) -> None:
    modes = ["lightweight", "tensor_inspection", "telemetry", "telemetry_and_tensor_inspection"]
    with flowprov.workflow("W"):
        for mode in modes:
            capture(Plain(), children_mode=mode)(batch())
    for mode, task in zip(modes, children(buffer), strict=True):
        used, generated = task.used or {}, task.generated or {}
        assert (used["input"]["shape"], generated["output"]["shape"]) == ([4, 3], [4, 2])
        assert ("layout" in used["input"]) == ("inspection" in mode)


def test_a_warning_names_a_pattern_that_fits_nothing_and_its_mend(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with flowprov.workflow("W"):
        capture(Deep(), include=["blocks.*.first"])(batch())
        capture(Deep(), include=["nothing"])(batch())
    assert 'blocks.0.first does, below depth 1: give depth="all"' in caplog.text
    assert "named_modules()" in caplog.text
    assert children(buffer) == []


def test_a_child_that_raises_is_recorded_and_the_exception_passes(buffer: Path) -> None:
    model = capture(Deep(), depth="all")
    with flowprov.workflow("W"), pytest.raises(RuntimeError, match="shapes"):
        model(torch.ones(4, 5))
    assert paths(children(buffer)) == ["blocks.0.first", "blocks.0"]
    assert {task.status for task in children(buffer)} == {records.Status.ERROR}


def test_a_forward_that_ran_out_of_memory_is_marked(buffer: Path) -> None:
    def grow(_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with flowprov.workflow("W"), pytest.raises(torch.OutOfMemoryError):
        capture(Holds(Calls(grow)))(batch())
    for task in (only(children(buffer)), only(forwards(buffer))):
        assert metadata(task)["out_of_memory"] is True


def test_a_module_shared_by_two_models_is_recorded_by_the_one_that_calls_it(buffer: Path) -> None:
    part = torch.nn.Linear(3, 3)
    first, second = (capture(Holds(part), name=name) for name in ("First", "Second"))
    with flowprov.workflow("W"):
        first(batch())
        second(batch())
        first(batch())
        part(batch())
    found = forwards(buffer)
    assert [task.activity_id for task in found] == ["First", "Second", "First"]
    assert [task.parent_task_id for task in children(buffer)] == [*(task.task_id for task in found), None]


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_captured_model_in_a_captured_model_is_recorded_once(buffer: Path, inner_first: bool) -> None:  # noqa: FBT001
    inner = Holds(torch.nn.Linear(3, 3))
    outer = Holds(inner)
    for model in (inner, outer) if inner_first else (outer, inner):
        capture(model, depth="all", name="Inner" if model is inner else "Outer")
    with flowprov.workflow("W"):
        outer(batch())
    assert paths(children(buffer)) == ["part"]
    assert [task.activity_id for task in forwards(buffer)] == ["Inner", "Outer"]


def test_a_child_that_becomes_a_captured_model_is_no_child_any_more(buffer: Path) -> None:
    inner = Holds(torch.nn.Linear(3, 3))
    outer = capture(Holds(inner), depth="all")
    with flowprov.workflow("W"):
        outer(batch())
        assert paths(children(buffer)) == ["part.part", "part"]
        capture(inner, depth="all")
        outer(batch())
    assert paths(children(buffer)) == ["part.part", "part", "part"]
    assert len(forwards(buffer)) == 3


def test_children_that_are_put_in_before_the_first_forward_are_recorded(buffer: Path) -> None:
    model = capture(Holds(torch.nn.Linear(3, 3)))
    model.part = torch.nn.Identity()
    with flowprov.workflow("W"):
        model(batch())
    assert only(children(buffer)).activity_id == "Identity"


def test_release_takes_the_hooks_off_all_children(buffer: Path) -> None:
    shared = torch.nn.Linear(3, 3)
    model, other = capture(Holds(shared)), capture(Holds(shared))
    with flowprov.workflow("W"):
        model(batch())
        other(batch())
        flowprov.torch_release(model)
        assert [hooks(part) for part in model.modules()] == [0, 2]
        model(batch())
        other(batch())
    assert [len(forwards(buffer)), len(children(buffer))] == [3, 4]
    flowprov.torch_release(other)
    assert [hooks(part) for part in other.modules()] == [0, 0]


def test_subclasses_of_decorated_classes_record_children_once(buffer: Path) -> None:
    decorate = flowprov.torch_capture(what="parent_and_children", depth="all")

    @decorate
    class Base(Deep):
        pass

    @decorate
    class Derived(Base):
        pass

    with flowprov.workflow("W"):
        Derived()(batch())
    assert paths(children(buffer)) == ALL


def test_threads_that_run_the_first_forward_together_put_hooks_on_once(buffer: Path) -> None:
    model = capture(Deep(), depth="all")
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(5):
            model(batch())

    with flowprov.workflow("W"):
        threads = [threading.Thread(target=flowprov.bind(work)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {hooks(part) for part in model.modules() if not isinstance(part, torch.nn.ModuleList)} == {2}
    assert len(forwards(buffer)) == 20
    assert len(children(buffer)) == 20 * len(ALL)


def test_a_thinned_epoch_thins_the_children_too(tmp_path: Path) -> None:
    chosen = {"what": "parent_and_children", "depth": "all", "capture_epochs_at_every": 2}
    flowprov.configure(journal={"path": str(tmp_path / "b")}, instrumentation={"torch": chosen})
    model = flowprov.torch_capture(Deep())
    with flowprov.workflow("W"):
        for _ in flowprov.EpochLoop(4, model):
            model(batch())
    assert len(forwards(tmp_path / "b")) == 2
    assert len(children(tmp_path / "b")) == 2 * len(ALL)


def test_training_gradients_and_autocast_are_recorded(buffer: Path) -> None:
    model = capture(Holds(torch.nn.Linear(3, 3)))
    with flowprov.workflow("W"):
        model(batch())
        model.eval()
        with torch.no_grad():
            model(batch())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(batch())
    modes = [metadata(task) for task in children(buffer)]
    assert [each["is_training"] for each in modes] == [True, False, False]
    assert [each["grad_enabled"] for each in modes] == [True, False, True]
    assert [each.get("autocast_dtype") for each in modes] == [None, None, "bfloat16"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_forwards_that_checkpointing_computes_again_are_flagged(buffer: Path, reentrant: bool) -> None:  # noqa: FBT001
    class Checkpointed(Holds):
        def forward(self, x: torch.Tensor) -> Any:
            return checkpoint(self.part, x, use_reentrant=reentrant)

    model = capture(Checkpointed(torch.nn.Linear(3, 3)))
    with flowprov.workflow("W"):
        model(batch().requires_grad_()).sum().backward()
    assert [metadata(task).get("recomputed") for task in children(buffer)] == [None, True]
    # Once it has what it needs, checkpointing leaves the forward by an exception of its own: no failure.
    stopped = None if reentrant else True
    assert [metadata(task).get("stopped_early") for task in children(buffer)] == [None, stopped]
    assert {task.status for task in children(buffer)} == {records.Status.FINISHED}


def test_hooks_that_were_copied_to_another_module_without_their_keywords_do_no_harm(buffer: Path) -> None:
    model, other = flowprov.torch_capture(Plain()), Plain()
    for pre_hook in model._forward_pre_hooks.values():
        other.register_forward_pre_hook(pre_hook)
    for hook in model._forward_hooks.values():
        other.register_forward_hook(hook)
    assert torch.equal(other(batch()), other.linear(batch()).relu())
    assert [task.generated for task in forwards(buffer)] == [{"output": summary(4, 2)}]
