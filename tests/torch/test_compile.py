"""Compiled models: each forward is recorded once, around the graph, which is that of the plain model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import flowprov
from tests.support import only, run
from tests.torch.compiling import Compile, anew, both, capture, in_place, twins
from tests.torch.support import Net, Plain, batch, children, forwards, metadata, paths
from tests.torch.test_children import FIRST, SECOND, Deep, Holds

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@both
@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_each_call_is_recorded_as_a_forward_of_the_original(
    buffer: Path,
    compile_model: Compile,
    called_before: bool,  # noqa: FBT001 - a parameter
    fullgraph: bool,  # noqa: FBT001 - a parameter
) -> None:
    model = Net()
    with flowprov.workflow("W"):
        if called_before:
            model(batch())
        compiled = compile_model(model, fullgraph=fullgraph)
        for _ in range(3):
            compiled(batch())
    found = forwards(buffer)
    assert len(found) == 3 + called_before
    assert {task.activity_id for task in found} == {"Net"}
    assert {metadata(task)["module_path"] for task in found} == {""}
    assert {tuple((task.used or {})["x"]["shape"]) for task in found} == {(4, 3)}
    assert {tuple((task.generated or {})["output"]["shape"]) for task in found} == {(4, 2)}
    assert all("children_not_recorded" not in metadata(task) for task in found)


@both
def test_there_are_as_many_graphs_as_for_the_plain_model(buffer: Path, compile_model: Compile) -> None:
    def measure(model: torch.nn.Module) -> tuple[int, int, list[torch.Tensor]]:
        torch._dynamo.reset()
        counters.clear()
        graphs = []

        def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
            graphs.append(graph.code)
            return graph

        compiled = compile_model(model, backend=keep)
        outputs = [compiled(batch(rows)) for rows in (4, 5, 6, 7)]
        return len(graphs), sum(counters["graph_break"].values()), outputs

    plain, captured = twins(Deep)
    expected = measure(plain)
    with flowprov.workflow("W"):
        found = measure(capture(captured))
    assert found[:2] == expected[:2] == (2, 0)  # one for four rows, one for any number of rows
    assert all(torch.equal(one, other) for one, other in zip(found[2], expected[2], strict=True))
    assert len(forwards(buffer)) == 4


@both
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.soak,  # it compiles for a minute
                pytest.mark.skipif(
                    not any(map(shutil.which, ("c++", "g++", "clang++"))),
                    reason="there is no C++ compiler here",
                ),
            ],
        ),
    ],
)
def test_outputs_and_gradients_are_those_of_the_plain_compiled_model(
    buffer: Path, compile_model: Compile, backend: str
) -> None:
    def train(model: torch.nn.Module) -> list[torch.Tensor]:
        torch._dynamo.reset()
        compiled = compile_model(model, backend=backend, fullgraph=True)
        outputs = []
        for _ in range(2):
            output = compiled(batch())
            output.square().sum().backward()
            outputs.append(output.detach())
        return [*outputs, *(each.grad for each in model.parameters() if each.grad is not None)]

    plain, captured = twins(Deep)
    expected = train(plain)
    with flowprov.workflow("W"):
        found = train(capture(captured))
    assert len(found) == len(expected) == 8
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(forwards(buffer)) == 2


@both
@pytest.mark.parametrize("called_before", [False, True])
def test_children_in_the_graph_are_not_recorded_and_the_parent_says_why(
    buffer: Path,
    compile_model: Compile,
    called_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    model = capture(Holds(torch.nn.Linear(3, 3)))
    with flowprov.workflow("W"):
        if called_before:
            model(batch())
        compile_model(model, fullgraph=True)(batch())
    assert paths(children(buffer)) == ["part"] * called_before
    *plain, compiled = forwards(buffer)
    assert metadata(compiled)["children_not_recorded"] == "the module was called through torch.compile"
    assert all("children_not_recorded" not in metadata(task) for task in plain)


@pytest.mark.parametrize("called_before", [False, True])
def test_regions_compiled_in_place_are_children(buffer: Path, called_before: bool) -> None:  # noqa: FBT001
    model = capture(Deep())
    with flowprov.workflow("W"):
        if called_before:
            model(batch())
        for block in model.blocks:
            in_place(block, fullgraph=True)
        model(batch())
    assert paths(children(buffer))[-3:] == ["blocks.0", "blocks.1", "head"]
    assert len(children(buffer)) == 3 + 7 * called_before
    first, second, head = children(buffer)[-3:]
    assert first.activity_id == second.activity_id == "Block"
    assert "children_not_recorded" in metadata(first)
    assert "children_not_recorded" not in metadata(head)
    assert "children_not_recorded" not in metadata(forwards(buffer)[-1])
    assert first.parent_task_id == forwards(buffer)[-1].task_id


@pytest.mark.parametrize("called_before", [False, True])
def test_a_region_replaced_by_its_compiled_form_is_a_child_under_its_own_name(
    buffer: Path,
    called_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    model = capture(Deep())
    with flowprov.workflow("W"):
        if called_before:
            model(batch())
        model.blocks[0] = anew(model.blocks[0], fullgraph=True)
        model(batch())
        model(batch())
    expected = ["blocks.0", *SECOND, "head"]
    before = [*FIRST, *SECOND, "head"] if called_before else []
    assert paths(children(buffer)) == [*before, *expected, *expected]
    compiled = children(buffer)[len(before)]
    assert compiled.activity_id == "Block"
    assert "children_not_recorded" in metadata(compiled)
    assert "input" in (children(buffer)[-1].used or {})


@both
def test_compiled_regions_in_a_compiled_model_are_in_its_graph(buffer: Path, compile_model: Compile) -> None:
    model = capture(Deep())
    in_place(model.blocks[0])
    model.blocks[1] = anew(model.blocks[1])
    with flowprov.workflow("W"):
        compiled = compile_model(model, fullgraph=True)
        compiled(batch())
        compiled(batch())
    assert children(buffer) == []
    assert len(forwards(buffer)) == 2


@both
@pytest.mark.parametrize("called_before", [False, True])
def test_a_model_that_was_compiled_before_can_be_captured(
    buffer: Path,
    compile_model: Compile,
    called_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    compiled = compile_model(Plain(), fullgraph=True)
    if called_before:
        compiled(batch())
    assert flowprov.torch_capture(compiled) is compiled
    with flowprov.workflow("W"):
        compiled(batch())
    assert only(forwards(buffer)).activity_id == "Plain"


def test_a_model_that_was_compiled_before_flowprov_was_imported_is_recorded(tmp_path: Path) -> None:
    run(
        """
        import torch
        plain, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        compiled = torch.compile(plain, backend="eager")
        compiled(torch.ones(4, 3))
        import flowprov
        flowprov.configure(journal={"path": "there"})
        flowprov.torch_capture(plain)
        later = torch.compile(other, backend="eager")
        flowprov.torch_capture(other)
        with flowprov.workflow("W"):
            compiled(torch.ones(4, 3))
            later(torch.ones(4, 3))
        """,
        tmp_path,
    )
    assert len(forwards(tmp_path / "there")) == 2


def test_nothing_of_the_compiler_is_imported_or_wrapped_before_it_is_used(tmp_path: Path) -> None:
    run(
        """
        import inspect, sys, torch, flowprov
        flowprov.configure(journal={"path": "there"})
        compiler, method, finders = "torch._dynamo.eval_frame", torch.nn.Module.compile, list(sys.meta_path)
        flowprov.torch_capture
        assert torch.nn.Module.compile is method and sys.meta_path == finders
        model = flowprov.torch_capture(torch.nn.Linear(3, 2))
        flowprov.torch_capture(torch.nn.Linear(3, 2))
        assert compiler not in sys.modules and len(sys.meta_path) == len(finders) + 1
        assert inspect.signature(torch.nn.Module.compile) == inspect.signature(method)
        compiled = torch.compile(model, backend="eager")
        assert sys.meta_path == finders
        eval_frame = sys.modules[compiler]
        assert inspect.getsource(eval_frame) and "exec_module" not in vars(eval_frame.__loader__)
        assert list(inspect.signature(eval_frame.OptimizedModule).parameters) == ["mod", "dynamo_ctx"]
        with flowprov.workflow("W"):
            compiled(torch.ones(4, 3))
        """,
        tmp_path,
    )
    assert len(forwards(tmp_path / "there")) == 1


def test_where_capture_is_off_torch_stays_as_it_is(tmp_path: Path) -> None:
    run(
        """
        import sys, torch, flowprov
        method, finders = torch.nn.Module.compile, list(sys.meta_path)
        model = flowprov.torch_capture(torch.nn.Linear(3, 2))
        model.compile(backend="eager")
        assert torch.nn.Module.compile is method and sys.meta_path == finders
        """,
        tmp_path,
        env={"FLOWPROV_DISABLED": "1"},
    )
