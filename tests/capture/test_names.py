"""Names of any kind at every public entry: nothing is raised, and each name stands in the journal as text."""

from __future__ import annotations

import enum
import functools
import itertools
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowprov
from flowprov import guard, records
from flowprov.capture.handles import TaskHandle
from flowprov.runtime import runtime
from flowprov.values import as_id, as_name, as_names
from tests.support import lines, of_type, only, run, tasks
from tests.values import odd
from tests.values.test_properties import any_text, odd_values


class Phase(enum.Enum):
    """An enum, as configurations have them."""

    TRAIN = 1


def _step() -> tuple[int, int]:
    return 1, 2


# Each entry takes a value as a name in one place, and records one task whose activity is its own.


def _task(**options: Any) -> None:
    flowprov.task(**options)(_step)()


def _task_scope(name: Any = "scope", **options: Any) -> None:
    with flowprov.task_scope(name, **options):
        pass


def _loop(make: Callable[..., Any] = flowprov.Loop, **options: Any) -> None:
    for _ in make([0.5], **options):
        pass


def _handle(tag: Any) -> None:
    with flowprov.task_scope("handle") as handle:
        handle.add_tags(tag)


def _thread(name: Any) -> None:
    thread = threading.Thread(target=flowprov.task(_step))
    thread.name = name
    thread.start()
    thread.join()


def _activity(task: records.Task) -> Any:
    return task.activity_id


def _used_names(task: records.Task) -> Any:
    return list(task.used or {})


def _iteration(default: str, middle: str = "") -> Callable[[Any], Any]:
    return lambda value: f"{as_name(as_name(value, default) + middle, '')}_iteration"


def _written_key(value: Any) -> Any:
    name = as_name(value, "item")
    name = f"${name}" if name.startswith("$") else name
    return ["i"] if name == "i" else ["i", name]


# What is called with the value; what of the task's record holds it; and how it is written there.
ENTRIES: dict[str, tuple[Callable[[Any], Any], Callable[[records.Task], Any], Callable[[Any], Any]]] = {
    "task activity": (lambda v: _task(activity_id=v), _activity, lambda v: as_name(v) or "_step"),
    "task subtype": (lambda v: _task(subtype=v), lambda task: task.subtype, as_name),
    "task tags": (lambda v: _task(tags=[v]), lambda task: task.tags, lambda v: as_names([v]) or None),
    "task tag alone": (lambda v: _task(tags=v), lambda task: task.tags, lambda v: as_names(v) or None),
    "scope name": (_task_scope, _activity, lambda v: as_name(v, "task_scope")),
    "scope subtype": (lambda v: _task_scope(subtype=v), lambda task: task.subtype, as_name),
    "scope tags": (lambda v: _task_scope(tags=[v]), lambda task: task.tags, lambda v: as_names([v]) or None),
    "handle tag": (_handle, lambda task: task.tags, lambda v: as_names(v) or None),
    "loop name": (lambda v: _loop(name=v), _activity, _iteration("loop")),
    "loop item name": (lambda v: _loop(item_name=v), _used_names, _written_key),
    "loop workflow": (lambda v: _loop(workflow_id=v), lambda task: task.workflow_id, as_id),
    "loop parent": (lambda v: _loop(parent_task_id=v), lambda task: task.parent_task_id, as_id),
    "epoch parent": (
        lambda v: _loop(flowprov.EpochLoop, parent_task_id=v),
        lambda task: task.parent_task_id,
        as_id,
    ),
    "batch step": (lambda v: _loop(flowprov.BatchLoop, step=v), _activity, _iteration("train", "_batch")),
}

names = st.one_of(
    any_text,
    any_text.map(np.str_),
    st.binary(),
    st.integers(),
    st.floats(),
    st.none(),
    st.sampled_from([Phase.TRAIN, pathlib.PurePath("a/b"), ("a", 1), np.bytes_(b"\xff"), 2**70]),
    odd_values,
    # Created anew each time: some are used up. By position: Hypothesis must not show them.
    st.integers(0, len(odd.odd_objects()) - 1).map(lambda position: odd.odd_objects()[position]),
)


