"""Tasks and loops in code that torch traces or compiles: the graph is that of the plain code, and no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import flowprov
from tests.support import run, tasks
from tests.torch.support import batch

_jit: Any = torch.jit  # which torch leaves without types

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


# -- models that use what flowprov offers, and the same models without it ------------------------------------


class _Base(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 3)


class _PlainTasks(_Base):
    def times(self, x: torch.Tensor, by: int = 2) -> Any:
        return self.linear(x) * by

    def forward(self, x: torch.Tensor) -> Any:
        return self.times(x, by=3) + mask(3)


def mask(size: int) -> torch.Tensor:
    return torch.ones(size)


masked = flowprov.task(mask)


class _Tasks(_Base):
    @flowprov.task(tags=["part"], custom_metadata={"of": "a model"})
    def times(self, x: torch.Tensor, by: int = 2) -> Any:
        return self.linear(x) * by

    def forward(self, x: torch.Tensor) -> Any:
        return self.times(x, by=3) + masked(3)


class _PlainScopes(_Base):
    def forward(self, x: torch.Tensor) -> Any:
        return self.linear(x).relu()


class _Scopes(_Base):
    def forward(self, x: torch.Tensor) -> Any:
        with flowprov.task_scope("linear", used={"x": x}, tags=["a"]) as step:
            x = self.linear(x)
            step.set_generated(y=x, size=3)
            step.add_tags("done")
        with flowprov.task_scope("relu"):
            return x.relu()


class _PlainLoops(_Base):
    def forward(self, x: torch.Tensor) -> Any:
        for number in range(2):
            x = self.linear(x) + number
        for factor in [2, 3]:
            x = x * factor
        return x


class _Loops(_Base):
    def forward(self, x: torch.Tensor) -> Any:
        for number in flowprov.Loop(2, name="refine"):
            x = self.linear(x) + number
        loop = flowprov.BatchLoop([2, 3], step="scale")
        for factor in loop:
            x = x * factor
        return x


class _Handles(_Base):
    def forward(self, x: torch.Tensor) -> Any:
        x = self.linear(x)
        step, workflow = flowprov.current_task(), flowprov.current_workflow()
        if step is not None and workflow is not None:
            step.set_generated(x=x)
            workflow.set_generated(x=x)
            step.custom_metadata["x"] = 1
        return x.relu()


MODELS: list[tuple[type[_Base], type[_Base]]] = [
    (_Tasks, _PlainTasks),
    (_Scopes, _PlainScopes),
    (_Loops, _PlainLoops),
    (_Handles, _PlainScopes),
]


# -- what traces them ----------------------------------------------------------------------------------------


def compiled(model: torch.nn.Module) -> Any:
    function: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    function(batch())
    return function(batch())


def exported_strictly(model: torch.nn.Module) -> Any:
    return torch.export.export(model, (batch(),), strict=True).graph_module.code


def exported(model: torch.nn.Module) -> Any:
    return torch.export.export(model, (batch(),), strict=False).graph_module.code


def exported_with_unknown_sizes(model: torch.nn.Module) -> Any:
    shapes = {"x": {0: torch.export.Dim("rows")}}
    return torch.export.export(model, (batch(),), dynamic_shapes=shapes, strict=False).graph_module.code


def traced(model: torch.nn.Module) -> Any:
    return [str(node.kind()) for node in _jit.trace(model, (batch(),)).inlined_graph.nodes()]


def traced_as_a_function(model: torch.nn.Module) -> Any:
    model.requires_grad_(requires_grad=False)
    # Not compared: that would call the function once more, plainly, and nothing tells that from a call.
    graph = _jit.trace(lambda x: model(x), (batch(),), check_trace=False).inlined_graph  # noqa: PLW0108 - a module is another case
    return [str(node.kind()) for node in graph.nodes()]


def traced_symbolically(model: torch.nn.Module) -> Any:
    return torch.fx.symbolic_trace(model).code


def traced_by_proxies(model: torch.nn.Module) -> Any:
    return make_fx(model)(batch()).code


def run_on_fake_tensors(model: torch.nn.Module) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return tuple(model(batch()).shape)


TRACERS = [
    compiled,
    exported_strictly,
    exported,
    exported_with_unknown_sizes,
    traced,
    traced_as_a_function,
    traced_symbolically,
    traced_by_proxies,
    run_on_fake_tensors,
]


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.mark.parametrize("pair", MODELS, ids=lambda pair: pair[0].__name__)
@pytest.mark.parametrize("trace", TRACERS, ids=lambda trace: trace.__name__)
def test_traced_code_with_captures_gives_what_plain_code_gives_and_no_records(
    buffer: Path, trace: Callable[[torch.nn.Module], Any], pair: tuple[type[_Base], type[_Base]]
) -> None:
    recorded, plain = (cls() for cls in pair)
    with flowprov.workflow("W"):
        found = trace(recorded)
    assert same(found, trace(plain))
    assert tasks(buffer) == []


@pytest.mark.parametrize("pair", MODELS[:3], ids=lambda pair: pair[0].__name__)
def test_the_same_code_is_recorded_again_after_it_was_traced(
    buffer: Path, pair: tuple[type[_Base], type[_Base]]
) -> None:
    recorded, plain = (cls() for cls in pair)
    traced(recorded)
    exported(recorded)
    assert torch.equal(recorded(batch()), plain(batch()))
    assert len(tasks(buffer)) == {_Tasks: 2, _Scopes: 2, _Loops: 4}[pair[0]]


def test_a_task_around_a_compiled_model_is_recorded(buffer: Path) -> None:
    model: Any = torch.compile(_Tasks(), backend="aot_eager", fullgraph=True)

    @flowprov.task
    def step(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(x)
        return found

    step(batch())
    assert [task.activity_id for task in tasks(buffer)] == ["step"]


def test_what_compiled_code_gives_to_scopes_around_it_is_left_out(buffer: Path) -> None:
    loop = flowprov.Loop(2)
    with flowprov.workflow("W") as run, flowprov.task_scope("step") as step:

        def compute(x: torch.Tensor) -> torch.Tensor:
            x = x * 2
            loop.end_iter(loss=x, size=3)
            step.set_generated(loss=x)
            step.add_tags("compiled")
            run.set_generated(loss=x)
            return x + 1

        compiled_compute: Any = torch.compile(compute, backend="eager", fullgraph=True)
        for _ in loop:
            assert torch.equal(compiled_compute(batch()), batch() * 3)
    assert [task.activity_id for task in tasks(buffer)] == ["loop_iteration", "loop_iteration", "step"]
    assert [task.generated for task in tasks(buffer)] == [None] * 3


def test_a_warning_says_once_that_tasks_in_compiled_code_are_not_recorded(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiled(_Tasks())
    compiled(_Loops())
    assert caplog.text.count("Inside of a graph they are not recorded") == 1


def test_generators_in_compiled_code_yield_what_they_yield(buffer: Path) -> None:
    @flowprov.task
    def parts(x: torch.Tensor) -> Iterator[torch.Tensor]:
        for factor in (1, 2):
            yield x * factor

    def total(x: torch.Tensor) -> torch.Tensor:
        whole = x
        for part in parts(x):
            whole = whole + part
        return whole

    assert torch.equal(torch.compile(total, backend="eager")(batch()), batch() * 4)


PROGRAM = """
import flowprov

