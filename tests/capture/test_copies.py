"""Objects that hold something that is open can be copied and pickled, and their copies record nothing."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard, records
from flowprov.runtime import context
from tests.support import lines, lines_of_program, of_type, tasks

cloudpickle = pytest.importorskip("cloudpickle")


def _through_pickle(original: Any) -> Any:
    return pickle.loads(pickle.dumps(original))


def _through_python_pickle(original: Any) -> Any:
    file = io.BytesIO()
    pickle._Pickler(file, protocol=2).dump(original)
    return pickle.loads(file.getvalue())


def _through_cloudpickle(original: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(original))


def _through_torch_save(original: Any) -> Any:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(original, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = [
    copy.copy,
    copy.deepcopy,
    _through_pickle,
    _through_python_pickle,
    _through_cloudpickle,
    _through_torch_save,
]


def _work(n: int = 1) -> int:
    return n


@flowprov.task
def _counted(n: int = 1) -> int:
    return n


class Trainer:
    """Holds everything that a program can hold of flowprov, as trainers do."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


def _in_an_open_program(check: Callable[[Trainer], None]) -> None:
    """Call back while everything is open, in the middle of an iteration."""
    campaign = flowprov.campaign("C").start()
    workflow = flowprov.workflow(
        "W", used={"lock": threading.Lock()}, custom_metadata={"lock": threading.Lock()}
    )
    workflow.start()
    step = flowprov.task_scope("step", used={"lock": threading.Lock()})
    with step as handle:
        epochs: Any = flowprov.EpochLoop(2, model=["a model"])
        for epoch in epochs:
            batches: Any = flowprov.BatchLoop([1.5, 2.5], epochs)
            for _ in batches:
                plain = flowprov.Loop(("a", "b"), name="plain")
                for _ in plain:
                    plain.end_iter(loss=1)
                    if epoch == 0:
                        continue
                    check(
                        Trainer(
                            campaign=campaign,
                            workflow=workflow,
                            step=step,
                            epochs=epochs,
                            batches=batches,
                            plain=plain,
                            task=handle,
                            current=flowprov.current_task(),
                            current_workflow=flowprov.current_workflow(),
                            bound=flowprov.bind(_work),
                            decorated=_counted,
                        )
                    )
                    workflow.stop()
                    campaign.stop()
                    return


@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_can_be_copied_while_it_runs(buffer: Path, way: Callable[[Any], Any]) -> None:
    def check(trainer: Trainer) -> None:
        parts = vars(trainer).items()
        copied = (
            Trainer(**{name: way(part) for name, part in parts}) if way is copy.copy else way(way(trainer))
        )
        before, scope = lines_of_program(buffer), context.current.get()
        opened = list(context.open_workflows)
        _use_everything(copied, trainer)
        assert lines_of_program(buffer) == before
        assert context.current.get() is scope
        assert list(context.open_workflows) == opened

    _in_an_open_program(check)
    assert guard.internal_errors() == {}
    # The originals were not touched by what happened to their copies.
    statuses = [wf.status for wf in of_type(lines(buffer), records.Workflow)]
    assert statuses == ["RUNNING", "FINISHED"]
    assert of_type(lines(buffer), records.Workflow)[-1].generated is None
    assert not any(task.tags for task in tasks(buffer))


def _use_everything(copied: Any, original: Any) -> None:
    """Call everything of the copies: they give what plain objects would give, and raise nothing."""
    assert list(copied.epochs) == [0, 1]
    assert copied.epochs.model == ["a model"]
    assert list(copied.batches) == [1.5, 2.5]
    assert list(copied.plain) == ["a", "b"]
    assert len(copied.plain) == 2
    for loop in (copied.epochs, copied.batches, copied.plain):
        assert loop.current_task_id is None
        loop.end_iter(loss=2)
        for _ in loop:
            loop.end_iter({"loss": 3})
    assert copied.task.task_id == original.task.task_id
    assert copied.current.task_id == original.current.task_id == original.plain.current_task_id
    assert copied.current_workflow.workflow_id == original.workflow.workflow_id == copied.workflow.workflow_id
    assert copied.current.campaign_id == original.campaign.campaign_id == copied.campaign.campaign_id
    for handle in (copied.task, copied.current, copied.current_workflow):
        handle.set_generated(score=1)
        handle.add_tags("copied")
        handle.custom_metadata["copied"] = True
    with copied.step as handle:
        assert handle.task_id is None
        handle.set_generated(a=1)
    copied.workflow.set_generated(score=2)
    with copied.workflow as entered:
        assert entered is copied.workflow
    copied.workflow.stop(ValueError("the copy's"))
    assert copied.workflow(_work)(3) == 3
    copied.campaign.start()
    copied.campaign.stop()
    assert copied.bound(4) == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "create",
    [lambda: flowprov.workflow("W"), lambda: flowprov.campaign("C"), lambda: flowprov.task_scope("T")],
)
def test_a_copy_of_what_was_never_opened_is_inert_too(
    buffer: Path, create: Callable[[], Any], way: Callable[[Any], Any]
) -> None:
    copied = way(create())
    with copied:
        repr(copied)
    assert not buffer.exists()
    assert list(context.open_workflows) == []


