"""Loops: one record per iteration that was entered, however the loop ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

import flowprov
from flowprov import guard, records
from flowprov.runtime import runtime
from tests.support import lines, of_type, only, tasks


def _positions(iterations: list[records.Task]) -> list[int]:
    return [task.used["i"] for task in iterations if task.used]


def test_every_iteration_is_one_record_with_position_and_item(buffer: Path) -> None:
    loop = flowprov.Loop(["a", "b"], name="files", item_name="file")
    for item in loop:
        loop.end_iter({"seen": item})
    first, second = tasks(buffer)
    assert first.activity_id == "files_iteration"
    assert first.subtype == "iteration"
    assert first.used == {"i": 0, "file": "a"}
    assert first.generated == {"seen": "a"}
    assert second.used == {"i": 1, "file": "b"}
    assert first.group_id == second.group_id
    assert first.group_id is not None
    assert first.status == second.status == "FINISHED"
    assert first.custom_metadata is None


def test_the_loop_yields_the_items_themselves(buffer: Path) -> None:
    items = [object(), object()]
    assert list(flowprov.Loop(items)) == items
    assert list(flowprov.Loop(3)) == [0, 1, 2]
    assert list(flowprov.Loop(iter("ab"))) == ["a", "b"]
    assert list(flowprov.Loop([])) == []


def test_nothing_is_read_ahead(buffer: Path) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    for number in flowprov.Loop(source()):
        assert read == list(range(number + 1))
        if number == 3:
            break
    assert read == [0, 1, 2, 3]
    assert _positions(tasks(buffer)) == [0, 1, 2, 3]


def test_the_length_is_that_of_the_items_or_the_given_total() -> None:
    assert len(flowprov.Loop([1, 2])) == 2
    assert len(flowprov.Loop(7)) == 7
    assert len(flowprov.Loop(iter([]), total=5)) == 5
    with pytest.raises(TypeError):
        len(flowprov.Loop(iter([])))
    assert list(flowprov.Loop(iter([1]))) == [1], "list() asks for a length hint and does without one"


def test_end_iter_merges_the_values_of_several_calls(buffer: Path) -> None:
    loop = flowprov.Loop(2)
    for i in loop:
        loop.end_iter({"loss": 1.0, "lr": 0.1})
        loop.end_iter({"loss": 0.5})
        if i:
            loop.end_iter(extra=True)
    first, second = tasks(buffer)
    assert first.generated == {"loss": 0.5, "lr": 0.1}
    assert second.generated == {"loss": 0.5, "lr": 0.1, "extra": True}


def test_end_iter_copies_the_values_when_it_is_called(buffer: Path) -> None:
    results = {"loss": 1.0}
    loop = flowprov.Loop(1)
    for _ in loop:
        loop.end_iter(results)
        results["loss"] = 2.0
    assert only(tasks(buffer)).generated == {"loss": 1.0}


def _by_break(loop: Any) -> None:
    for i in loop:
        if i == 1:
            break


def _by_return(loop: Any) -> None:
    for i in loop:
        if i == 1:
            return


@pytest.mark.parametrize("leave", [_by_break, _by_return])
def test_an_iteration_that_is_left_early_is_finished_and_marked_so(
    buffer: Path, leave: Callable[[Any], None]
) -> None:
    leave(flowprov.Loop(5))
    first, second = tasks(buffer)
    assert (first.status, first.custom_metadata) == ("FINISHED", None)
    assert (second.status, second.custom_metadata) == ("FINISHED", {"left_early": True})
    assert flowprov.current_task() is None


@pytest.mark.parametrize("wrap", [lambda loop: loop, tqdm], ids=["plain", "tqdm"])
def test_the_scope_that_sees_an_exception_corrects_the_iterations_that_it_left(
    buffer: Path, wrap: Callable[[Any], Any]
) -> None:
    def body() -> None:
        for _ in flowprov.Loop(2, name="early"):
            break
        for i in wrap(flowprov.Loop(5, name="outer")):
            for j in flowprov.Loop(5, name="inner"):
                if (i, j) == (1, 2):
                    raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"), flowprov.workflow("W"):
        body()
    by_id = {task.task_id: task for task in tasks(buffer)}
    corrected = []
    for correction in of_type(lines(buffer), records.Correction):
        (journal,) = of_type(lines(buffer), records.Header)
        task = by_id[f"{journal.journal_id}-{correction.task_id}"]
        corrected.append((task.activity_id, task.used["i"]))  # type: ignore[index]
        assert correction.status == "ERROR"
        assert correction.error is not None
        assert correction.error.message == "diverged"
    assert sorted(corrected) == [("inner_iteration", 2), ("outer_iteration", 1)]


def test_an_exception_that_is_caught_around_the_loop_writes_no_correction(buffer: Path) -> None:
    with flowprov.workflow("W"):
        try:
            for _ in flowprov.Loop(5):
                raise ValueError("caught")
        except ValueError:
            pass
    assert not of_type(lines(buffer), records.Correction)
    assert only(tasks(buffer)).custom_metadata == {"left_early": True}


def test_an_exception_of_the_iterable_reaches_the_program(buffer: Path) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(flowprov.Loop(source()))
    assert only(tasks(buffer)).status == "FINISHED"


def test_what_happens_in_an_iteration_is_its_child(buffer: Path) -> None:
    @flowprov.task
    def step() -> None: ...

    loop = flowprov.Loop(2)
    seen = []
    for _ in loop:
        step()
        seen.append(loop.current_task_id)
    assert loop.current_task_id is None
    recorded = tasks(buffer)
    iterations = [task for task in recorded if task.activity_id == "loop_iteration"]
    steps = [task for task in recorded if task.activity_id == "step"]
    assert [task.parent_task_id for task in steps] == [task.task_id for task in iterations] == seen


def test_a_parent_and_a_workflow_can_be_named(buffer: Path) -> None:
    with flowprov.workflow("W"):
        list(flowprov.Loop(1, parent_task_id="task-of-elsewhere", workflow_id="workflow-of-elsewhere"))
    task = only(tasks(buffer))
    assert (task.parent_task_id, task.workflow_id) == ("task-of-elsewhere", "workflow-of-elsewhere")


def test_capture_off_makes_it_a_plain_loop(buffer: Path) -> None:
    loop = flowprov.Loop([1, 2], capture_enabled=False)
    for _ in loop:
        loop.end_iter({"x": 1})
        assert loop.current_task_id is None
    assert lines(buffer) == []


def test_an_internal_error_costs_one_record_and_is_counted_and_the_loop_goes_on(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = flowprov.Loop(3)
    for i in loop:
        loop.end_iter({"i": i})
    assert list(flowprov.Loop(["a", "b"])) == ["a", "b"]
    monkeypatch.setattr("flowprov.capture.loops.clock", object())
    for _ in loop:
        pass
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    assert (captured, written, dropped) == (9, 6, {"fault": 3})
    assert _positions(tasks(buffer)) == [0, 1, 2, 0, 1]


def test_an_internal_error_in_end_iter_costs_the_values_and_not_the_iteration(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("internal")

    monkeypatch.setattr("flowprov.capture.metrics.encode", broken)
    loop = flowprov.Loop(3)
    for i in loop:
        loop.end_iter({"i": i})
    assert _positions(tasks(buffer)) == [0, 1, 2]
    assert sum(guard.internal_errors().values()) == 3


def test_a_loop_can_be_run_again_as_a_group_of_its_own(buffer: Path) -> None:
    loop = flowprov.Loop(2)
    list(loop)
    list(loop)
    assert len({task.group_id for task in tasks(buffer)}) == 2


def test_the_context_is_restored_however_loops_are_interleaved(buffer: Path) -> None:
    with flowprov.workflow("W"):
        one, two = iter(flowprov.Loop(3, name="one")), iter(flowprov.Loop(3, name="two"))
        next(one)
        next(two)
        next(one)
        del one, two
        assert flowprov.current_task() is None
    assert all(task.ended_at for task in tasks(buffer))


def test_loops_in_eight_threads_do_not_mix(buffer: Path) -> None:
    @flowprov.task
    def step(name: int) -> None: ...

    def work(name: int) -> None:
        for _ in flowprov.Loop(50, name=f"loop{name}"):
            step(name)

    with flowprov.workflow("W") as workflow:
        threads = [threading.Thread(target=work, args=(name,), name=f"T{name}") for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recorded = tasks(buffer)
    assert len(recorded) == 8 * 50 * 2
    assert len({task.task_id for task in recorded}) == len(recorded)
    assert {task.workflow_id for task in recorded} == {workflow.workflow_id}
    by_id = {task.task_id: task for task in recorded}
    for task in recorded:
        if task.activity_id == "step":
            assert task.used is not None
            assert by_id[task.parent_task_id].activity_id == f"loop{task.used['name']}_iteration"  # type: ignore[index]
            assert task.thread == f"T{task.used['name']}"


def test_epochs_and_batches_are_linked(buffer: Path) -> None:
    with flowprov.task_scope("train"):
        epochs = flowprov.EpochLoop(range(1, 3))
        for _ in epochs:
            batches = flowprov.BatchLoop(["x"], epochs, step="train")
            for _ in batches:
                batches.end_iter({"loss": 0.1})
            list(flowprov.BatchLoop(["y"], step="eval"))
            epochs.end_iter({"val_loss": 0.2})
    recorded = tasks(buffer)
    root = recorded[-1]
    epoch_rows = [task for task in recorded if task.activity_id == "epoch_iteration"]
    assert [task.used for task in epoch_rows] == [{"i": 0, "epoch": 1}, {"i": 1, "epoch": 2}]
    assert {task.parent_task_id for task in epoch_rows} == {root.task_id}
    for activity in ("train_batch_iteration", "eval_batch_iteration"):
        rows = [task for task in recorded if task.activity_id == activity]
        assert [task.parent_task_id for task in rows] == [task.task_id for task in epoch_rows]


def test_a_batch_that_is_thinned_out_records_nothing_inside(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"torch": {"capture_batches_at_every": 3}}
    )

    @flowprov.task
    def step(n: int) -> None: ...

    for n in flowprov.BatchLoop(7):
        step(n)
    recorded = tasks(buffer)
    assert _positions([task for task in recorded if task.activity_id == "train_batch_iteration"]) == [0, 3, 6]
    assert [task.used for task in recorded if task.activity_id == "step"] == [{"n": 0}, {"n": 3}, {"n": 6}]


def test_what_is_inside_a_loop_that_is_turned_off_belongs_to_the_enclosing_scope(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"torch": {"epoch_loop": None, "batch_loop": None}}
    )

    @flowprov.task
    def step() -> None: ...

    with flowprov.task_scope("train") as train:
        epochs = flowprov.EpochLoop(2)
        for _ in epochs:
            assert epochs.current_task_id is None
            for _ in flowprov.BatchLoop(2, epochs):
                step()
                current = flowprov.current_task()
                assert current is not None
                assert current.task_id == train.task_id
    recorded = tasks(buffer)
    assert [task.activity_id for task in recorded] == ["step"] * 4 + ["train"]
    assert {task.parent_task_id for task in recorded[:4]} == {train.task_id}


def test_a_handle_of_an_iteration_adds_to_it(buffer: Path) -> None:
    for _ in flowprov.Loop(1):
        handle = flowprov.current_task()
        assert handle is not None
        handle.add_tags("odd")
        handle.set_generated(size=3)
    assert (only(tasks(buffer)).tags, only(tasks(buffer)).generated) == (["odd"], {"size": 3})


def test_a_keyboard_interrupt_between_scopes_leaves_nothing_open(buffer: Path) -> None:
    from flowprov.runtime import context

    with flowprov.workflow("W"):
        with pytest.raises(KeyboardInterrupt), flowprov.task_scope("outer"):
            inner = flowprov.task_scope("jumped over")
            inner.__enter__()
            raise KeyboardInterrupt
        assert flowprov.current_task() is None
    assert context.current.get() is None
    by_name = {task.activity_id: task for task in tasks(buffer)}
    assert by_name["jumped over"].status == "ERROR"
    assert by_name["jumped over"].parent_task_id == by_name["outer"].task_id
    assert not any(journal.open_scopes for journal in runtime.get().journals())