@flowprov.task
def double(x):
    return x * 2

with flowprov.workflow("W"):
    for _ in flowprov.Loop(1):
        double([3])
    {before}
    import torch  # after flowprov, whose adapter nobody imports

    class Model(torch.nn.Module):
        def forward(self, x):
            with flowprov.task_scope("scope"):
                x = double(x)
            for _ in flowprov.Loop(2):
                x = x + 1
            return x

    x = torch.ones(2)
    {trace}
"""
HOW = {
    "compile": "torch.compile(Model(), fullgraph=True, backend='eager')(x)",
    "strict": "torch.export.export(Model(), (x,), strict=True)",
    "export": "torch.export.export(Model(), (x,), strict=False)",
    "jit": "torch.jit.trace(Model(), (x,))",
    "symbolic": "torch.fx.symbolic_trace(Model())",
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=() if how in ("compile", "jit") else pytest.mark.soak) for how in HOW]
)
def test_it_holds_where_torch_comes_later_and_the_adapter_does_not(tmp_path: Path, how: str) -> None:
    run(PROGRAM.format(before="", trace=HOW[how]), tmp_path)
    assert sorted(str(task.activity_id) for task in tasks(tmp_path)) == ["double", "loop_iteration"]


def test_a_module_named_torch_that_is_none_does_no_harm(tmp_path: Path) -> None:
    pretend = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); double([1]); sys.exit()"
    run(PROGRAM.format(before=pretend, trace=""), tmp_path)
    assert len(tasks(tmp_path)) == 3
