"""Nothing waits for a device: shown with tensors of a device that is missing, which have no elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

import flowprov
from tests.support import only
from tests.torch.support import children, forwards, openings

OPTIONS: list[dict[str, Any]] = [
    {},
    {"what": "parent_and_children", "depth": "all", "children_mode": "tensor_inspection"},
]


class Attends(torch.nn.Module):
    """A child that takes a keyword and returns a tuple."""

    def forward(self, x: torch.Tensor, *, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute."""
        weights = (x @ x.mT + mask).softmax(-1)
        return weights @ x, weights


class Branches(torch.nn.Module):
    """A model with several children, which takes and returns more than one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Dropout(0.1))
        self.attention = Attends()
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, *, mask: torch.Tensor, others: dict[str, Any]) -> dict[str, Any]:
        """Compute."""
        x = self.body(x)
        attended, weights = self.attention(x, mask=mask)
        return {"logits": self.head(attended), "weights": (weights, others["scale"])}


def fake() -> tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]:
    """Create a model and its inputs on a device that is missing."""
    with torch.device("meta"):
        model = Branches()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model.to_empty(device="cuda")
        x, mask, scale = torch.ones(3, 5, 8), torch.zeros(5, 5), torch.ones(())
    return model, (x,), {"mask": mask, "others": {"scale": scale}}


def test_reading_an_element_of_such_tensors_raises() -> None:
    _, (x,), _ = fake()
    assert x.device.type == "cuda"
    for read in (lambda: x.sum().item(), lambda: bool(x.sum()), x.tolist, x.numpy, x.nonzero):
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException, RuntimeError)):
            read()


@pytest.mark.parametrize("options", OPTIONS)
def test_forwards_are_recorded_without_reading_an_element(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("waits for the device")

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero", "__repr__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    model, args, kwargs = fake()
    decorate: Any = flowprov.torch_capture(get_profile=True, **options)
    with flowprov.workflow("W"):
        decorate(model)
        for training in (True, False):
            model.train(training)
            with torch.no_grad():  # without a GPU torch itself refuses to differentiate such tensors
                model(*args, **kwargs)
    assert len(forwards(buffer)) == 2
    for forward in forwards(buffer):
        assert (forward.used or {})["x"]["device"] == "cuda:0"
        assert (forward.generated or {})["logits"]["shape"] == [3, 5, 2]
    if options:
        inner = children(buffer)
        assert len(inner) == 2 * 6
        assert all("'device': 'cuda:0'" in str(task.used) for task in inner)
        assert all("'layout': 'strided'" in str(task.used) for task in inner)
    assert only(openings(buffer)).custom_metadata["model_profile"]["params"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_waits_for_a_gpu_with_children_and_inspection(buffer: Path, options: dict[str, Any]) -> None:
    with torch.device("cuda"):
        model = Branches()
        x, mask, scale = torch.ones(3, 5, 8), torch.zeros(5, 5), torch.ones(())
    flowprov.torch_capture(model, get_profile=True, **options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with flowprov.workflow("W"):
            model(x, mask=mask, others={"scale": scale})["logits"].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert only(forwards(buffer)).used["x"]["device"] == "cuda:0"
