"""The operations of the first forward are counted while it runs, and the forward does not change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import flowprov
from flowprov.capture.torch import flops
from tests.torch.support import Calls, Plain, batch, forwards

pytestmark = pytest.mark.skipif(
    not hasattr(TorchDispatchMode, "ignore_compile_internals"),
    reason="this torch cannot count beside a model",
)


def capture(model: torch.nn.Module) -> torch.nn.Module:
    return flowprov.torch_capture(model, get_profile=True)


def profile(buffer: Path) -> dict[str, Any]:
    """Read the profile of the one model."""
    rows = flowprov.read_buffer(buffer, return_df=False)
    (found,) = (row["custom_metadata"]["model_profile"] for row in rows if row["subtype"] == "torch_model")
    assert found["params"] >= 0, "the counts add to the profile"
    return dict(found)


def no_mode_is_left() -> bool:
    return _get_current_dispatch_mode() is None


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (Plain, (batch(),)),
        (lambda: torch.nn.Conv2d(3, 4, 3), (torch.ones(2, 3, 8, 8),)),
        (lambda: torch.nn.Bilinear(3, 3, 2), (batch(), batch())),
        (lambda: torch.nn.MultiheadAttention(8, 2), (torch.ones(5, 2, 8),) * 3),
        (lambda: torch.nn.TransformerEncoderLayer(8, 2, 16), (torch.ones(5, 2, 8),)),
        (lambda: torch.nn.Embedding(3, 3), (torch.zeros(2, dtype=torch.long),)),
    ],
)
def test_the_count_is_that_of_torch_and_the_results_do_not_change(
    buffer: Path, make: Callable[[], torch.nn.Module], inputs: tuple[torch.Tensor, ...]
) -> None:
    plain = make()
    model = capture(copy.deepcopy(plain))
    found = []
    for each in (plain, model):
        torch.manual_seed(1)
        output = each(*inputs)
        (output[0] if isinstance(output, tuple) else output).sum().backward()
        found.append([output, *(parameter.grad for parameter in each.parameters())])
    for expected, computed in zip(*found, strict=True):
        assert torch.equal(expected[0], computed[0])
    assert no_mode_is_left()
    with FlopCounterMode(display=False) as counter:
        plain(*inputs)
    counted = profile(buffer)
    assert counted["flops"] == counter.get_total_flops()
    assert sum(counted["flops_by_operator"].values()) == counted["flops"]


def test_only_the_first_forward_is_counted_and_only_where_a_profile_was_asked_for(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(flops.FlopCount, "start", lambda *_: started.append(1))
    plain, model = flowprov.torch_capture(Plain()), capture(Plain())
    for _ in range(3):
        plain(batch())
        model(batch())
    assert started == [1]
    assert len(forwards(buffer)) == 6


def test_a_forward_that_calls_itself_is_counted_whole(buffer: Path) -> None:
    def again(x: torch.Tensor) -> Any:
        return x if x.shape[0] == 1 else (model(x[:1]) @ x.T).sum()

    model: torch.nn.Module = capture(Calls(again))
    model(batch(4))
    assert profile(buffer)["flops_by_operator"] == {"aten::mm": 2 * 1 * 3 * 4}


def test_attention_on_the_cpu_is_counted(buffer: Path) -> None:
    model = capture(Calls(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x)))
    model(torch.ones(2, 3, 16, 8))
    assert profile(buffer)["flops"] == 2 * (2 * 2 * 3 * 16 * 16 * 8)  # two products, each of so many


def test_operators_without_a_formula_are_named_and_there_is_no_total(buffer: Path) -> None:
    def chooses(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)) @ x

    capture(Calls(chooses))(torch.ones(4, 4))
    found = profile(buffer)
    assert "flops" not in found
    assert found["flops_at_least"] == 2 * 4 * 4 * 4
    assert found["flops_not_counted"] == ["cond"]


def test_functions_that_the_forward_compiles_stay_compiled(buffer: Path) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=backend, fullgraph=True)
    def compiled(x: torch.Tensor) -> torch.Tensor:
        return (x @ x.T).sin()

    model = capture(Calls(compiled))
    model(batch())
    model(batch())
    assert len(graphs) == 1
    assert no_mode_is_left()


@pytest.mark.parametrize(
    "hinders", [torch.inference_mode, lambda: FlopCounterMode(display=False)], ids=["inference", "a mode"]
)
def test_nothing_is_counted_where_counting_could_change_something(
    buffer: Path, hinders: Callable[[], Any]
) -> None:
    model = capture(Plain())
    with hinders():
        model(batch())
    assert not any(key.startswith("flops") for key in profile(buffer))


def test_a_model_with_compiled_parts_is_not_counted(buffer: Path) -> None:
    plain = Plain()
    plain.linear.compile(backend="eager")
    capture(plain)(batch())
    assert not any(key.startswith("flops") for key in profile(buffer))


def test_a_forward_that_raises_leaves_no_count_and_no_mode(buffer: Path) -> None:
    model = capture(Plain())
    with pytest.raises(RuntimeError):
        model(torch.ones(1, 99))
    assert no_mode_is_left()
    assert not any(key.startswith("flops") for key in profile(buffer))


def test_an_interrupted_forward_leaves_no_mode_once_its_scope_is_closed(buffer: Path) -> None:
    def interrupted(_: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), flowprov.workflow("W"):
        capture(Calls(interrupted))(batch())
    assert no_mode_is_left()


def test_an_interrupted_forward_below_a_mode_of_the_program_counts_no_more(buffer: Path) -> None:
    def interrupted(_: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    model = capture(Calls(interrupted))
    opened = flowprov.workflow("W").start()
    with pytest.raises(KeyboardInterrupt):
        model(batch())
    left = _get_current_dispatch_mode()
    with FlopCounterMode(display=False) as counter:
        opened.stop()
        batch() @ batch().T
    assert counter.get_total_flops() == 2 * 4 * 4 * 3
    assert isinstance(left, flops.FlopCount)
    left.__exit__(None, None, None)
    assert no_mode_is_left()


def test_a_formula_that_fails_loses_only_the_number(buffer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise ValueError("a shape that nobody thought of")

    monkeypatch.setitem(flop_registry, torch.ops.aten.addmm, fails)
    plain = Plain()
    model = capture(copy.deepcopy(plain))
    assert torch.equal(model(batch()), plain(batch()))
    assert profile(buffer)["flops_not_counted"] == ["aten::addmm"]
