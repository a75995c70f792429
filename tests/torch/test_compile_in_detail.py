"""Compiled models with what is optional: statistics of tensors, and backward passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import flowprov
from tests.support import tasks
from tests.torch.compiling import Compile, both, twins
from tests.torch.support import Plain, batch, forwards

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture
def detailed(tmp_path: Path) -> Path:
    """A buffer folder, with statistics and backward passes."""
    folder = tmp_path / "buffer"
    options = {"tensor_statistics": True, "backward": True}
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": options})
    return folder


@both
def test_a_compiled_model_has_the_statistics_of_its_inputs_and_outputs(
    detailed: Path, compile_model: Compile
) -> None:
    model = compile_model(flowprov.torch_capture(Plain()), fullgraph=True)
    output = model(batch())
    (found,) = forwards(detailed)
    assert (found.used or {})["x"]["statistics"]["max"] == 1.0
    assert (found.generated or {})["output"]["statistics"]["max"] == pytest.approx(output.max().item())


@both
def test_a_backward_through_a_compiled_model_is_one_record(detailed: Path, compile_model: Compile) -> None:
    plain, captured = twins(Plain)
    compiled = compile_model(flowprov.torch_capture(captured), backend="aot_eager")
    for each in (compile_model(plain, backend="aot_eager"), compiled):
        each(batch()).square().sum().backward()
    assert torch.equal(plain.linear.weight.grad, captured.linear.weight.grad)  # type: ignore[arg-type, union-attr]
    (forward,) = forwards(detailed)
    (backward,) = [task for task in tasks(detailed) if task.subtype == "backward"]
    assert backward.used == {"forward": forward.task_id}
    assert backward.status == "FINISHED"


def test_a_compiled_model_that_runs_as_python_leaves_one_record_of_each(detailed: Path) -> None:
    compiled = torch.compile(flowprov.torch_capture(Plain()), backend="eager")
    with torch.compiler.set_stance("force_eager"):
        compiled(batch()).square().sum().backward()
    assert sorted(str(task.subtype) for task in tasks(detailed)) == ["backward", "parent_forward"]
