"""An exception that a signal handler raises passes through the hooks of forwards, wherever it arrives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import records
from flowprov.runtime import context, runtime
from tests.interrupting import interrupted
from tests.support import lines

KINDS: dict[str, dict[str, Any]] = {
    "parent": {"what": "parent_only"},
    "children": {"what": "parent_and_children", "children_mode": "lightweight"},
    "inspected": {"what": "parent_and_children", "children_mode": "tensor_inspection"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_exception_of_a_handler_passes_through_every_hook(buffer: Path, kind: str) -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    model = flowprov.torch_capture(plain, **KINDS[kind])
    x = torch.ones(2, 4)
    with flowprov.workflow("w"):
        scope = context.current.get()
        journal = next(iter(runtime.get().journals()))
        model(x)
        model(x)
        workflows = set(journal.open_scopes)
        position, arrived = 1, True
        while arrived:
            arrived = interrupted(lambda: model(x), position)
            model(x)  # it closes a forward that was cut between the model and its hooks
            assert context.current.get() is scope
            assert set(journal.open_scopes) == workflows
            position += 1
        assert position > 10
    captured, written, dropped = journal.counts()
    events = [line for line in lines(buffer) if type(line) in (records.Task, records.Workflow)]
    assert written == len(events)
    assert captured == written + sum(dropped.values())
    assert set(dropped) <= {"interrupted"}
    rows = flowprov.read_buffer(buffer, return_df=False)
    ids = [row["task_id"] for row in rows if row["task_id"]]
    assert len(ids) == len(set(ids))
    missing = {row["parent_task_id"] for row in rows} - {None, *ids}
    assert len(missing) <= dropped.get("interrupted", 0)
