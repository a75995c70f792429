"""Wrong arguments: a clear error when something is decorated, and none once the program runs."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowprov
from flowprov import guard, records
from flowprov.errors import UsageError
from flowprov.runtime import runtime
from tests.support import lines, of_type, only, tasks
from tests.values import odd


def _step() -> int:
    return 1


# -- at decoration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "step"}, r"flowprov.task\(\) has no option 'name'.*Did you mean activity_id\?"),
        ({"activity": "step"}, r"has no option 'activity'.*Did you mean activity_id\?"),
        ({"tag": ["a"]}, r"has no option 'tag'.*Did you mean tags\?"),
        ({"used": {}}, r"Its options are activity_id, output_names, subtype, tags, custom_metadata\.$"),
    ],
)
def test_an_unknown_option_of_task_is_named_with_those_that_there_are(
    options: dict[str, Any], message: str
) -> None:
    for decorate in (lambda: flowprov.task(**options), lambda: flowprov.task(_step, **options)):
        with pytest.raises(UsageError, match=message) as caught:
            decorate()
        assert "_decorate" not in str(caught.value)
        assert "FunctionSpec" not in str(caught.value)


@pytest.mark.parametrize("decorator", [flowprov.task, flowprov.task(), flowprov.workflow("W")])
@pytest.mark.parametrize("thing", ["a name", 5, {"a": 1}, property(), None, dict, Path])
def test_what_is_no_function_cannot_be_decorated(decorator: Any, thing: Any) -> None:
    if thing is None and decorator is flowprov.task:
        return  # task() is given its function later
    with pytest.raises(UsageError, match="decorates functions") as caught:
        decorator(thing)
    assert ("Decorate the methods of a class" in str(caught.value)) is isinstance(thing, type)


def test_a_name_in_the_place_of_the_function_says_where_it_belongs() -> None:
    with pytest.raises(UsageError, match=r"Write @flowprov.task\(activity_id='clean'\)"):
        flowprov.task("clean")  # type: ignore[call-overload]


# -- while the program runs ----------------------------------------------------------------------------------


def _scope(**options: Any) -> None:
    with flowprov.task_scope("scope", **options):
        pass


def _workflow(**options: Any) -> None:
    with flowprov.workflow("inner", **options):
        pass


def _loop(make: Callable[..., Any] = flowprov.Loop, **options: Any) -> None:
    for _ in make([0.5], **options):
        pass


def _stopped(error: Any) -> None:
    flowprov.workflow("inner").start().stop(error)


def _take(_: Any) -> None: ...


CALLS: dict[str, Callable[[Any], None]] = {
    "task_scope used": lambda value: _scope(used=value),
    "task_scope metadata": lambda value: _scope(custom_metadata=value),
    "workflow used": lambda value: _workflow(used=value),
    "workflow metadata": lambda value: _workflow(custom_metadata=value),
    "workflow error": _stopped,
    "loop total": lambda value: _loop(total=value),
    "batch epoch": lambda value: _loop(flowprov.BatchLoop, epoch_loop=value),
    "epoch model": lambda value: _loop(flowprov.EpochLoop, model=value),
    "task used": flowprov.task(_take),
    "task result": lambda value: flowprov.task(lambda: value)(),
}


@pytest.mark.parametrize("call", CALLS)
def test_any_object_is_taken(buffer: Path, call: str) -> None:
    values = odd.odd_objects()
    with flowprov.workflow("outer"):
        for value in values:
            CALLS[call](value)
    ended = [wf for wf in of_type(lines(buffer), records.Workflow) if wf.ended_at]
    assert len(tasks(buffer)) + len(ended) == len(values) + 1
    assert guard.internal_errors() == {}


def test_any_object_is_an_item_and_is_recorded(buffer: Path) -> None:
    values = odd.odd_objects()
    with flowprov.workflow("outer"):
        assert len(list(flowprov.Loop(values))) == len(values)
    runtime.shutdown()
    footer = only(of_type(lines(buffer), records.Footer))
    assert footer.dropped is None
    assert len(tasks(buffer)) == len(values)


def test_a_client_that_is_none_costs_only_what_it_would_have_recorded(buffer: Path) -> None:
    pytest.importorskip("distributed")
    for value in ("tcp://nowhere:1", 5, object()):
        with flowprov.workflow("W", dask_client=value):
            _scope()
    assert [wf.status for wf in of_type(lines(buffer), records.Workflow)] == ["RUNNING", "FINISHED"] * 3


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        ("out of memory", ("Exception", "out of memory")),
        (KeyError, ("Exception", "<class 'KeyError'>")),
        (KeyError("k"), ("KeyError", "'k'")),
        (None, None),
        ((None, None, None), None),
    ],
)
def test_a_workflow_is_stopped_with_whatever_is_given_as_its_error(
    buffer: Path, error: Any, recorded: Any
) -> None:
    _stopped(error)
    ending = of_type(lines(buffer), records.Workflow)[-1]
    assert ending.status == ("FINISHED" if recorded is None else "ERROR")
    assert (ending.error and (ending.error.type, ending.error.message)) == recorded


def test_a_workflow_is_stopped_with_the_exception_that_is_being_handled(buffer: Path) -> None:
    workflow = flowprov.workflow("W").start()
    try:
        raise ValueError("bad")
    except ValueError:
        workflow.stop(sys.exc_info())  # type: ignore[arg-type]
    assert of_type(lines(buffer), records.Workflow)[-1].error.type == "ValueError"


# -- loops are like their items ------------------------------------------------------------------------------


class Loader:
    """A loader, as torch has it."""

    def __init__(self) -> None:
        self.dataset = [1, 2, 3]
        self.batch_size = 2
        self.name = "train"

    def set_epoch(self, epoch: int) -> int:
        """Return the epoch."""
        return epoch

    @property
    def broken(self) -> int:
        """Raise."""
        raise RuntimeError("broken")

    def __iter__(self) -> Iterator[int]:
        return iter(self.dataset)


def test_a_batch_loop_has_the_attributes_of_its_items() -> None:
    loop: Any = flowprov.BatchLoop(Loader())
    assert (loop.dataset, loop.batch_size, loop.name) == ([1, 2, 3], 2, "train")
    assert loop.set_epoch(3) == 3
    assert hasattr(loop, "batch_size")
    assert not hasattr(loop, "num_workers")
    assert getattr(loop, "num_workers", 0) == 0
    with pytest.raises(RuntimeError, match="broken"):
        _ = loop.broken


def test_the_loops_own_names_win() -> None:
    class Items(list[int]):
        """Has names of a loop."""

        current_task_id = "theirs"

        def end_iter(self) -> None:
            """Raise."""
            raise AssertionError

    loop = flowprov.BatchLoop(Items([1]))
    assert loop.current_task_id is None
    loop.end_iter()


def test_a_misspelled_name_is_an_attribute_error_that_names_it() -> None:
    loop: Any = flowprov.BatchLoop([1])
    with pytest.raises(AttributeError, match="'BatchLoop' object has no attribute 'end_itr'") as caught:
        loop.end_itr(loss=1)
    assert caught.value.name == "end_itr"
    with pytest.raises(AttributeError):
        _ = loop._private
    with pytest.raises(AttributeError):
        _ = loop.__array_interface__


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda loop: pickle.loads(pickle.dumps(loop))])
def test_a_loop_with_attributes_of_its_items_is_copied(through: Any) -> None:
    copied = through(flowprov.BatchLoop(Loader()))
    assert copied.batch_size == 2
    assert list(copied) == [1, 2, 3]
    assert not hasattr(flowprov.BatchLoop.__new__(flowprov.BatchLoop), "batch_size")


def test_a_torch_loader_keeps_what_frameworks_read() -> None:
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader([1.0, 2.0, 3.0], batch_size=2, shuffle=True)
    loop: Any = flowprov.BatchLoop(loader)
    for name in (
        "dataset",
        "batch_size",
        "sampler",
        "batch_sampler",
        "collate_fn",
        "drop_last",
        "num_workers",
    ):
        assert getattr(loop, name) is getattr(loader, name)
    assert len(loop) == 2
    assert len(loop.dataset) == 3


@pytest.mark.parametrize("items", [[], [0], {}, "", "a", range(0), 0, 3, iter(()), np.int64(0), Loader()])
def test_a_loop_is_true_where_its_items_are(items: Any) -> None:
    assert bool(flowprov.Loop(items)) is bool(items)


@pytest.mark.parametrize("items", [3, np.int64(3), np.uint8(3)])
def test_an_integer_of_any_class_is_a_range(buffer: Path, items: Any) -> None:
    assert list(flowprov.EpochLoop(items)) == [0, 1, 2]
    assert len(flowprov.Loop(items)) == 3


@pytest.mark.parametrize("items", [None, 2.5, object(), _step])
def test_what_cannot_be_iterated_raises_as_in_a_plain_loop(buffer: Path, items: Any) -> None:
    with pytest.raises(TypeError) as plain:
        for _ in items:
            pass
    with pytest.raises(TypeError) as caught:
        for _ in flowprov.Loop(items):
            pass
    assert str(caught.value) == str(plain.value)


@pytest.mark.parametrize(
    ("total", "length"),
    [(5, 5), ("5", 5), (5.0, 5), (np.int64(5), 5), (-1, None), ("many", None), (1e300, None)],
)
def test_a_total_that_is_no_length_is_left_out(buffer: Path, total: Any, length: int | None) -> None:
    loop = flowprov.Loop((i for i in range(3)), total=total)
    if length is None:
        with pytest.raises(TypeError):
            len(loop)
    else:
        assert len(loop) == length
    assert list(loop) == [0, 1, 2]


def test_the_step_in_the_place_of_the_epoch_loop_is_told_once(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        _loop(lambda items: flowprov.BatchLoop(items, "eval"))  # type: ignore[arg-type]
    assert only(caplog.records).getMessage().startswith("flowprov: the second argument of BatchLoop")
    assert len(tasks(buffer)) == 2
    runtime.shutdown()
