"""Compiled models that are not run compiled, fail, are copied, run in threads, or in other compiled code."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import flowprov
from flowprov import guard, records
from tests.torch.compiling import Compile, anew, both, capture, in_place, twins
from tests.torch.support import Calls, Net, Plain, batch, children, forwards, hooks, metadata, paths
from tests.torch.test_children import FIRST, SECOND, Deep, Holds

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@both
def test_a_forward_that_raises_is_recorded_and_the_exception_passes(
    buffer: Path, compile_model: Compile
) -> None:
    compiled = compile_model(Net())
    with flowprov.workflow("W"):
        compiled(batch())
        with pytest.raises(RuntimeError, match=r"shapes|size"):
            compiled(torch.ones(4, 5))
        compiled(batch())
    assert [task.status for task in forwards(buffer)] == [
        records.Status.FINISHED,
        records.Status.ERROR,
        records.Status.FINISHED,
    ]


@both
def test_interrupts_end_the_forward_that_they_interrupt(buffer: Path, compile_model: Compile) -> None:
    def interrupt(_: Any) -> Any:
        raise KeyboardInterrupt

    outside: Any = torch.compiler
    compiled = compile_model(flowprov.torch_capture(Calls(outside.disable(interrupt))))
    with flowprov.workflow("W"):
        with pytest.raises(KeyboardInterrupt):
            compiled(batch())
        Net()(batch())
    assert len(forwards(buffer)) == 2


@both
def test_a_model_that_is_forced_to_run_eagerly_is_recorded_once_with_its_children(
    buffer: Path, compile_model: Compile
) -> None:
    compiled = compile_model(capture(Deep()))
    with flowprov.workflow("W"):
        with torch.compiler.set_stance("force_eager"):
            compiled(batch())
            compiled(batch())
        assert paths(children(buffer)) == [*FIRST, *SECOND, "head"] * 2
        assert all("children_not_recorded" not in metadata(task) for task in forwards(buffer))
        compiled(batch())
    assert len(forwards(buffer)) == 3
    assert len(children(buffer)) == 14


class Breaks(Plain):
    """A model with a graph break."""

    def forward(self, x: torch.Tensor) -> Any:
        """Compute in two parts."""
        x = self.linear(x)
        torch._dynamo.graph_break()
        return x.relu()


@both
@pytest.mark.parametrize("make", [Breaks, lambda: torch.nn.Sequential(Breaks())])
def test_a_graph_break_of_the_program_leaves_one_record_and_no_further_break(
    buffer: Path, compile_model: Compile, make: Callable[[], torch.nn.Module]
) -> None:
    def count(model: torch.nn.Module) -> tuple[int, torch.Tensor]:
        torch._dynamo.reset()
        counters.clear()
        compiled = compile_model(model)
        compiled(batch())
        return sum(counters["graph_break"].values()), compiled(batch())

    plain, captured = twins(make)
    breaks, expected = count(plain)
    with flowprov.workflow("W"):
        found, output = count(capture(captured))
    assert found == breaks > 0
    assert torch.equal(output, expected)
    assert len(forwards(buffer)) == 2


@both
def test_a_backend_that_fails_leaves_one_record(buffer: Path, compile_model: Compile) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no backend")

    compiled = compile_model(capture(Deep()), backend=fail)
    with flowprov.workflow("W"):
        with pytest.raises(Exception, match="no backend"):
            compiled(batch())
        with torch._dynamo.config.patch(suppress_errors=True):
            compiled(batch())
    assert [str(task.status) for task in forwards(buffer)] == ["ERROR", "FINISHED"]


def test_a_module_that_calls_itself_through_its_compiled_form_is_recorded_each_time(buffer: Path) -> None:
    model = Net()
    outer = flowprov.torch_capture(Calls(anew(model)))
    with flowprov.workflow("W"):
        anew(outer)(batch())
        outer(batch())
    names = [task.activity_id for task in forwards(buffer)]
    assert names == ["Calls", "Net", "Calls"]


def test_both_ways_of_compiling_at_once_record_once(buffer: Path) -> None:
    model = in_place(Net())
    compiled = anew(model)
    with flowprov.workflow("W"):
        compiled(batch())
        model(batch())
        with torch.compiler.set_stance("force_eager"):
            compiled(batch())
            model(batch())
    assert len(forwards(buffer)) == 4


def test_a_compiled_function_has_no_break_and_one_warning_says_that_no_forward_is_recorded(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = capture(Plain(), name="Inside")
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph

    step = torch.compile(lambda x: model(x) + 1, backend=keep, fullgraph=True)
    with flowprov.workflow("W"):
        for rows in (4, 5, 6, 7):
            assert torch.equal(step(batch(rows)), model(batch(rows)) + 1)
    assert len(forwards(buffer)) == 4
    assert len(graphs) == 2
    assert caplog.text.count("Inside is called by other compiled code") == (torch.__version__ >= "2.13")


@both
def test_compiling_and_exporting_a_captured_model_does_not_warn(
    buffer: Path, compile_model: Compile, caplog: pytest.LogCaptureFixture
) -> None:
    with flowprov.workflow("W"):
        compile_model(capture(Deep()), fullgraph=True)(batch())
        for strict in (False, True):
            torch.export.export(capture(Deep()), (batch(),), strict=strict)
    assert "compiled code" not in caplog.text
    assert len(forwards(buffer)) == 1


@both
def test_release_ends_the_recording_of_a_compiled_model(buffer: Path, compile_model: Compile) -> None:
    plain = compile_model(Plain())
    model = capture(Holds(Plain()))
    compiled = compile_model(model)
    with flowprov.workflow("W"):
        compiled(batch())
        flowprov.torch_release(compiled)
        compiled(batch())
        model(batch())
        assert [hooks(part) for part in compiled.modules()] == [0] * len(list(compiled.modules()))
        call, expected = model._compiled_call_impl, plain._compiled_call_impl
        assert getattr(call, "__code__", None) is getattr(expected, "__code__", None)
        flowprov.torch_capture(compiled)
        compiled(batch())
        flowprov.torch_release(model)
        compiled(batch())
    assert len(forwards(buffer)) == 2
    assert hooks(compiled) == 0


def test_copies_of_a_model_compiled_in_place_are_plain_and_not_captured(buffer: Path) -> None:
    model = in_place(Net())
    file = io.BytesIO()
    with flowprov.workflow("W"):
        expected = model(batch())
        torch.save(model, file)
        file.seek(0)
        for copied in (
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
            torch.load(file, weights_only=False),
        ):
            assert torch.equal(copied(batch()), expected)
            assert torch.equal(in_place(copied)(batch()), expected)
    assert len(forwards(buffer)) == 1
    assert list(model.state_dict()) == ["linear.weight", "linear.bias"]


def test_copies_of_the_original_of_a_compiled_model_are_not_captured(buffer: Path) -> None:
    model = Net()
    compiled = anew(model)
    with flowprov.workflow("W"):
        expected = compiled(batch())
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(compiled)):
            assert torch.equal(copied(batch()), expected)
    assert len(forwards(buffer)) == 1
    assert list(compiled.state_dict()) == list(anew(Plain()).state_dict())


@both
def test_forwards_in_threads_are_each_recorded_once(buffer: Path, compile_model: Compile) -> None:
    compiled = compile_model(Net(), dynamic=True)

    def work() -> None:
        for rows in (2, 3, 4):
            compiled(batch(rows))

    with flowprov.workflow("W"):
        compiled(batch())
        threads = [threading.Thread(target=flowprov.bind(work)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(forwards(buffer)) == 13


def test_a_module_that_is_not_captured_compiles_as_before(buffer: Path) -> None:
    Net()(batch())
    plain = Plain()
    compiled = anew(plain)
    plain.compile(backend="eager")
    compiled(batch())
    assert hooks(compiled) == hooks(plain) == 0
    assert not hasattr(plain._compiled_call_impl, "__flowprov__")
    assert len(forwards(buffer)) == 1


@both
def test_exceptions_of_the_compiler_pass(buffer: Path, compile_model: Compile) -> None:
    with pytest.raises((RuntimeError, TypeError), match="nonsense"):
        compile_model(Net(), backend="eager", nonsense=True)
    assert forwards(buffer) == []


@both
def test_an_internal_error_is_counted_and_the_model_compiles_and_runs(
    buffer: Path, compile_model: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> Any:
        raise LookupError

    model = Net()
    plain, expected = Plain(), compile_model(copy.deepcopy(model))(batch())
    monkeypatch.setattr("flowprov.capture.torch.compile.compiled_capture_of", fail)
    compiled = compile_model(model)
    assert torch.equal(compiled(batch()), expected)
    compile_model(plain)(batch())
    assert sum(guard.internal_errors().values()) == 1
    assert forwards(buffer) == []
    guard.reset()


def test_a_compiled_forward_and_a_disabled_compiler_record_once(buffer: Path) -> None:
    model = Net()
    disabled = anew(Net(), disable=True)
    with flowprov.workflow("W"):
        model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]
        model(batch())
        disabled(batch())
    assert len(forwards(buffer)) == 2
