"""Unusual models: recorded where that is possible, and never changed."""

from __future__ import annotations

import functools
import operator
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.support import only
from tests.torch.support import Calls, Net, Plain, batch, children, forwards, hooks, metadata, paths, summary

_jit: Any = torch.jit  # which torch leaves without types


class Holds(torch.nn.Module):
    """A model with one child."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.part(x)


def capture(model: torch.nn.Module, **options: Any) -> Any:
    return flowprov.torch_capture(
        model, what="parent_and_children", depth="all", children_mode="tensor_inspection", **options
    )


def used(task: Any) -> list[str]:
    return list(task.used)


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda first: first * 2, ["first"]),
        (functools.partial(torch.mul, 2), ["arg_0"]),
        (functools.partial(lambda factor, second: factor * second, 2), ["second"]),
        (torch.relu, ["arg_0"]),
        (operator.neg, ["a"]),
        (functools.lru_cache(lambda cached: cached * 2), ["cached"]),
    ],
)
def test_a_forward_that_is_no_method_is_called_and_recorded(
    buffer: Path, forward: Any, names: list[str]
) -> None:
    part = torch.nn.Module()
    part.forward = forward
    model, x = capture(Holds(part)), batch()
    with flowprov.workflow("W"):
        assert torch.equal(model(x), forward(x))
    assert [len(used(only(children(buffer)))), used(only(forwards(buffer)))] == [1, ["x"]]
    assert used(only(children(buffer))) == names


def test_a_forward_without_a_signature_is_recorded_by_position(buffer: Path) -> None:
    class Strange:
        @property
        def __signature__(self) -> Any:
            raise TypeError("none")

        def __call__(self, *args: Any) -> Any:
            return args[0]

    part: Any = torch.nn.Module()
    part.forward = Strange()
    with flowprov.workflow("W"):
        capture(Holds(part))(batch())
    assert used(only(children(buffer))) == ["arg_0"]


def test_a_class_with_its_own_call_is_recorded_where_that_calls_the_call_of_modules(buffer: Path) -> None:
    class Around(Plain):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs) + 1

    class Past(Plain):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.forward(*args, **kwargs)

    around, past = Around(), Past()
    expected = [around(batch()), past(batch())]
    with flowprov.workflow("W"):
        found = [capture(around)(batch()), capture(past)(batch())]
    for left, right in zip(expected, found, strict=True):
        assert torch.equal(left, right)
    assert [task.activity_id for task in forwards(buffer)] == ["Around"]


def test_attributes_that_come_from_elsewhere_are_left_to_the_model(buffer: Path) -> None:
    class Delegates(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Plain()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_flowprov") or name == "path":
                raise AssertionError(f"asked for {name}")
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in ("inner", "training") and not name.startswith("_"):
                raise AssertionError(f"set {name}")
            super().__setattr__(name, value)

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x) + self.linear.bias

    model = Delegates()
    expected = model(batch())
    with flowprov.workflow("W"):
        assert torch.equal(capture(model)(batch()), expected)
    flowprov.torch_release(model)
    assert paths(children(buffer)) == ["inner.linear", "inner"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [_jit.script, lambda part: _jit.trace(part, batch())])
def test_compiled_parts_compute_as_before_and_the_others_are_recorded(
    buffer: Path, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    part = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), make(part), torch.nn.ReLU())
    expected = model(batch())
    with flowprov.workflow("W"):
        assert torch.equal(capture(model)(batch()), expected)
    found = paths(children(buffer))
    assert found == (["0", "2"] if make is _jit.script else ["0", "1", "2"])
    assert "torch.jit" in caplog.text
    assert len(forwards(buffer)) == 1
    flowprov.torch_release(model)
    assert torch.equal(model(batch()), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_is_left_alone(buffer: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = _jit.script(Plain())
    expected = model(batch())
    assert capture(model) is model
    with flowprov.workflow("W"):
        assert torch.equal(model(batch()), expected)
    assert forwards(buffer) == []
    assert "torch.jit" in caplog.text


def test_a_module_that_holds_itself_is_recorded_once(buffer: Path) -> None:
    model = Plain()
    vars(model)["_modules"]["again"] = model
    with flowprov.workflow("W"):
        capture(model)(batch())
    assert paths(children(buffer)) == ["linear"]
    assert len(forwards(buffer)) == 1
    flowprov.torch_release(model)
    assert hooks(model) == hooks(model.linear) == 0


def test_lazy_modules_take_their_shape_and_are_recorded(buffer: Path) -> None:
    model = capture(torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.LazyBatchNorm1d()))
    with flowprov.workflow("W"):
        for _ in range(2):
            assert model(batch()).shape == (4, 4)
    assert [type(part) for part in model] == [torch.nn.Linear, torch.nn.BatchNorm1d]
    assert next(task.generated for task in children(buffer)) is not None
    assert paths(children(buffer)) == ["0", "1"] * 2
    flowprov.torch_release(model)
    assert [hooks(part) for part in model.modules()] == [0, 0, 0]


@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.utils.parametrizations.weight_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.parametrizations.orthogonal,
        torch.nn.utils.spectral_norm,
    ],
)
def test_reparametrized_children_compute_and_learn_as_without_capture(buffer: Path, wrap: Any) -> None:
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for captures in (False, True):
            torch.manual_seed(0)
            model: Any = torch.nn.Sequential(wrap(torch.nn.Linear(3, 3)), torch.nn.ReLU())
            model = capture(model, get_profile=True) if captures else model
            keys = list(model.state_dict())
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            with flowprov.workflow("W"):
                for _ in range(3):
                    optimizer.zero_grad()
                    model(batch()).sum().backward()
                    optimizer.step()
            assert list(model.state_dict()) == keys
            results.append(list(model.state_dict().values()))
    for left, right in zip(*results, strict=True):
        assert torch.equal(left, right)
    assert "0" in paths(children(buffer))


@pytest.mark.parametrize("inside", [True, False])
def test_data_parallel_on_the_cpu_is_recorded(buffer: Path, inside: bool) -> None:  # noqa: FBT001 - a parameter
    model = Plain()
    expected = model(batch())
    wrapped = torch.nn.DataParallel(capture(model)) if inside else capture(torch.nn.DataParallel(model))
    with flowprov.workflow("W"):
        assert torch.equal(wrapped(batch()), expected)
    assert paths(children(buffer)) == (["linear"] if inside else ["module.linear", "module"])


def test_modules_that_are_made_in_a_forward_are_left_alone(buffer: Path) -> None:
    class Makes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.nn.ReLU()(x)

    model = capture(Makes())
    with flowprov.workflow("W"):
        for _ in range(2):
            model(batch())
    assert children(buffer) == []
    assert len(forwards(buffer)) == 2


def test_children_are_those_of_the_first_forward(buffer: Path) -> None:
    """Later modules are not recorded. A module that was taken out is recorded when it is called by itself."""
    model = capture(Holds(torch.nn.Linear(3, 3)))
    with flowprov.workflow("W"):
        model(batch())
        first, model.part = model.part, torch.nn.Identity()
        model(batch())
        assert paths(children(buffer)) == ["part"]
        first(batch())
        assert paths(children(buffer)) == ["part", "part"]
        flowprov.torch_release(model)
        capture(model)(batch())
    assert children(buffer)[-1].activity_id == "Identity"


def test_a_module_in_two_places_is_recorded_under_the_first_at_each_call(buffer: Path) -> None:
    tied = torch.nn.Linear(3, 3)
    weights = torch.nn.Linear(3, 3)
    weights.weight = tied.weight
    with flowprov.workflow("W"):
        capture(torch.nn.Sequential(tied, weights, tied))(batch())
    assert paths(children(buffer)) == ["0", "1", "0"]


def test_containers_that_are_never_called_are_not_recorded(buffer: Path) -> None:
    class Routes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.routes = torch.nn.ModuleDict({"a.b".replace(".", "_"): Plain()})
            self.scales = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2))])

        def forward(self, x: torch.Tensor) -> Any:
            return self.routes["a_b"](x) * self.scales[0]

    with flowprov.workflow("W"):
        capture(Routes())(batch())
    assert paths(children(buffer)) == ["routes.a_b.linear", "routes.a_b"]


def test_a_child_that_is_a_generator_yields_its_items(buffer: Path) -> None:
    def rows(x: torch.Tensor) -> Any:
        yield from x

    with flowprov.workflow("W"):
        found = capture(Holds(Calls(rows)))(batch())
        assert len(list(found)) == 4
    assert only(children(buffer)).status == "FINISHED"


def test_what_a_user_sees_of_a_model_is_the_same(buffer: Path) -> None:
    plain, captured = torch.nn.Sequential(Plain()), torch.nn.Sequential(Plain())
    capture(captured)
    with flowprov.workflow("W"):
        captured(batch())
    assert repr(captured) == repr(plain)
    assert [name for name, _ in captured.named_modules()] == [name for name, _ in plain.named_modules()]
    assert list(captured.state_dict()) == list(plain.state_dict())
    assert [type(part) for part in captured.modules()] == [type(part) for part in plain.modules()]
    for left, right in zip(captured.modules(), plain.modules(), strict=True):
        assert vars(left).keys() == vars(right).keys()
        assert dir(left) == dir(right)
    captured.load_state_dict(plain.state_dict())
    assert torch.equal(captured(batch()), plain(batch()))


def test_calls_with_keywords_only_reach_children_too(buffer: Path) -> None:
    class Keywords(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Net()

        def forward(self, *, x: torch.Tensor, scale: float = 1.0) -> Any:
            return self.part(x=x) * scale

    with flowprov.workflow("W"):
        flowprov.torch_capture(Keywords(), what="parent_and_children")(x=batch(0))
    inner, outer = forwards(buffer)
    assert inner.used == outer.used == {"x": summary(0, 3)}
    assert metadata(inner)["module_path"] == ""
