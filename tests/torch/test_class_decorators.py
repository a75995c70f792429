"""Class decorators above ``torch_capture`` do their work as without it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.support import only
from tests.torch.support import batch, forwards, hooks, metadata, openings


class _Layers(torch.nn.Module):
    width: int

    def __post_init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, self.width)

    def __attrs_post_init__(self) -> None:
        _Layers.__post_init__(self)

    def forward(self, x: torch.Tensor) -> Any:
        return self.linear(x)


def _plain_dataclass(capture: Callable[[Any], Any]) -> Any:
    @dataclass(eq=False)
    @capture
    class Net(_Layers):
        width: int
        names: list[str] = field(default_factory=list)

    return Net


def _keyword_dataclass(capture: Callable[[Any], Any]) -> Any:
    @dataclass(eq=False, kw_only=True)
    @capture
    class Net(_Layers):
        width: int
        names: list[str] = field(default_factory=list)

    return Net


def _dataclass_with_variables(capture: Callable[[Any], Any]) -> Any:
    @dataclass(eq=False, repr=False)
    @capture
    class Net(_Layers):
        width: int
        scale: InitVar[int] = 1
        _: KW_ONLY
        names: list[str] = field(default_factory=list)

        def __post_init__(self, scale: int) -> None:
            self.width *= scale
            super().__post_init__()

    return Net


def _inheriting_dataclass(capture: Callable[[Any], Any]) -> Any:
    @dataclass(eq=False)
    class Base(_Layers):
        width: int

    @dataclass(eq=False)
    @capture
    class Net(Base):
        names: list[str] = field(default_factory=list)

    return Net


def _attrs_class(capture: Callable[[Any], Any]) -> Any:
    attrs = pytest.importorskip("attrs")

    @attrs.define(eq=False, slots=False)
    @capture
    class Net(_Layers):
        width: int
        names: list[str] = attrs.field(factory=list)

        def __attrs_pre_init__(self) -> None:
            torch.nn.Module.__init__(self)

    return Net


MAKERS = [
    _plain_dataclass,
    _keyword_dataclass,
    _dataclass_with_variables,
    _inheriting_dataclass,
    _attrs_class,
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_class_takes_the_arguments_that_the_decorator_above_gives_it(
    buffer: Path, make: Callable[[Callable[[Any], Any]], Any]
) -> None:
    plain, net = make(lambda cls: cls), make(flowprov.torch_capture)
    one, other = net(width=2), net(width=2, names=["a"])
    assert (one.width, one.names, other.names) == (2, [], ["a"])
    assert one.names is not net(width=2).names
    assert inspect.signature(net) == inspect.signature(plain)
    with pytest.raises(TypeError, match="width"):
        net()
    with pytest.raises(TypeError, match="unknown"):
        net(width=2, unknown=1)
    assert one(batch()).shape == (4, 2)
    assert only(forwards(buffer)).activity_id == "Net"


@pytest.mark.parametrize("make", MAKERS)
def test_it_takes_the_options_of_capture_too(
    buffer: Path, make: Callable[[Callable[[Any], Any]], Any]
) -> None:
    net = make(flowprov.torch_capture)
    net(width=2, custom_metadata={"trial": 7})(batch())
    assert only(openings(buffer)).custom_metadata == {"trial": 7}
    assert metadata(only(forwards(buffer)))["trial"] == 7
    assert hooks(net(width=2, capture_enabled=False)) == 0


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("constructed", [False, True])
def test_after_its_release_it_still_takes_its_arguments(
    buffer: Path,
    make: Callable[[Callable[[Any], Any]], Any],
    constructed: bool,  # noqa: FBT001 - a parameter
) -> None:
    net = make(flowprov.torch_capture)
    if constructed:
        net(width=1)
    flowprov.torch_release(net)
    assert hooks(net(width=2, names=["a"])) == 0


def test_a_field_that_has_the_name_of_an_option_is_passed_on(buffer: Path) -> None:
    @dataclass(eq=False)
    @flowprov.torch_capture
    class Net(_Layers):
        width: int
        custom_metadata: dict[str, int] = field(default_factory=dict)

    model = Net(2, {"trial": 3})
    model(batch())
    assert model.custom_metadata == {"trial": 3}
    assert metadata(only(forwards(buffer)))["trial"] == 3


def test_a_class_that_the_decorator_above_copies_is_captured(buffer: Path) -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define(eq=False, slots=True)
    @flowprov.torch_capture
    class Net(torch.nn.Module):
        width: int

        def __attrs_pre_init__(self) -> None:
            super().__init__()

        def forward(self, x: torch.Tensor) -> Any:
            return x * self.width

    model = Net(2)
    assert torch.equal(model(batch()), batch() * 2)
    assert only(forwards(buffer)).activity_id == "Net"
    flowprov.torch_release(Net)
    assert hooks(Net(2)) == 0


def test_a_dataclass_below_stays_one(buffer: Path) -> None:
    @flowprov.torch_capture
    @dataclass(eq=False)
    class Net(_Layers):
        width: int = 2

    Net(5)(batch())
    assert dataclasses.fields(Net)[0].name == "width"
    assert len(forwards(buffer)) == 1
