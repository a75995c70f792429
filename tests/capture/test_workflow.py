"""Campaigns and workflows: what belongs to which, and when it is on disk."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import flowprov
from flowprov import records
from flowprov.errors import UsageError
from flowprov.runtime import runtime
from tests.support import lines, of_type, only, run, tasks


@flowprov.task
def step() -> None: ...


def _workflows(buffer: Path) -> list[records.Workflow]:
    return of_type(lines(buffer), records.Workflow)


def test_a_workflow_is_on_disk_as_soon_as_it_opens(buffer: Path) -> None:
    with flowprov.workflow("Search", used={"grid": [1, 2]}, subtype="hpo", custom_metadata={"k": 1}) as wf:
        opened = only(_workflows(buffer))
        assert opened.workflow_id == wf.workflow_id
        assert (opened.name, opened.status, opened.subtype) == ("Search", "RUNNING", "hpo")
        assert (opened.used, opened.custom_metadata) == ({"grid": [1, 2]}, {"k": 1})
        assert opened.machine_info
        assert opened.settings
        wf.set_generated(best=3)
    given, ended = _workflows(buffer)[1:]
    assert (given.workflow_id, given.status, given.generated) == (wf.workflow_id, None, {"best": 3})
    assert (ended.workflow_id, ended.status, ended.generated) == (wf.workflow_id, "FINISHED", {"best": 3})
    assert ended.ended_at is not None
    assert opened.started_at is not None
    assert ended.ended_at >= opened.started_at


def test_a_workflow_inside_a_workflow_is_its_child_in_the_same_campaign(buffer: Path) -> None:
    with flowprov.workflow("Outer") as outer, flowprov.workflow("Inner") as inner:
        step()
    opened = [wf for wf in _workflows(buffer) if wf.status == "RUNNING"]
    assert opened[1].parent_workflow_id == outer.workflow_id
    assert inner.campaign_id == outer.campaign_id
    assert only(tasks(buffer)).workflow_id == inner.workflow_id


def test_an_exception_inside_is_recorded_and_passes_through(buffer: Path) -> None:
    with pytest.raises(ValueError, match="bad"), flowprov.workflow("W"):
        raise ValueError("bad")
    ended = _workflows(buffer)[-1]
    assert ended.status == "ERROR"
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("ValueError", "bad")


def test_as_a_decorator_each_call_is_a_workflow(buffer: Path) -> None:
    @flowprov.workflow()
    def search(n: int) -> int:
        step()
        return n

    @flowprov.workflow("Named")
    async def later() -> str | None:
        handle = flowprov.current_workflow()
        assert handle is not None
        return handle.workflow_id

    assert search(1) == 1
    assert search(2) == 2
    inside = asyncio.run(later())
    opened = [wf for wf in _workflows(buffer) if wf.status == "RUNNING"]
    assert [wf.name for wf in opened] == ["search", "search", "Named"]
    assert len({wf.workflow_id for wf in opened}) == 3
    assert opened[2].workflow_id == inside
    with pytest.raises(UsageError, match="with the parentheses"):
        flowprov.workflow(search)  # type: ignore[arg-type]


def test_start_and_stop_do_the_same_as_a_with_block(buffer: Path) -> None:
    wf = flowprov.workflow("W").start()
    step()
    wf.stop()
    wf.stop()
    assert [record.status for record in _workflows(buffer)] == ["RUNNING", "FINISHED"]
    assert only(tasks(buffer)).workflow_id == wf.workflow_id


def test_a_workflow_stopped_in_another_context_gets_no_more_tasks(buffer: Path) -> None:
    wf = flowprov.workflow("W").start()
    thread = threading.Thread(target=wf.stop)
    thread.start()
    thread.join()
    step()
    assert only(tasks(buffer)).workflow_id != wf.workflow_id


def test_a_thread_belongs_to_the_open_workflow_and_to_no_task(buffer: Path) -> None:
    with flowprov.workflow("W") as wf, flowprov.task_scope("outer") as outer:
        threads = [threading.Thread(target=target, name="T") for target in (step, flowprov.bind(step))]
        for thread in threads:
            thread.start()
            thread.join()
    loose, bound = (task for task in tasks(buffer) if task.activity_id == "step")
    assert loose.workflow_id == bound.workflow_id == wf.workflow_id
    assert loose.parent_task_id is None
    assert bound.parent_task_id == outer.task_id
    assert loose.thread == "T"


def test_given_ids_are_kept(buffer: Path) -> None:
    with flowprov.workflow("W", workflow_id="w-1", campaign_id="c-1", parent_workflow_id="p-1") as wf:
        assert (wf.workflow_id, wf.campaign_id) == ("w-1", "c-1")
    opened = _workflows(buffer)[0]
    assert (opened.workflow_id, opened.parent_workflow_id) == ("w-1", "p-1")
    assert only(of_type(lines(buffer), records.Header)).campaign_id == "c-1"


def test_a_campaign_is_recorded_by_name_and_holds_the_workflows_that_open_in_it(buffer: Path) -> None:
    with flowprov.campaign("paper") as paper, flowprov.workflow("W") as wf:
        assert wf.campaign_id == paper.campaign_id
    recorded = only(of_type(lines(buffer), records.Campaign))
    assert (recorded.campaign_id, recorded.name) == (paper.campaign_id, "paper")
    with flowprov.workflow("Later") as later:
        assert later.campaign_id != paper.campaign_id


def test_without_a_campaign_all_workflows_of_a_process_share_one(buffer: Path) -> None:
    with flowprov.workflow("A") as a:
        pass
    with flowprov.workflow("B") as b:
        pass
    assert a.campaign_id == b.campaign_id


def test_the_current_workflow_has_a_handle(buffer: Path) -> None:
    assert flowprov.current_workflow() is None
    with flowprov.workflow("W") as wf, flowprov.task_scope("t"):
        handle = flowprov.current_workflow()
        assert handle is not None
        assert handle.workflow_id == wf.workflow_id
        handle.set_generated(best=1)
        handle.custom_metadata["note"] = "x"
    ended = _workflows(buffer)[-1]
    assert (ended.generated, ended.custom_metadata) == ({"best": 1}, {"note": "x"})


def test_a_workflow_takes_tags_before_it_opens_while_it_is_open_and_behind_its_end(buffer: Path) -> None:
    wf = flowprov.workflow("W")
    wf.add_tags("early")
    with wf:
        wf.add_tags("first try", "baseline")
    wf.add_tags("best")
    row = only([row for row in flowprov.read_buffer(buffer, merge=True, return_df=False) if row["name"]])
    assert row["custom_metadata"] == {"tags": ["early", "first try", "baseline", "best"]}


def test_tags_of_a_workflow_are_taken_where_nothing_is_recorded(tmp_path: Path) -> None:
    code = """
        import flowprov

        with flowprov.workflow("W") as wf:
            wf.add_tags("first try")
        print(flowprov.current_workflow())
    """
    for environment in ({"FLOWPROV_DISABLED": "1"}, {"FLOWPROV__INSTRUMENTATION__ENABLED": "false"}):
        assert run(code, tmp_path, env=environment) == ("None\n", "")


def test_a_workflow_that_is_open_when_the_process_ends_has_no_end_and_is_in_the_footer(
    tmp_path: Path,
) -> None:
    run("import flowprov; flowprov.workflow('W', workflow_id='w').start()", tmp_path)
    written = lines(tmp_path)
    assert [wf.status for wf in of_type(written, records.Workflow)] == ["RUNNING"]
    assert only(of_type(written, records.Footer)).open == ["w"]


def test_the_implicit_workflow_is_named_after_the_program_and_ends_with_it(tmp_path: Path) -> None:
    code = """
        import flowprov
        @flowprov.task
        def f(): pass
        f()
        {}
    """
    for folder, ending, status in (("a", "", "FINISHED"), ("b", "raise ValueError(1)", "ERROR")):
        (tmp_path / folder).mkdir()
        run(code.format(ending), tmp_path / folder, status=None)
        opened, ended = _workflows(tmp_path / folder)
        assert (opened.name, opened.subtype) == ("program", "implicit")
        assert ended.status == status


def test_campaigns_that_begin_after_a_new_configuration_go_to_the_new_buffer(
    buffer: Path, tmp_path: Path
) -> None:
    with flowprov.workflow("A"):
        flowprov.configure(journal={"path": str(tmp_path / "other")})
        step()
    with flowprov.workflow("B", campaign_id="b"):
        step()
    assert [wf.name for wf in _workflows(buffer) if wf.name] == ["A"]
    assert len(tasks(buffer)) == 1
    assert [wf.name for wf in _workflows(tmp_path / "other") if wf.name] == ["B"]


def test_settings_that_cannot_be_used_stop_a_program_at_its_first_event(tmp_path: Path) -> None:
    code = """
        import flowprov
        @flowprov.task
        def f(): pass
        f()
    """
    (tmp_path / "settings.yaml").write_text("flowprov: 1\njournal:\n  heartbeet: 3\n")
    _, errors = run(code, tmp_path, status=1)
    assert "SettingsError" in errors
    assert "heartbeat" in errors


def test_captured_is_written_plus_dropped(buffer: Path) -> None:
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(10):
            step()
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    in_file = lines(buffer)
    rows = len(of_type(in_file, records.Task)) + len(of_type(in_file, records.Workflow))
    assert captured == written + sum(dropped.values()) == rows == 22


def test_a_child_process_adds_to_the_workflow_of_its_parent(tmp_path: Path) -> None:
    code = """
        import os
        import flowprov
        with flowprov.workflow("W", workflow_id="w") as workflow:
            workflow.set_generated(mine=1)
            if os.fork() == 0:
                flowprov.current_workflow().set_generated(theirs=2)
                os._exit(0)
            os.wait()
    """
    run(code, tmp_path)
    row = only(flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False))
    assert row["generated"] == {"mine": 1, "theirs": 2}
    assert row["status"] == "FINISHED"


def test_a_block_that_was_left_without_its_exit_ends_before_the_next_event(buffer: Path) -> None:
    """A signal handler may raise on the way into ``__exit__``: then none of its code runs."""
    with flowprov.workflow("around") as around:
        inside = flowprov.workflow("inside")
        inside_id = inside.workflow_id
        inside.__enter__()
        step()
        del inside
        step()
    assert [task.workflow_id for task in tasks(buffer)] == [inside_id, around.workflow_id]
    end = only([one for one in _workflows(buffer) if one.workflow_id == inside_id and one.ended_at])
    assert (end.status, end.error and end.error.message) == ("ERROR", "left without reaching its end")


def test_a_workflow_that_was_started_goes_on_without_its_object(buffer: Path) -> None:
    workflow_id = flowprov.workflow("W").start().workflow_id
    step()
    assert only(tasks(buffer)).workflow_id == workflow_id
    assert [one.status for one in _workflows(buffer)] == ["RUNNING"]


def test_a_campaign_inside_a_workflow_is_that_of_the_workflow_and_names_it_once(buffer: Path) -> None:
    with flowprov.workflow("around"):
        with flowprov.campaign("first") as first, flowprov.workflow("inside"):
            pass
        with flowprov.campaign("second") as second, flowprov.campaign(campaign_id="given") as given:
            pass
    runtime.shutdown()
    (campaign,) = flowprov.campaigns(buffer).to_dict("records")
    assert campaign["name"] == "first"
    assert first.campaign_id == second.campaign_id == campaign["campaign_id"] != given.campaign_id


def test_a_campaign_behind_a_task_without_a_workflow_names_what_the_task_began(buffer: Path) -> None:
    flowprov.task(len)([])
    with flowprov.campaign("later"), flowprov.workflow("w"):
        pass
    runtime.shutdown()
    (campaign,) = flowprov.campaigns(buffer).to_dict("records")
    assert campaign["name"] == "later"
