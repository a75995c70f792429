"""Forwards: one record each, with inputs and outputs by name, and no change for the program."""

from __future__ import annotations

import collections
import gc
import itertools
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import flowprov
from flowprov import guard
from flowprov.capture.torch import captured_module
from flowprov.runtime import context, runtime
from tests.support import only, tasks
from tests.torch.support import (
    Calls,
    Net,
    Plain,
    Returns,
    batch,
    forwards,
    metadata,
    open_scopes,
    openings,
    summary,
)


def test_a_forward_is_one_record_with_its_input_and_output(buffer: Path) -> None:
    with flowprov.workflow("W"):
        Net()(batch())
    forward = only(forwards(buffer))
    assert forward.activity_id == "Net"
    assert forward.status == "FINISHED"
    assert forward.used == {"x": summary(4, 3)}
    assert forward.generated == {"output": summary(4, 2)}
    assert forward.custom_metadata == {
        "is_training": True,
        "grad_enabled": True,
        "epoch": None,
        "module_path": "",
    }
    assert forward.ended_at is not None
    assert forward.started_at is not None
    assert forward.ended_at >= forward.started_at


def test_the_output_is_bit_identical_and_gradients_flow_as_before(buffer: Path) -> None:
    torch.manual_seed(0)
    plain = Plain()
    captured = Net()
    captured.load_state_dict(plain.state_dict())
    x = torch.randn(5, 3)
    expected, found = plain(x), captured(x)
    assert torch.equal(expected, found)
    expected.sum().backward()
    found.sum().backward()
    for left, right in zip(plain.parameters(), captured.parameters(), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert torch.equal(left.grad, right.grad)


def test_the_output_object_is_the_one_that_the_forward_returned(buffer: Path) -> None:
    output = {"loss": 1.0}
    assert flowprov.torch_capture(Returns(output))() is output


def test_keyword_arguments_are_recorded_under_their_names(buffer: Path) -> None:
    Net()(x=batch(2))
    assert only(forwards(buffer)).used == {"x": summary(2, 3)}


def test_positional_variable_and_keyword_inputs_have_their_names(buffer: Path) -> None:
    class Many(torch.nn.Module):
        def forward(
            self, first: int, second: Any = None, *rest: Any, flag: bool = False, **others: Any
        ) -> None: ...

    model = flowprov.torch_capture(Many())
    model(1, batch(), 3, 4, flag=True, mask=None)
    model(1)
    both = forwards(buffer)
    assert both[0].used == {"first": 1, "second": summary(4, 3), "rest": [3, 4], "flag": True, "mask": None}
    assert both[1].used == {"first": 1}


def test_nested_inputs_are_described(buffer: Path) -> None:
    flowprov.torch_capture(Calls(lambda x: x["a"][0]))({"a": [batch()]})
    assert only(forwards(buffer)).used == {"x": {"a": [summary(4, 3)]}}


class Point(tuple[Any, ...]):
    """A tuple of a class of its own."""

    __slots__ = ()


Pair = collections.namedtuple("Pair", "loss logits")  # noqa: PYI024 - the plain form is in use


class ModelOutput(OrderedDict[str, Any]):
    """A mapping whose values are attributes too, as in transformers."""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, {"output": None}),
        (1.5, {"output": 1.5}),
        ((1, batch()), {"output_0": 1, "output_1": summary(4, 3)}),
        ([batch()], {"output_0": summary(4, 3)}),
        (Point((1,)), {"output_0": 1}),
        (Pair(0.5, batch()), {"loss": 0.5, "logits": summary(4, 3)}),
        ({"loss": 0.5, "logits": batch()}, {"loss": 0.5, "logits": summary(4, 3)}),
        (ModelOutput(loss=0.5), {"loss": 0.5}),
        ({"h": (batch(), None)}, {"h": [summary(4, 3), None]}),
    ],
)
def test_outputs_of_every_form_are_recorded_by_name(
    buffer: Path, output: Any, expected: dict[str, Any]
) -> None:
    flowprov.torch_capture(Returns(output))()
    assert only(forwards(buffer)).generated == expected


def test_a_mapping_with_strange_keys_is_recorded_as_well(buffer: Path) -> None:
    flowprov.torch_capture(Returns({0: 1.0, (1, 2): 2.0}))()
    assert len(only(forwards(buffer)).generated) == 2


def test_an_exception_passes_unchanged_and_is_recorded(buffer: Path) -> None:
    error = ValueError("no such batch")
    model = flowprov.torch_capture(Returns(error))
    with pytest.raises(ValueError, match="no such batch") as caught:
        model(batch())
    assert caught.value is error
    forward = only(forwards(buffer))
    assert forward.status == "ERROR"
    assert forward.error.type == "ValueError"
    assert forward.error.message == "no such batch"
    assert "in forward" in forward.error.traceback
    assert forward.generated is None
    assert metadata(forward)["is_training"] is True
    assert open_scopes() == 0