def test_the_original_goes_on_after_it_was_copied(buffer: Path) -> None:
    with flowprov.workflow("W") as wf:
        loop = flowprov.Loop(3, name="original")
        for i in loop:
            copy.deepcopy((loop, wf, flowprov.current_task()))
            loop.end_iter(square=i * i)
        wf.set_generated(done=True)
    assert [task.generated for task in tasks(buffer)] == [{"square": 0}, {"square": 1}, {"square": 4}]
    assert of_type(lines(buffer), records.Workflow)[-1].generated == {"done": True}


def test_subclasses_of_what_the_program_holds_keep_their_attributes(buffer: Path) -> None:
    with MyWorkflow(label="a") as wf:
        for _ in (loop := MyLoop([1, 2], label="b")):
            copied = copy.deepcopy((wf, loop))
            break
    assert [part.label for part in copied] == ["a", "b"]
    assert type(copied[0]) is MyWorkflow
    assert list(copied[1]) == [1, 2]


class MyWorkflow(flowprov.workflow):
    """A workflow whose constructor takes something else."""

    def __init__(self, *, label: str) -> None:
        super().__init__("mine")
        self.label = label


class MyLoop(flowprov.Loop[int]):
    """A loop with an attribute."""

    def __init__(self, items: list[int], *, label: str) -> None:
        super().__init__(items)
        self.label = label


# -- bound functions -----------------------------------------------------------------------------------------


def test_a_bound_function_looks_like_the_function(buffer: Path) -> None:
    def documented(a: int, *, b: str = "x") -> str:
        """Say something."""
        return f"{a}{b}"

    with flowprov.workflow("W"):
        bound = flowprov.bind(documented)
    assert (bound.__name__, bound.__doc__) == ("documented", "Say something.")
    assert bound.__wrapped__ is documented  # type: ignore[attr-defined]
    assert bound(1, b="y") == "1y"


def test_a_bound_function_can_be_a_method(buffer: Path) -> None:
    class Model:
        """Has a method that was bound."""

        def name(self) -> str:
            """Return the name of the class."""
            return type(self).__name__

    with flowprov.workflow("W"):
        Model.name = flowprov.bind(Model.name)  # type: ignore[method-assign]
        assert Model().name() == "Model"
        assert Model.name(Model()) == "Model"


def test_a_function_that_is_bound_twice_belongs_to_the_task_of_the_first(buffer: Path) -> None:
    with flowprov.workflow("W"):
        with flowprov.task_scope("first") as first:
            bound = flowprov.bind(_counted)
        with flowprov.task_scope("second"):
            again = flowprov.bind(bound)
        again()
    row = next(task for task in tasks(buffer) if task.activity_id == "_counted")
    assert row.parent_task_id == first.task_id


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_bound_function_goes_to_a_process_pool(buffer: Path, method: str) -> None:
    with flowprov.workflow("W"), flowprov.task_scope("parent"):
        bound = flowprov.bind(_work)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            assert pool.submit(bound, 7).result(timeout=60) == 7
            assert list(pool.map(bound, [1, 2])) == [1, 2]


def test_a_bound_function_that_replaced_its_function_is_pickled_by_name(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flowprov.workflow("W"):
        bound = flowprov.bind(_work)
        monkeypatch.setitem(globals(), "_work", bound)
        assert _through_pickle(bound) is bound
    assert _through_cloudpickle(bound)(5) == 5


def test_a_running_iterator_holds_a_generator_and_cannot_be_pickled(buffer: Path) -> None:
    with flowprov.workflow("W"):
        iterator = iter(flowprov.Loop(3))
        next(iterator)
        with pytest.raises(TypeError, match="generator"):
            pickle.dumps(iterator)
