"""Tasks and loops inside activation checkpointing: what a backward computes again is marked, and no error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

import flowprov
from flowprov import records
from tests.support import only, tasks
from tests.torch.support import Calls, batch, metadata, open_scopes

_checkpoint: Any = checkpoint  # which torch leaves without types


@flowprov.task(custom_metadata={"own": 1})
def scale(x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
    """Scale."""
    return (x * by).sin()


class Layer:
    """An object with a captured method."""

    @flowprov.task
    def run(self, x: torch.Tensor) -> torch.Tensor:
        """Scale twice."""
        return scale(scale(x))


def in_tasks(x: torch.Tensor) -> torch.Tensor:
    return scale(x).exp()


def in_methods(x: torch.Tensor) -> torch.Tensor:
    return Layer().run(x).exp()


def in_scopes(x: torch.Tensor) -> torch.Tensor:
    with flowprov.task_scope("outer", used={"x": x}) as outer:
        with flowprov.task_scope("inner"):
            x = x.sin()
        outer.set_generated(x=x)
        return x.exp()


def in_loops(x: torch.Tensor) -> torch.Tensor:
    loop = flowprov.Loop(3, name="refine")
    for number in loop:
        x = (x * (number + 1)).sin()
        loop.end_iter(number=number)
    return x


def in_batches_of_epochs(x: torch.Tensor) -> torch.Tensor:
    for _ in flowprov.EpochLoop(1):
        for factor in flowprov.BatchLoop([2, 3]):
            x = scale(x, by=factor)
    return x


def in_generators(x: torch.Tensor) -> torch.Tensor:
    @flowprov.task
    def parts(whole: torch.Tensor) -> Any:
        for part in whole.unbind():
            yield part.sin()

    return torch.stack(list(parts(x)))


FUNCTIONS = [in_tasks, in_methods, in_scopes, in_loops, in_batches_of_epochs, in_generators]


def is_recomputed(task: records.Task) -> bool:
    return bool((task.custom_metadata or {}).get("recomputed"))


def gradient(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    x = batch().requires_grad_()
    total: Any = function(x).sum()
    total.backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_recomputed_tasks_are_marked_and_none_is_an_error(
    buffer: Path,
    function: Callable[[torch.Tensor], torch.Tensor],
    early_stop: bool,  # noqa: FBT001 - a parameter
) -> None:
    expected = gradient(function)
    plain = len(tasks(buffer))
    with flowprov.workflow("W"), set_checkpoint_early_stop(early_stop):
        found = gradient(lambda x: _checkpoint(function, x, use_reentrant=False))
        assert open_scopes() == 0
    assert torch.equal(found, expected)
    rows = tasks(buffer)[plain:]
    assert {row.status for row in rows} == {"FINISHED"}
    first, again = [row for row in rows if not is_recomputed(row)], [*filter(is_recomputed, rows)]
    assert len(first) == plain
    assert 0 < len(again) <= plain
    if not early_stop:
        assert [row.activity_id for row in again] == [row.activity_id for row in first]
        assert not any("stopped_early" in metadata(row) for row in again)


def test_a_task_that_checkpointing_stopped_says_so(buffer: Path) -> None:
    gradient(lambda x: _checkpoint(in_scopes, x, use_reentrant=False))
    stopped = [row for row in tasks(buffer) if is_recomputed(row) and metadata(row).get("stopped_early")]
    assert stopped
    assert {row.error for row in stopped} == {None}


def test_the_reentrant_kind_is_marked_too(buffer: Path) -> None:
    gradient(lambda x: _checkpoint(in_tasks, x, use_reentrant=True))
    assert [is_recomputed(row) for row in tasks(buffer)] == [False, True]
    assert {row.status for row in tasks(buffer)} == {"FINISHED"}
    assert [metadata(row)["own"] for row in tasks(buffer)] == [1, 1]


def test_checkpoints_in_checkpoints_are_no_errors(buffer: Path) -> None:
    def outer(x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = _checkpoint(in_tasks, scale(x), use_reentrant=False)
        return scale(inner)

    expected = gradient(lambda x: scale(in_tasks(scale(x))))
    before = len(tasks(buffer))
    assert torch.equal(gradient(lambda x: _checkpoint(outer, x, use_reentrant=False)), expected)
    rows = tasks(buffer)[before:]
    assert {row.status for row in rows} == {"FINISHED"}
    assert sum(not is_recomputed(row) for row in rows) == 3


def test_tasks_in_a_captured_model_are_marked_as_its_forwards_are(buffer: Path) -> None:
    part = flowprov.torch_capture(Calls(in_tasks))
    gradient(lambda x: _checkpoint(part, x, use_reentrant=False))
    rows = tasks(buffer)
    assert {row.status for row in rows} == {"FINISHED"}
    assert [(row.activity_id, is_recomputed(row)) for row in rows] == [
        ("scale", False),
        ("Calls", False),
        ("scale", True),
        ("Calls", True),
    ]


def test_an_exception_of_the_program_in_a_recomputation_is_an_error(buffer: Path) -> None:
    calls = []

    @flowprov.task
    def fails_again(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if len(calls) == 2:
            raise ValueError("not twice")
        return x.sin().exp()

    with pytest.raises(ValueError, match="not twice"):
        gradient(lambda x: _checkpoint(fails_again, x, use_reentrant=False))
    first, again = tasks(buffer)
    assert (first.status, again.status) == ("FINISHED", "ERROR")
    assert is_recomputed(again)


def test_tasks_that_a_backward_calls_by_itself_are_not_marked(buffer: Path) -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(_ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return scale(gradients[0])

    gradient(Twice.apply)

    def hooked(x: Any) -> torch.Tensor:
        x.register_hook(scale)
        return torch.sin(x)

    gradient(hooked)
    assert [is_recomputed(row) for row in tasks(buffer)] == [False, False]


def test_it_holds_where_only_the_task_is_captured(buffer: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())

    def block(x: torch.Tensor) -> torch.Tensor:
        with flowprov.task_scope("block"):
            hidden: torch.Tensor = model(x)
        return hidden

    for _ in flowprov.EpochLoop(1):
        gradient(lambda x: _checkpoint(block, x, use_reentrant=False))
    epoch = only([row for row in tasks(buffer) if row.activity_id == "epoch_iteration"])
    blocks = [row for row in tasks(buffer) if row.activity_id == "block"]
    assert [is_recomputed(row) for row in blocks] == [False, True]
    assert {row.parent_task_id for row in blocks} == {epoch.task_id}
