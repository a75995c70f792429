"""Tracers of torch run a model to learn its graph: nothing is recorded, and the graph shows no capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import flowprov
from tests.torch.support import Calls, Net, Plain, batch, forwards

_jit: Any = torch.jit  # which torch leaves without types


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_trace_gives_the_graph_of_the_plain_model_and_no_records(buffer: Path) -> None:
    plain, captured = Plain(), Net()
    captured.load_state_dict(plain.state_dict())
    traced = _jit.trace(captured, (batch(),))
    assert torch.equal(traced(batch()), plain(batch()))
    assert forwards(buffer) == []
    names = [str(node.kind()) for node in traced.inlined_graph.nodes()]
    expected = _jit.trace(plain, (batch(),)).inlined_graph.nodes()
    assert names == [str(node.kind()) for node in expected]


@pytest.mark.parametrize("strict", [False, True])
def test_export_gives_the_graph_of_the_plain_model_and_no_records(
    buffer: Path,
    strict: bool,  # noqa: FBT001 - a parameter
) -> None:
    plain, captured = Plain(), Net()
    found = torch.export.export(captured, (batch(),), strict=strict)
    expected = torch.export.export(plain, (batch(),), strict=strict)
    assert found.graph_module.code == expected.graph_module.code
    assert forwards(buffer) == []


def test_export_with_unknown_sizes_keeps_them_unknown(buffer: Path) -> None:
    rows = torch.export.Dim("rows")
    exported = torch.export.export(Net(), (batch(),), dynamic_shapes={"x": {0: rows}})
    assert exported.module()(batch(9)).shape == (9, 2)
    assert forwards(buffer) == []


def test_symbolic_tracing_and_make_fx_record_nothing(buffer: Path) -> None:
    model = Net()
    torch.fx.symbolic_trace(Calls(model))
    make_fx(model)(batch())
    assert forwards(buffer) == []


def test_fake_tensors_record_nothing(buffer: Path) -> None:
    model = Net()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model(batch())
    assert forwards(buffer) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_script_works_after_release(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain())
    flowprov.torch_release(model)
    scripted = _jit.script(model)
    assert torch.equal(scripted(batch()), model(batch()))


def test_a_forward_after_tracing_is_recorded_again(buffer: Path) -> None:
    model = Net()
    torch.export.export(model, (batch(),))
    model(batch())
    assert len(forwards(buffer)) == 1
