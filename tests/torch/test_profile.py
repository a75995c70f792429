"""The profile of a model: bounded, without side effects, and never a reason to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov.capture.torch.profile import describe_model
from tests.support import only
from tests.torch.support import Net, Plain, batch, openings


def test_parameters_are_counted_by_kind() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3).half())
    model[0].bias.requires_grad_(False)
    found = describe_model(model)
    assert found["params"] == 4 * 3 + 3 + 6
    assert found["trainable_params"] == 4 * 3 + 6
    assert found["bytes"] == 15 * 4 + 6 * 2
    assert found["by_dtype"] == {
        "float32": {"params": 15, "bytes": 60},
        "float16": {"params": 6, "bytes": 12},
    }
    assert found["buffer_bytes"] == 6 * 2 + 8
    assert found["class"] == "torch.nn.modules.container.Sequential"


def test_shared_parameters_count_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert describe_model(model)["params"] == 16 + 4 + 4


def test_the_tree_shows_the_modules_level_by_level() -> None:
    model = torch.nn.Sequential(Plain(), torch.nn.ReLU())
    found = describe_model(model)
    assert found["modules"] == 4
    assert found["depth"] == 2
    assert [each["path"] for each in found["tree"]] == ["", "0", "1", "0.linear"]
    assert found["tree"][3] == {"path": "0.linear", "type": "Linear", "own_params": 8}


def test_the_architecture_depends_on_structure_and_shapes_alone() -> None:
    assert describe_model(Plain())["architecture"] == describe_model(Plain())["architecture"]
    assert describe_model(Plain(3))["architecture"] != describe_model(Plain(4))["architecture"]
    assert describe_model(Plain())["architecture"] != describe_model(Plain().half())["architecture"]


def test_parameters_without_shape_or_storage_are_described() -> None:
    lazy = describe_model(torch.nn.Sequential(torch.nn.LazyLinear(3), torch.nn.Linear(2, 2)))
    assert lazy["params"] == 6
    assert lazy["uninitialized_params"] == 2
    assert "faults" not in lazy
    assert describe_model(torch.nn.Linear(2, 2, device="meta"))["params"] == 6


def test_a_large_model_has_a_bounded_profile() -> None:
    model = torch.nn.ModuleList(torch.nn.ReLU() for _ in range(3_000))
    found = describe_model(model)
    assert found["modules"] == 3_001
    assert len(found["tree"]) == 100
    assert len(found.get("repr", "")) <= 1_000
    assert len(describe_model(torch.nn.ModuleList(Plain() for _ in range(200)))["repr"]) <= 1_000


def test_a_part_of_the_profile_that_fails_loses_only_that_part() -> None:
    class Broken(Plain):
        def __repr__(self) -> str:
            raise RuntimeError("no repr today")

        def buffers(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no buffers either")

    found = describe_model(Broken())
    assert found["params"] == 8
    assert found["faults"] == {"buffers": "RuntimeError", "repr": "RuntimeError"}


def test_a_model_that_holds_itself_is_described() -> None:
    model = Plain()
    inner = torch.nn.Module()
    model.inner = inner
    vars(inner)["_modules"]["back"] = model
    assert describe_model(model)["modules"] == 3


@pytest.mark.parametrize(
    ("by_decorator", "by_constructor", "expected"),
    [
        (None, None, False),
        (True, None, True),
        (None, True, True),
        (True, False, False),
    ],
)
def test_the_profile_is_recorded_where_it_was_asked_for(
    buffer: Path,
    by_decorator: bool | None,  # noqa: FBT001 - a parameter
    by_constructor: bool | None,  # noqa: FBT001 - as above
    expected: bool,  # noqa: FBT001 - as above
) -> None:
    class Model(Plain): ...

    build: Any = flowprov.torch_capture(Model, get_profile=by_decorator)
    build(get_profile=by_constructor)(batch())
    recorded = only(openings(buffer)).custom_metadata or {}
    assert ("model_profile" in recorded) is expected


def test_the_whole_profile_reaches_the_record(buffer: Path) -> None:
    build: Any = Net
    model = build(get_profile=True)
    model(batch())
    recorded = only(openings(buffer)).custom_metadata["model_profile"]
    assert recorded == describe_model(model)


def test_describing_reads_no_element(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("an element was read")

    monkeypatch.setattr(torch.Tensor, "item", refuse)
    monkeypatch.setattr(torch.Tensor, "cpu", refuse)
    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    assert "faults" not in describe_model(Plain())