def _is_no_iterator(value: object) -> bool:
    """Whether names can be read from a value twice: by the entry, and by the test."""
    try:
        return not issubclass(type(value), Iterator)
    except RuntimeError:  # its class raises at every use
        return True


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_object_is_a_name(entry: str, buffer: Path) -> None:
    call, recorded, expected = ENTRIES[entry]
    written: list[Any] = []

    @settings(max_examples=60)
    @given(st.data())
    def record(data: st.DataObject) -> None:
        value = data.draw(names.filter(_is_no_iterator))
        call(value)
        written.append(expected(value))

    with flowprov.workflow("names") as wf:
        record()
    assert [recorded(task) for task in tasks(buffer)] == [
        wf.workflow_id if entry == "loop workflow" and value is None else value for value in written
    ]
    assert only(of_type(lines(buffer), records.Footer) or [None]) is None
    runtime.shutdown()
    footer = only(of_type(lines(buffer), records.Footer))
    assert (footer.dropped, footer.internal_errors) == (None, None)


def test_any_object_is_the_name_of_a_workflow_and_of_a_campaign(buffer: Path) -> None:
    written: list[tuple[Any, ...]] = []

    @settings(max_examples=60)
    @given(names, names, names, names)
    def record(name: Any, subtype: Any, campaign_id: Any, workflow_id: Any) -> None:
        if callable(name):
            name = str(type(name))
        with (
            flowprov.campaign(name, campaign_id=campaign_id) as campaign,
            flowprov.workflow(
                name,
                subtype=subtype,
                campaign_id=campaign_id,
                workflow_id=workflow_id,
                parent_workflow_id=workflow_id,
            ) as wf,
        ):
            _task_scope()
        assert campaign.campaign_id == as_id(campaign_id) or as_id(campaign_id) is None
        assert wf.workflow_id == as_id(workflow_id) or as_id(workflow_id) is None
        written.append((wf.workflow_id, as_name(name), as_name(subtype), as_id(workflow_id)))
        recorded_campaigns[campaign.campaign_id] = as_name(name)

    recorded_campaigns: dict[str, Any] = {}
    record()
    runtime.shutdown()
    everything = lines(buffer)
    openings = {
        (wf.workflow_id, wf.name, wf.subtype, wf.parent_workflow_id)
        for wf in of_type(everything, records.Workflow)
        if wf.status == "RUNNING"
    }
    assert openings == set(written)
    assert {task.workflow_id for task in tasks(buffer)} == {workflow_id for workflow_id, *_ in written}
    assert len(tasks(buffer)) == len(written)
    assert {campaign.campaign_id for campaign in of_type(everything, records.Campaign)} == set(
        recorded_campaigns
    )
    assert not any(footer.dropped or footer.internal_errors for footer in of_type(everything, records.Footer))


def test_a_strange_id_is_found_again_by_itself(buffer: Path) -> None:
    strange = (np.str_("a"), 7, Phase.TRAIN, b"caf\xe9", "caf\udce9", pathlib.PurePath("runs/1"))
    for workflow_id in strange:
        with flowprov.workflow("W", campaign_id=np.str_("C"), workflow_id=workflow_id):  # type: ignore[arg-type]
            _task_scope()
    for workflow_id in strange:
        rows: Any = flowprov.read_buffer(
            buffer,
            campaign_id=np.str_("C"),
            workflow_id=workflow_id,  # type: ignore[arg-type]
            return_df=False,
        )
        assert [row["activity_id"] for row in rows] == [None, "scope"]


def test_a_strange_name_of_a_thread_costs_no_record(buffer: Path) -> None:
    for name in ("caf\udce9", np.str_("fold"), 5):
        _thread(name)
    main = threading.main_thread()
    before, main.name = main.name, "m\udce9"
    try:
        with flowprov.workflow("W", campaign_id="another journal"):
            _task_scope()
    finally:
        main.name = before
    assert [task.thread for task in tasks(buffer)][:-1] == ["caf\\udce9", "fold", "5"]
    assert tasks(buffer)[-1].thread == "m\\udce9"


def test_a_function_of_any_name_is_recorded(buffer: Path) -> None:
    def odd_name() -> None: ...

    odd_name.__name__ = "caf\udce9"
    flowprov.task(odd_name)()
    flowprov.task(functools.partial(odd_name))()
    flowprov.workflow()(odd_name)()
    assert [task.activity_id for task in tasks(buffer)] == ["caf\\udce9", "partial"]
    assert of_type(lines(buffer), records.Workflow)[-2].name == "caf\\udce9"