def test_a_forward_inside_an_except_block_is_no_error(buffer: Path) -> None:
    model = flowprov.torch_capture(Returns(None))
    try:
        raise RuntimeError("of the program, and handled")
    except RuntimeError:
        model()
    assert only(forwards(buffer)).status == "FINISHED"


def test_a_forward_that_control_flow_leaves_is_finished(buffer: Path) -> None:
    class Pruning(torch.nn.Module):
        """Stops in its forward."""

        def forward(self, error: BaseException) -> None:
            """Raise."""
            raise error

    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"control_flow_exceptions": ["LookupError"]}
    )
    model = flowprov.torch_capture(Pruning())
    for error in (KeyError("pruned"), SystemExit(0), SystemExit(1)):
        with pytest.raises(type(error)), flowprov.workflow("W"):
            model(error)
    outcomes = [(task.status, (task.custom_metadata or {}).get("ended_by")) for task in forwards(buffer)]
    assert outcomes == [("FINISHED", "KeyError"), ("FINISHED", "SystemExit"), ("ERROR", None)]


def test_an_exception_of_another_hook_after_the_forward_makes_it_an_error(buffer: Path) -> None:
    model = Plain()

    def broken(*_: Any) -> None:
        raise ValueError("a hook of the program")

    model.register_forward_hook(broken)
    flowprov.torch_capture(model)
    with pytest.raises(ValueError, match="a hook"):
        model(batch())
    assert only(forwards(buffer)).status == "ERROR"


def test_an_exception_of_an_earlier_hook_leaves_the_outer_forward_open(buffer: Path) -> None:
    depth = [0]

    def recurse(x: torch.Tensor) -> torch.Tensor:
        depth[0] += 1
        if depth[0] == 1:
            with pytest.raises(ValueError, match="second"):
                model(x)
        return x

    def refuse(_module: Any, _args: Any) -> None:
        if depth[0] == 1:
            raise ValueError("second")

    model = Calls(recurse)
    model.register_forward_pre_hook(refuse)
    flowprov.torch_capture(model)
    model(batch())
    assert only(forwards(buffer)).status == "FINISHED"


