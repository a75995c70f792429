"""Where forwards belong, which of them are recorded, and the workflow of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov import records
from flowprov.runtime import context, runtime
from tests.support import lines, of_type, only, run, tasks
from tests.torch.support import Calls, Net, Plain, batch, ending, forwards, hooks, metadata, openings


def _configure(buffer: Path, **torch_settings: Any) -> None:
    flowprov.configure(journal={"path": str(buffer)}, instrumentation={"torch": torch_settings})


# -- parents ------------------------------------------------------------------------------------------------


def test_a_forward_belongs_to_the_innermost_iteration(buffer: Path) -> None:
    with flowprov.workflow("W"):
        model = Net()
        for _ in flowprov.EpochLoop(range(2)):
            for _ in flowprov.BatchLoop([10, 20]):
                model(batch())
    batches = [each for each in tasks(buffer) if each.activity_id == "train_batch_iteration"]
    found = forwards(buffer)
    assert [each.parent_task_id for each in found] == [each.task_id for each in batches]
    assert [metadata(each)["epoch"] for each in found] == [0, 0, 1, 1]


def test_the_epoch_of_a_forward_is_the_item_of_the_loop(buffer: Path) -> None:
    model = Net()
    for _ in flowprov.EpochLoop(["warm-up", {"lr": 0.1}]):
        model(batch())
    model(batch())
    assert [metadata(each)["epoch"] for each in forwards(buffer)] == ["warm-up", {"lr": 0.1}, None]


def test_the_parent_task_of_the_constructor_holds_only_outside_of_any_task(buffer: Path) -> None:
    model: Any = Net
    model = model(parent_task_id="t")
    with flowprov.workflow("W"):
        model(batch())
        with flowprov.task_scope("step") as step:
            model(batch())
            step_id = step.task_id
    assert [each.parent_task_id for each in forwards(buffer)] == ["t", step_id]


def test_the_parent_task_of_the_constructor_holds_for_a_model_without_a_workflow(buffer: Path) -> None:
    build: Any = Net
    model = build(parent_task_id="t", save_workflow=False)
    with flowprov.workflow("W", workflow_id="w"):
        model(batch())
        for _ in flowprov.Loop(1):
            model(batch())
    outside, inside = forwards(buffer)
    assert outside.parent_task_id == "t"
    assert inside.parent_task_id not in (None, "t")
    assert outside.workflow_id == inside.workflow_id == "w"


def test_iterations_without_rows_are_no_parents(buffer: Path) -> None:
    _configure(buffer, epoch_loop=None, batch_loop=None)
    model = Net()
    for _ in flowprov.EpochLoop(1):
        for _ in flowprov.BatchLoop(1):
            model(batch())
    assert only(forwards(buffer)).parent_task_id is None


# -- thinning -----------------------------------------------------------------------------------------------


def test_epochs_thin_the_forwards_inside_them_only(buffer: Path) -> None:
    _configure(buffer, capture_epochs_at_every=2)
    model = Net()
    for _ in flowprov.EpochLoop(range(5)):
        model(batch())
    model(batch())
    assert [metadata(each)["epoch"] for each in forwards(buffer)] == [0, 2, 4, None]


def test_batches_thin_the_forwards_inside_them(buffer: Path) -> None:
    _configure(buffer, capture_batches_at_every=3)
    model = Net()
    for _ in flowprov.EpochLoop(1):
        for _ in flowprov.BatchLoop(range(7)):
            model(batch())
    assert len(forwards(buffer)) == 3


@pytest.mark.parametrize("how", ["argument", "disabled", "instrumentation"])
def test_with_capture_off_there_are_no_hooks_and_no_records(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    options: dict[str, Any] = {}
    if how == "argument":
        options = {"capture_enabled": False}
    elif how == "disabled":
        monkeypatch.setenv("FLOWPROV_DISABLED", "1")
    else:
        flowprov.configure(journal={"path": str(buffer)}, instrumentation={"enabled": False})
    build: Any = Net
    model = build(custom_metadata={"a": 1}, **options)
    model(batch())
    assert hooks(model) == 0
    assert hooks(flowprov.torch_capture(Plain())) == (2 if how == "argument" else 0)
    assert forwards(buffer) == []


def test_with_what_null_only_the_model_is_recorded(buffer: Path) -> None:
    _configure(buffer, what=None)
    model = Net()
    model(batch())
    model(batch())
    assert only(openings(buffer)).name == "Net"
    assert forwards(buffer) == []


def test_the_argument_goes_above_the_setting(buffer: Path) -> None:
    _configure(buffer, what=None, register_workflow=False)
    assert hooks(Net()) == 0
    model = flowprov.torch_capture(Plain(), what="parent_only")
    model(batch())
    assert len(forwards(buffer)) == 1
    assert openings(buffer) == []


def test_each_instance_is_a_workflow_that_ends_with_the_enclosing_one(buffer: Path) -> None:
    with flowprov.workflow("W", workflow_id="w"):
        first, second = Net(), Net()
        for model in (first, second, second):
            model(batch())
        one, two = openings(buffer)
        assert ending(buffer, one.workflow_id) is None
    assert one.name == two.name == "Net"
    assert one.parent_workflow_id == two.parent_workflow_id == "w"
    assert one.workflow_id != two.workflow_id
    assert [each.workflow_id for each in forwards(buffer)] == [
        one.workflow_id,
        two.workflow_id,
        two.workflow_id,
    ]
    for each in (one, two):
        end = ending(buffer, each.workflow_id)
        assert end is not None
        assert end.status == "FINISHED"


def test_a_model_ends_with_the_task_or_iteration_in_which_it_was_built_and_used(buffer: Path) -> None:
    with flowprov.workflow("W"):
        with flowprov.task_scope("trial"):
            Net()(batch())
        for _ in flowprov.Loop(1, name="trial"):
            Net()(batch())
        for opening in openings(buffer):
            assert ending(buffer, opening.workflow_id) is not None
    assert len(openings(buffer)) == 2


def test_a_model_that_was_built_in_a_forward_ends_with_it(buffer: Path) -> None:
    def build_and_call(x: torch.Tensor) -> Any:
        return Net()(x)

    outer = flowprov.torch_capture(Calls(build_and_call))
    outer(batch())
    outer_opening, inner_opening = openings(buffer)
    assert inner_opening.parent_workflow_id == outer_opening.workflow_id
    assert ending(buffer, inner_opening.workflow_id) is not None
    assert ending(buffer, outer_opening.workflow_id) is None


def test_a_model_ends_with_the_error_of_the_enclosing_scope(buffer: Path) -> None:
    def train() -> None:
        with flowprov.workflow("W"):
            Net()(batch())
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        train()
    end = ending(buffer, only(openings(buffer)).workflow_id)
    assert end is not None
    assert end.status == "ERROR"
    assert end.error is not None
    assert end.error.message == "diverged"


def test_a_model_outside_of_any_workflow_opens_the_implicit_one(buffer: Path) -> None:
    Net()(batch())
    implicit = only([each for each in of_type(lines(buffer), records.Workflow) if each.subtype == "implicit"])
    assert only(openings(buffer)).parent_workflow_id == implicit.workflow_id
    runtime.shutdown()
    assert ending(buffer, only(openings(buffer)).workflow_id) is not None


def test_the_workflow_of_a_model_ends_before_the_enclosing_one(buffer: Path) -> None:
    with flowprov.workflow("W", workflow_id="w"):
        Net()(batch())
    ended = [each.workflow_id for each in of_type(lines(buffer), records.Workflow) if each.ended_at]
    assert ended == [only(openings(buffer)).workflow_id, "w"]


def test_constructor_options_are_recorded_with_the_workflow(buffer: Path) -> None:
    build: Any = Net
    model = build(
        parent_workflow_id="parent", campaign_id="other", custom_metadata={"trial": 7}, get_profile=True
    )
    model(batch())
    opening = only(openings(buffer / "other"))
    assert opening.parent_workflow_id == "parent"
    assert opening.custom_metadata["trial"] == 7
    assert opening.custom_metadata["model_profile"]["params"] == 8
    forward = only(forwards(buffer))
    assert forward.campaign_id == "other"
    assert forward.workflow_id == opening.workflow_id
    assert metadata(forward) == {
        "trial": 7,
        "is_training": True,
        "grad_enabled": True,
        "epoch": None,
        "module_path": "",
    }


def test_without_registration_forwards_belong_to_the_enclosing_workflow(buffer: Path) -> None:
    _configure(buffer, register_workflow=False)
    build: Any = Net
    with flowprov.workflow("W", workflow_id="w"):
        Net()(batch())
        build(save_workflow=True)(batch())
    first, second = forwards(buffer)
    assert first.workflow_id == "w"
    assert second.workflow_id == only(openings(buffer)).workflow_id


def test_a_warning_says_that_a_profile_needs_a_workflow(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build: Any = Net
    build(save_workflow=False, get_profile=True)
    assert "its profile is not either" in caplog.text


def test_in_a_muted_scope_a_model_is_captured_but_not_recorded_yet(buffer: Path) -> None:
    _configure(buffer, capture_batches_at_every=2)
    with flowprov.workflow("W", workflow_id="w"):
        model: Any = None
        for position in flowprov.BatchLoop(3):
            if position == 1:
                model = Net()
                model(batch())
                assert openings(buffer) == []
            if position == 2:
                model(batch())
    assert len(forwards(buffer)) == 1
    opening = only(openings(buffer))
    assert opening.parent_workflow_id == "w"
    assert ending(buffer, opening.workflow_id) is not None


def test_a_model_of_a_process_that_was_handed_a_task_ends_with_the_process(tmp_path: Path) -> None:
    run(
        """
        import torch, flowprov
        flowprov.torch_capture(torch.nn.Linear(2, 2))(torch.ones(1, 2))
        """,
        tmp_path,
        env={
            "FLOWPROV_CAMPAIGN_ID": "c",
            "FLOWPROV_WORKFLOW_ID": "w",
            "FLOWPROV_PARENT_TASK_ID": "journal-7",
        },
    )
    opening = only(openings(tmp_path))
    assert opening.parent_workflow_id == "w"
    assert only(forwards(tmp_path)).parent_task_id == "journal-7"
    end = ending(tmp_path, opening.workflow_id)
    assert end is not None
    assert end.status == "FINISHED"


def test_scopes_of_closed_runs_are_not_kept(buffer: Path) -> None:
    with flowprov.workflow("W"):
        model = Net()
        model(batch())
    assert context.current.get() is None
    model(batch())
    assert len(forwards(buffer)) == 2


def test_a_forked_child_goes_on_recording_a_captured_model(tmp_path: Path) -> None:
    run(
        """
        import os, torch, flowprov
        with flowprov.workflow("W", workflow_id="w"):
            model = flowprov.torch_capture(torch.nn.Linear(2, 2))
            model(torch.ones(1, 2))
            pid = os.fork()
            if pid == 0:
                model(torch.ones(3, 2))
                os._exit(0)
            os.waitpid(pid, 0)
        """,
        tmp_path,
    )
    found = forwards(tmp_path)
    assert {each.used["input"]["shape"][0] for each in found if each.used} == {1, 3}
    assert {each.workflow_id for each in found} == {only(openings(tmp_path)).workflow_id}
    assert len({each.pid for each in found}) == 2


def test_a_forward_under_a_default_device_is_recorded_alike(buffer: Path) -> None:
    model = Net()
    with torch.device("cpu"):
        model(batch())
    model(batch())
    first, second = forwards(buffer)
    assert first.used == second.used


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_is_looped_over_as_it_is(buffer: Path, workers: int) -> None:
    data = torch.utils.data.TensorDataset(torch.arange(6.0).reshape(6, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=workers)
    with flowprov.workflow("W"):
        loop = flowprov.BatchLoop(loader)
        assert len(loop) == 3
        seen = [rows for (rows,) in loop]
    assert torch.equal(torch.cat(seen), data.tensors[0])
    used = [task.used for task in tasks(buffer) if task.activity_id == "train_batch_iteration"]
    assert [each["batch"][0]["shape"] for each in used if each] == [[2, 1]] * 3
    headers = list(buffer.rglob("*.jsonl"))
    assert len(headers) == 1, "workers that captured nothing leave nothing behind"
