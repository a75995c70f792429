"""Names of any kind given to a captured model: text in the record, nothing raised."""

from __future__ import annotations

import enum
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowprov
from flowprov import records
from flowprov.values import as_id, as_name
from tests.support import lines, of_type, tasks
from tests.torch.support import Net, Plain


class Phase(enum.Enum):
    """An enum, as configurations have them."""

    TRAIN = 1


NAMES = (np.str_("net"), "caf\udce9", Phase.TRAIN, b"caf\xe9", 7, pathlib.PurePath("a/b"), object)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_any_name(buffer: Path, name: Any) -> None:
    model = flowprov.torch_capture(Plain(), name=name)
    with flowprov.workflow("W"):
        model(torch.ones(1, 3))
    assert [task.activity_id for task in tasks(buffer)] == [as_name(name)]
    assert as_name(name) in {wf.name for wf in of_type(lines(buffer), records.Workflow)}


@pytest.mark.parametrize("name", NAMES)
def test_a_constructor_takes_ids_of_any_kind(buffer: Path, name: Any) -> None:
    with flowprov.workflow("W"):
        model: Any = Net(parent_task_id=name, parent_workflow_id=name, campaign_id=name)  # type: ignore[call-arg]
        model(torch.ones(1, 3))
    (task,) = tasks(buffer)
    assert (task.parent_task_id, task.campaign_id) == (as_id(name), as_id(name))
    parents = {wf.parent_workflow_id for wf in of_type(lines(buffer), records.Workflow)}
    assert as_id(name) in parents


def test_a_module_has_any_name(buffer: Path) -> None:
    torch_settings = {"what": "parent_and_children"}
    flowprov.configure(journal={"path": str(buffer)}, instrumentation={"torch": torch_settings})
    model = torch.nn.Sequential()
    model.add_module("caf\udce9", torch.nn.Linear(3, 2))
    flowprov.torch_capture(model, get_profile=True)
    with flowprov.workflow("W"):
        model(torch.ones(1, 3))
    assert [task.activity_id for task in tasks(buffer)] == ["Linear", "Sequential"]