def test_an_interrupted_forward_is_closed_by_the_enclosing_scope(buffer: Path) -> None:
    model = flowprov.torch_capture(Returns(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), flowprov.workflow("W"), flowprov.task_scope("step"):
        model()
    forward, step = tasks(buffer)
    assert forward.subtype == "parent_forward"
    assert forward.status == "ERROR"
    assert forward.error is not None
    assert forward.error.type == "KeyboardInterrupt"
    assert forward.parent_task_id == step.task_id
    assert context.current.get() is None


def test_an_interrupted_forward_is_no_parent_of_later_forwards(buffer: Path) -> None:
    broken, sound = flowprov.torch_capture(Returns(KeyboardInterrupt())), Net()
    with pytest.raises(KeyboardInterrupt):
        broken()
    for _ in range(3):
        sound(batch())
    interrupted, *others = forwards(buffer)
    assert interrupted.status == "ERROR"
    assert [each.status for each in others] == ["FINISHED"] * 3
    assert {each.parent_task_id for each in others} == {None}
    assert context.current.get() is None


def test_an_interrupt_that_the_outer_model_handles_leaves_both_records(buffer: Path) -> None:
    inner = flowprov.torch_capture(Returns(KeyboardInterrupt()), name="inner")

    def outer(x: torch.Tensor) -> torch.Tensor:
        with pytest.raises(KeyboardInterrupt):
            inner(x)
        return x

    flowprov.torch_capture(Calls(outer), name="outer")(batch())
    first, second = forwards(buffer)
    assert (first.activity_id, first.status) == ("inner", "ERROR")
    assert (second.activity_id, second.status) == ("outer", "FINISHED")


def test_captured_models_inside_captured_models_are_linked(buffer: Path) -> None:
    inner = Net()
    flowprov.torch_capture(Calls(inner))(batch())
    first, second = forwards(buffer)
    assert (first.activity_id, second.activity_id) == ("Net", "Calls")
    assert first.parent_task_id == second.task_id
    assert first.workflow_id != second.workflow_id


def test_a_module_that_calls_itself_is_recorded_at_each_depth(buffer: Path) -> None:
    def deeper(x: int) -> int:
        return x if x == 0 else int(model(x - 1))

    model = flowprov.torch_capture(Calls(deeper))
    model(3)
    found = forwards(buffer)
    assert [each.used for each in found] == [{"x": depth} for depth in range(4)]
    for child, parent in itertools.pairwise(found):
        assert child.parent_task_id == parent.task_id


def test_a_task_inside_a_forward_belongs_to_it(buffer: Path) -> None:
    @flowprov.task
    def inside(x: torch.Tensor) -> torch.Tensor:
        if (task := flowprov.current_task()) is not None:
            task.add_tags("seen")
        return x

    def outer(x: torch.Tensor) -> torch.Tensor:
        if (task := flowprov.current_task()) is not None:
            task.set_generated(note="from the handle")
        return inside(x)

    flowprov.torch_capture(Calls(outer))(batch())
    child, forward = tasks(buffer)
    assert child.tags == ["seen"]
    assert child.parent_task_id == forward.task_id
    assert child.workflow_id == forward.workflow_id
    assert forward.generated == {"output": summary(4, 3), "note": "from the handle"}
    assert metadata(forward)["is_training"] is True


def test_threads_record_their_own_forwards(buffer: Path) -> None:
    model = Net()
    with flowprov.workflow("W"):
        workers = [
            threading.Thread(target=lambda: [model(batch()) for _ in range(50)], name=f"worker-{n}")
            for n in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    found = forwards(buffer)
    assert len(found) == 200
    assert collections.Counter(each.thread for each in found) == {f"worker-{n}": 50 for n in range(4)}
    assert {each.parent_task_id for each in found} == {None}
    assert len({each.task_id for each in found}) == 200


def test_training_mode_is_recorded_as_it_is_at_each_forward(buffer: Path) -> None:
    model = Net()
    model(batch())
    model.eval()
    with torch.no_grad():
        model(batch())
    assert [metadata(each)["is_training"] for each in forwards(buffer)] == [True, False]


def test_a_mode_of_the_program_does_not_see_what_capture_reads(buffer: Path) -> None:
    class Counting(TorchFunctionMode):
        seen = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += 1
            return function(*args, **(kwargs or {}))

    plain, captured, x = Plain(), Net(), batch()
    captured(x)
    with Counting() as without:
        plain(x)
    with Counting() as with_capture:
        captured(x)
    assert with_capture.seen == without.seen
    assert forwards(buffer)[-1].used == {"x": summary(4, 3)}


def test_subclasses_of_tensors_and_sparse_ones_are_described(buffer: Path) -> None:
    model = flowprov.torch_capture(Returns())
    model(torch.nn.Parameter(batch()), torch.eye(2).to_sparse(), torch.ones(2, device="meta"))
    parameter, sparse, meta = only(forwards(buffer)).used["_"]
    assert parameter["shape"] == [4, 3]
    assert sparse["shape"] == [2, 2]
    assert meta["device"] == "meta"


def test_thousands_of_forwards_leave_nothing_behind(buffer: Path) -> None:
    model, x = Net(), batch(1)
    with flowprov.workflow("W"), torch.no_grad():
        model(x)
        gc.collect()
        before = len([each for each in gc.get_objects() if issubclass(type(each), context.Scope)])
        for _ in range(3_000):
            model(x)
        gc.collect()
        after = len([each for each in gc.get_objects() if issubclass(type(each), context.Scope)])
        assert open_scopes() == 0
    assert after <= before
    assert len(forwards(buffer)) == 3_001


def test_a_captured_model_is_freed_with_its_last_reference(buffer: Path) -> None:
    model = Net()
    model(batch())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_inputs_and_outputs_are_not_kept_alive(buffer: Path) -> None:
    model = flowprov.torch_capture(Calls(lambda x: x * 2))
    with flowprov.workflow("W"):
        x = batch()
        y = model(x)
        gone = [weakref.ref(x), weakref.ref(y)]
        del x, y
        assert [each() for each in gone] == [None, None]


def test_an_internal_error_is_counted_and_the_forward_goes_on(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    model = Net()
    expected = model(batch())
    for name in ("encode_output", "Inputs"):
        model = Net()
        with monkeypatch.context() as patched:
            patched.setattr(captured_module, name, broken)
            assert model(batch()).shape == expected.shape
    journal = only(runtime.get().journals())
    captured, written, dropped = journal.counts()
    assert dropped == {"fault": 2}
    assert captured == written + 2
    assert set(guard.internal_errors()) == {
        "recording the start of a forward: ZeroDivisionError",
        "recording the end of a forward: ZeroDivisionError",
    }
    assert open_scopes() == 0
    assert context.current.get() is None
    assert len(openings(buffer)) == 3
    guard.reset()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_nothing_waits_for_a_gpu(buffer: Path) -> None:
    build: Any = Net
    with torch.device("cuda"):
        model, x = build(get_profile=True), batch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert only(forwards(buffer)).used["x"]["device"] == "cuda:0"
