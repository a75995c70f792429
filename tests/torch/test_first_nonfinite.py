"""Which module produced the first NaN is answered from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov.read import first_nonfinite
from tests.torch.support import Calls


class Log(torch.nn.Module):
    """A module that makes NaN of negative numbers, and an infinity of zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute."""
        return x.log()


class LogBetween(torch.nn.Module):
    """A model whose own code makes NaN, between its children."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Identity(), torch.nn.ReLU()

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.second(self.first(x).log())


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer folder, with statistics of all modules."""
    folder = tmp_path / "buffer"
    chosen = {"what": "parent_and_children", "depth": "all", "tensor_statistics": True}
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": chosen})
    return folder


def run(model: torch.nn.Module, *inputs: torch.Tensor) -> None:
    with flowprov.workflow("W"):
        flowprov.torch_capture(model)
        for x in inputs:
            model(x)


GOOD, BAD = torch.tensor([1.0, 2.0]), torch.tensor([1.0, -2.0])


@pytest.mark.parametrize("x", [BAD, torch.zeros(2)], ids=["nan", "infinity"])
def test_a_middle_layer_is_found_in_rows_of_every_form(buffer: Path, x: torch.Tensor) -> None:
    middle = torch.nn.Sequential(Log(), torch.nn.Identity())
    run(torch.nn.Sequential(torch.nn.Identity(), middle, torch.nn.Softplus()), GOOD, x, x)
    expected = None
    rows: list[Any] = [
        list(flowprov.Buffer(buffer).records()),
        flowprov.read_buffer(buffer, return_df=False),
        flowprov.read_buffer(buffer),
    ]
    for each in rows:
        found = first_nonfinite(each)
        assert found is not None
        assert (found["activity_id"], found["custom_metadata"]["module_path"]) == ("Log", "1.0")
        assert expected in (None, found["task_id"])
        expected = found["task_id"]


def test_a_nan_made_between_the_children_is_the_product_of_the_parent(buffer: Path) -> None:
    run(LogBetween(), GOOD, BAD)
    found = first_nonfinite(flowprov.Buffer(buffer).records())
    assert found is not None
    assert found["activity_id"] == "LogBetween"


def test_a_nan_in_the_data_is_the_product_of_no_module(buffer: Path) -> None:
    run(torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU()), torch.tensor([float("nan")]))
    assert first_nonfinite(flowprov.Buffer(buffer).records()) is None


def test_a_nan_in_weights_is_the_product_of_their_module(buffer: Path) -> None:
    linear = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(linear.weight, float("nan"))
    run(torch.nn.Sequential(torch.nn.ReLU(), linear), GOOD)
    found = first_nonfinite(flowprov.Buffer(buffer).records())
    assert found is not None
    assert found["activity_id"] == "Linear"


def test_nested_outputs_are_looked_into(buffer: Path) -> None:
    run(Calls(lambda x: {"h": [x, (x.log(),)]}), GOOD, BAD)
    found = first_nonfinite(flowprov.Buffer(buffer).records())
    assert found is not None
    assert found["used"]["x"]["statistics"]["min"] == -2.0


def test_where_all_is_finite_there_is_none(buffer: Path) -> None:
    run(Log(), GOOD)
    assert first_nonfinite(flowprov.Buffer(buffer).records()) is None
    assert first_nonfinite([]) is None