def test_names_for_results_are_taken_from_anything(buffer: Path) -> None:
    given: list[Any] = [np.array(["a", "b"]), (Phase.TRAIN, b"b"), iter(["a", 2]), 3]
    for output_names in given:
        flowprov.task(output_names=output_names)(_step)()
    assert [task.generated for task in tasks(buffer)] == [
        {"a": 1, "b": 2},
        {"TRAIN": 1, "b": 2},
        {"a": 1, "2": 2},
        {"3": [1, 2]},
    ]


def test_inputs_and_metadata_of_any_kind_are_kept(buffer: Path) -> None:
    for strange in ([("lr", 0.1)], 0.5, "text", ["a", "b"], iter([1])):
        with flowprov.workflow("W", used=strange, custom_metadata=strange) as wf:  # type: ignore[arg-type]
            _task_scope(used=strange, custom_metadata=strange)
            flowprov.task(custom_metadata=strange)(_step)()  # type: ignore[call-overload]
            handle = flowprov.current_workflow()
            assert handle is not None
            handle.custom_metadata["k"] = 1
        ending = of_type(lines(buffer), records.Workflow)[-1]
        assert (ending.workflow_id, ending.status) == (wf.workflow_id, "FINISHED")
        assert ending.custom_metadata["k"] == 1
    opened = [wf for wf in of_type(lines(buffer), records.Workflow) if wf.status == "RUNNING"]
    kept = [{"lr": 0.1}, 0.5, "text", ["a", "b"]]
    assert [wf.used for wf in opened][:4] == [kept[0], *({"used": value} for value in kept[1:])]
    metadata = [kept[0], *({"custom_metadata": value} for value in kept[1:])]
    assert [wf.custom_metadata for wf in opened][:4] == metadata
    assert [task.custom_metadata for task in tasks(buffer)][:8:2] == metadata
    assert [task.custom_metadata for task in tasks(buffer)][1:8:2] == metadata


def test_the_environment_is_not_recorded_as_inputs(buffer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "told")
    with flowprov.workflow("W", used=os.environ):
        _task_scope(used=os.environ)
    assert "told" not in "".join(path.read_text() for path in buffer.rglob("*.jsonl"))


def _scripts(folder: Path) -> Iterator[tuple[str, Path]]:
    for name in ("train é.py", "caf\udce9.py"):
        yield as_name(name.removesuffix(".py"), ""), folder / name


def test_a_script_of_any_name_is_recorded(tmp_path: Path) -> None:
    code = "import flowprov, runpy, sys; sys.argv = [sys.argv[1]]; runpy.run_path(sys.argv[0])"
    for expected, script in _scripts(tmp_path):
        script.write_text("import flowprov\nflowprov.task(lambda: 1)()\n")
        folder = tmp_path / expected.encode("ascii", "replace").decode().replace("\\", "_")
        folder.mkdir()
        run(code, folder, str(script))
        opening = of_type(lines(folder), records.Workflow)[0]
        assert opening.name == expected
        assert len(tasks(folder)) == 1
        header = only(of_type(lines(folder), records.Header))
        assert header.program == f"{expected}.py"


def test_an_id_with_nul_does_not_keep_children_from_starting(tmp_path: Path) -> None:
    run(
        """
        import subprocess, sys, flowprov
        with flowprov.workflow("W", campaign_id="c\\0", workflow_id="w\\0" + "x" * 200_000):
            for _ in flowprov.Loop(1, parent_task_id="t\\0"):
                child = "import flowprov; flowprov.task(lambda: 1)()"
                subprocess.run([sys.executable, "-c", child], check=True)
        """,
        tmp_path,
    )
    child = next(task for task in tasks(tmp_path) if task.activity_id == "<lambda>")
    assert child.workflow_id is not None
    assert child.workflow_id.startswith("w\\x00xxx")


def test_a_variable_of_the_environment_may_hold_any_bytes(tmp_path: Path) -> None:
    run(
        "import flowprov\nflowprov.task(lambda: 1)()\n",
        tmp_path,
        env={"FLOWPROV_CAMPAIGN_ID": "caf\udce9", "FLOWPROV_WORKFLOW_ID": "w\udce9"},
    )
    assert only(tasks(tmp_path)).workflow_id == "w\\udce9"
    assert only(of_type(lines(tmp_path), records.Header)).campaign_id == "caf\\udce9"


def test_a_handle_of_a_task_that_is_not_recorded_takes_any_tag() -> None:
    handle = TaskHandle(None)
    for value in itertools.chain(odd.odd_objects(), [None, np.str_("x"), b"\xff"]):
        handle.add_tags(value)
    assert guard.internal_errors() == {}
