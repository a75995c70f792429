"""The workflows of a model: when they begin and end, and one for each workflow of the program."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import records
from tests.support import lines, of_type, only, run
from tests.torch.support import Calls, Net, Plain, batch, children, ending, forwards, openings


def implicit(buffer: Path) -> list[records.Workflow]:
    return [each for each in of_type(lines(buffer), records.Workflow) if each.subtype == "implicit"]


# -- capturing opens nothing --------------------------------------------------------------------------------


def decorated() -> None:
    Net()


def instance() -> None:
    flowprov.torch_capture(Plain())


def with_children() -> None:
    flowprov.torch_capture(Plain(), what="parent_and_children", get_profile=True)


def script_module() -> None:
    script: Any = torch.jit
    flowprov.torch_capture(script.script(torch.nn.Linear(3, 2)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("capture", [decorated, instance, with_children, script_module])
def test_capturing_a_model_opens_nothing(buffer: Path, capture: Any) -> None:
    capture()
    assert flowprov.current_workflow() is None
    assert list(buffer.rglob("*.jsonl")) == []


@pytest.mark.parametrize("capture", [decorated, instance, with_children])
def test_capturing_a_model_in_a_workflow_opens_none_for_it(buffer: Path, capture: Any) -> None:
    with flowprov.workflow("W"):
        capture()
    assert openings(buffer) == []


def test_workflows_after_a_captured_model_are_no_children_of_an_implicit_one(buffer: Path) -> None:
    model = Net()
    with flowprov.workflow("first"):
        model(batch())
    with flowprov.workflow("second"):
        pass
    programs = [each for each in of_type(lines(buffer), records.Workflow) if each.name in ("first", "second")]
    assert [each.parent_workflow_id for each in programs if each.name] == [None, None]
    assert implicit(buffer) == []


def test_the_settings_that_come_after_a_captured_model_hold(tmp_path: Path) -> None:
    run(
        """
        import torch, flowprov
        model = flowprov.torch_capture(torch.nn.Linear(2, 2))
        flowprov.configure(journal={"path": "elsewhere"})
        with flowprov.workflow("W"):
            model(torch.ones(1, 2))
        """,
        tmp_path,
    )
    assert not (tmp_path / "flowprov_buffer").exists()
    assert len(forwards(tmp_path / "elsewhere")) == 1
    assert implicit(tmp_path / "elsewhere") == []


# -- where it begins ----------------------------------------------------------------------------------------


def test_a_model_begins_with_its_first_forward_in_the_workflow_there(buffer: Path) -> None:
    with flowprov.workflow("building", workflow_id="b"):
        model = Net()
    with flowprov.workflow("training", workflow_id="t"), flowprov.task_scope("step"):
        assert openings(buffer) == []
        model(batch())
        opening = only(openings(buffer))
    assert opening.parent_workflow_id == "t"
    assert only(forwards(buffer)).workflow_id == opening.workflow_id


def test_a_part_that_is_called_by_itself_begins_the_workflow_of_its_model(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain(), what="parent_and_children", get_profile=True)
    with flowprov.workflow("W", workflow_id="w"):
        model.linear(batch())
    opening = only(openings(buffer))
    assert opening.parent_workflow_id == "w"
    assert opening.custom_metadata["model_profile"]["params"] == 8
    assert only(children(buffer)).workflow_id == opening.workflow_id


def test_a_part_outlives_its_model(buffer: Path) -> None:
    part = flowprov.torch_capture(Plain(), what="parent_and_children").linear
    with flowprov.workflow("W"):
        part(batch())
    assert only(children(buffer)).workflow_id == only(openings(buffer)).workflow_id


# -- a second workflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["parent_only", "parent_and_children", None])
def test_a_model_that_is_used_in_a_second_workflow_is_recorded_under_that_one(
    buffer: Path, what: str | None
) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"torch": {"what": what, "tensor_statistics": True}}
    )
    model = Net()
    for name in ("first", "second"):
        with flowprov.workflow(name, workflow_id=name):
            for _ in flowprov.EpochLoop(2):
                model(batch())
    opened = openings(buffer)
    assert [each.parent_workflow_id for each in opened] == ["first", "second"]
    assert len({each.workflow_id for each in opened}) == 2
    expected = [opened[0].workflow_id] * 2 + [opened[1].workflow_id] * 2
    assert [each.workflow_id for each in forwards(buffer)] == (expected if what else [])
    ends = [ending(buffer, each.workflow_id) for each in opened]
    assert [end.status for end in ends if end is not None] == ["FINISHED", "FINISHED"]


def test_a_model_returns_to_its_workflow_after_a_nested_one(buffer: Path) -> None:
    model = Net()
    with flowprov.workflow("training", workflow_id="t"):
        model(batch(1))
        for _ in range(2):
            with flowprov.workflow("evaluation", workflow_id="e"):
                model(batch(2))
        model(batch(3))
    by_parent = {each.workflow_id: each.parent_workflow_id for each in openings(buffer)}
    assert [by_parent[str(each.workflow_id)] for each in forwards(buffer)] == ["t", "e", "e", "t"]
    # The evaluations are two workflows of one id: the model's workflow in the first ended with that.
    assert sorted(map(str, by_parent.values())) == ["e", "e", "t"]
    assert len({each.workflow_id for each in forwards(buffer)}) == 3


def test_workflows_of_threads_that_share_a_model_are_kept_apart(buffer: Path) -> None:
    model = Net()
    together = threading.Barrier(2)

    def train(name: str) -> None:
        with flowprov.workflow(name, workflow_id=name):
            for _ in flowprov.Loop(20, name=name):
                together.wait()
                model(batch())

    threads = [threading.Thread(target=train, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_id = {each.workflow_id: each.parent_workflow_id for each in openings(buffer)}
    assert sorted(map(str, by_id.values())) == ["a", "b"]
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row.get("parent_task_id")]
    loop_of = {
        row["task_id"]: row["activity_id"].removesuffix("_iteration")
        for row in flowprov.read_buffer(buffer, return_df=False)
        if row["subtype"] == "iteration"
    }
    assert len(rows) == 40
    assert all(by_id[row["workflow_id"]] == loop_of[row["parent_task_id"]] for row in rows)


def test_a_model_inside_another_stays_one_workflow_wherever_it_is_called(buffer: Path) -> None:
    inner = Net()
    outer = flowprov.torch_capture(Calls(inner), name="outer")
    with flowprov.workflow("W", workflow_id="w"):
        for _ in range(3):
            inner(batch())
            outer(batch())
    assert sorted(str(each.name) for each in openings(buffer)) == ["Net", "outer"]
    assert len(forwards(buffer)) == 9


def test_a_model_goes_on_in_the_implicit_workflow_after_one_of_the_program(buffer: Path) -> None:
    model = Net()
    with flowprov.workflow("W", workflow_id="w"):
        model(batch())
    model(batch())
    first, second = openings(buffer)
    assert first.parent_workflow_id == "w"
    assert second.parent_workflow_id == only(implicit(buffer)).workflow_id
    assert [each.workflow_id for each in forwards(buffer)] == [first.workflow_id, second.workflow_id]


def test_each_workflow_of_a_model_has_the_operations_that_its_first_forward_counted(buffer: Path) -> None:
    model = flowprov.torch_capture(Plain(), get_profile=True)
    for name in ("first", "second"):
        with flowprov.workflow(name):
            model(batch())
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["subtype"] == "torch_model"]
    profiles = [row["custom_metadata"]["model_profile"] for row in rows]
    assert [each["flops"] for each in profiles] == [48, 48]
    assert [each["params"] for each in profiles] == [8, 8]


def test_a_backward_belongs_to_the_workflow_of_its_forward(buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, instrumentation={"torch": {"backward": True}})
    model = Net()
    for name in ("first", "second"):
        with flowprov.workflow(name):
            model(batch()).sum().backward()
    expected = [each.workflow_id for each in openings(buffer)]
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert [row["workflow_id"] for row in rows if row["subtype"] == "backward"] == expected
    assert len(set(expected)) == 2
