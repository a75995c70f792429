"""``@task``: what is recorded of a call, and that it does not change the call."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import linecache
import math
import pickle
import types
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.capture.function_spec import FunctionSpec
from flowprov.runtime import encoders, runtime
from tests.support import lines, of_type, only, run, tasks


@flowprov.task
def add(x: int, y: int = 2, *rest: int, scale: float = 1.0, **more: Any) -> float:
    return (x + y + sum(rest)) * scale


def last(buffer: Path) -> records.Task:
    return tasks(buffer)[-1]


def test_used_holds_every_argument_by_name_with_defaults(buffer: Path) -> None:
    assert add(1) == 3.0
    assert last(buffer).used == {"x": 1, "y": 2, "rest": [], "scale": 1.0}
    add(1, 5, 6, 7, scale=2.0, color="red")
    assert last(buffer).used == {"x": 1, "y": 5, "rest": [6, 7], "scale": 2.0, "color": "red"}


def test_a_record_holds_activity_times_and_place(buffer: Path) -> None:
    add(1)
    task = last(buffer)
    assert (task.activity_id, task.status) == ("add", "FINISHED")
    assert task.generated == {"result": 3.0}
    assert task.started_at is not None
    assert task.ended_at is not None
    assert task.started_at <= task.ended_at
    assert task.hostname
    assert task.pid
    assert task.thread == "MainThread"
    assert task.workflow_id
    assert task.campaign_id


def test_an_event_outside_any_workflow_opens_an_implicit_one(buffer: Path) -> None:
    add(1)
    add(2)
    opened = only(of_type(lines(buffer), records.Workflow))
    assert opened.subtype == "implicit"
    assert {task.workflow_id for task in tasks(buffer)} == {opened.workflow_id}


def test_a_call_inside_a_call_is_its_child(buffer: Path) -> None:
    @flowprov.task
    def outer() -> float:
        return add(1) + add(2)

    outer()
    first, second, parent = tasks(buffer)
    assert first.parent_task_id == second.parent_task_id == parent.task_id
    assert parent.parent_task_id is None


def test_used_is_what_the_arguments_were_before_the_call(buffer: Path) -> None:
    @flowprov.task
    def empty(items: list[int]) -> None:
        items.clear()

    empty([1, 2, 3])
    assert last(buffer).used == {"items": [1, 2, 3]}


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_passes_through_unchanged_and_is_recorded(
    buffer: Path, kind: type[BaseException]
) -> None:
    raised = kind("the reason")

    @flowprov.task
    def breaks() -> None:
        raise raised

    with pytest.raises(kind) as caught:
        breaks()
    assert caught.value is raised
    task = last(buffer)
    assert task.status == "ERROR"
    assert task.error is not None
    assert task.error.type == kind.__name__
    assert task.error.message == "the reason"
    assert "raise raised" in (task.error.traceback or "")
    assert task.generated is None
    add(1)
    assert last(buffer).parent_task_id is None, "the failed call is not current any more"


def test_a_call_with_wrong_arguments_raises_the_error_of_the_function_itself(buffer: Path) -> None:
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'x'"):
        add()  # type: ignore[call-arg]
    task = last(buffer)
    assert task.status == "ERROR"
    assert task.used == {"args": [], "kwargs": {}}


def test_output_names_name_the_elements_of_a_tuple(buffer: Path) -> None:
    @flowprov.task(output_names=["mean", "count"])
    def pair() -> tuple[float, int]:
        return 2.5, 4

    @flowprov.task(output_names="path")
    def single() -> tuple[str, str]:
        return ("a", "b")

    pair()
    assert last(buffer).generated == {"mean": 2.5, "count": 4}
    single()
    assert last(buffer).generated == {"path": ["a", "b"]}


@pytest.mark.parametrize(
    ("result", "generated"),
    [
        (None, None),
        ({"loss": 0.5}, {"loss": 0.5}),
        (7, {"result": 7}),
        ([1, 2], {"result": [1, 2]}),
        ({}, {}),
        (False, {"result": False}),
    ],
)
def test_generated_depends_on_the_type_of_the_result(buffer: Path, result: Any, generated: Any) -> None:
    @flowprov.task
    def return_it() -> Any:
        return result

    assert return_it() is result
    assert last(buffer).generated == generated


def test_a_diverged_loss_is_kept(buffer: Path) -> None:
    @flowprov.task
    def train() -> dict[str, float]:
        return {"loss": math.nan, "best": math.inf}

    train()
    assert last(buffer).generated == {"loss": {"$float": "NaN"}, "best": {"$float": "Infinity"}}


def test_options_are_recorded_with_every_call(buffer: Path) -> None:
    @flowprov.task(activity_id="evaluation", subtype="metric", tags=["a", "b"], custom_metadata={"k": 1})
    def f() -> int:
        return 1

    f()
    task = last(buffer)
    assert (task.activity_id, task.subtype, task.tags, task.custom_metadata) == (
        "evaluation",
        "metric",
        ["a", "b"],
        {"k": 1},
    )


def test_a_method_records_no_self_and_no_cls(buffer: Path) -> None:
    class Trainer:
        @flowprov.task
        def fit(self, epochs: int) -> int:
            return epochs

        @flowprov.task
        @classmethod
        def build(cls, size: int) -> int:
            return size

        @staticmethod
        @flowprov.task
        def scale(self: float) -> float:  # a parameter may be called so without being one
            return self

    assert Trainer().fit(3) == 3
    assert last(buffer).used == {"epochs": 3}
    assert Trainer.build(4) == 4
    assert last(buffer).used == {"size": 4}


def test_the_decorated_function_keeps_name_signature_and_pickling() -> None:
    assert add.__name__ == "add"
    assert list(inspect.signature(add).parameters) == ["x", "y", "rest", "scale", "more"]
    assert pickle.loads(pickle.dumps(add)) is add


def test_positional_only_and_keyword_only_parameters(buffer: Path) -> None:
    @flowprov.task
    def f(a: int, /, b: int, *, c: int, d: int = 4) -> int:
        return a + b + c + d

    assert f(1, 2, c=3) == 10
    assert last(buffer).used == {"a": 1, "b": 2, "c": 3, "d": 4}

    @flowprov.task
    def g(a: int, b: int = 2, /) -> int:
        return a + b

    assert g(1) == 3
    assert last(buffer).used == {"a": 1, "b": 2}


def test_a_callable_without_a_signature_is_recorded_by_position(buffer: Path) -> None:
    largest = flowprov.task(max)
    assert largest(3, 5) == 5
    assert last(buffer).used == {"arg_0": 3, "arg_1": 5}


def test_an_async_function_is_recorded_when_it_ends(buffer: Path) -> None:
    @flowprov.task
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        add(n)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*(fetch(n) for n in range(5)))

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    fetched = {task.task_id: task for task in tasks(buffer) if task.activity_id == "fetch"}
    inner = [task for task in tasks(buffer) if task.activity_id == "add"]
    assert len(fetched) == len(inner) == 5
    for task in inner:
        parent = fetched[task.parent_task_id]  # type: ignore[index]
        assert task.used is not None
        assert parent.used is not None
        assert parent.used["n"] == task.used["x"]


def test_a_cancelled_coroutine_is_an_error(buffer: Path) -> None:
    @flowprov.task
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(forever(), 0.01)

    asyncio.run(main())
    assert last(buffer).error is not None
    assert "CancelledError" in last(buffer).error.type  # type: ignore[union-attr]


def test_a_generator_that_types_coroutine_marked_is_awaited_and_is_one_task(buffer: Path) -> None:
    @flowprov.task
    @types.coroutine
    def fetch(n: int) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        add(n)
        return n

    async def main() -> list[int]:
        return [*await asyncio.gather(*(fetch(n) for n in range(3))), await fetch(3), await delegate()]

    @types.coroutine
    def delegate() -> Generator[Any, Any, int]:
        return (yield from fetch(4))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    fetched = {task.task_id: task for task in tasks(buffer) if task.activity_id == "fetch"}
    inner = [task for task in tasks(buffer) if task.activity_id == "add"]
    assert [task.generated for task in fetched.values()] == [{"result": n} for n in range(5)]
    assert len(inner) == 5
    for task in inner:
        assert task.used is not None
        assert task.parent_task_id is not None
        assert fetched[task.parent_task_id].used == {"n": task.used["x"]}


def test_a_partial_of_a_generator_that_types_coroutine_marked_is_awaited(buffer: Path) -> None:
    @types.coroutine
    def fetch(n: int) -> Generator[Any, Any, int]:
        yield from asyncio.sleep(0).__await__()
        return n

    async def main() -> int:
        return await flowprov.task(functools.partial(fetch, 5))()

    assert asyncio.run(main()) == 5
    assert last(buffer).generated == {"result": 5}


def test_a_generator_is_one_task_and_current_only_while_its_body_runs(buffer: Path) -> None:
    @flowprov.task
    def produce(n: int) -> Iterator[float]:
        for number in range(n):
            yield add(number)

    assert inspect.isgeneratorfunction(produce)
    for value in produce(2):
        add(int(value), 100)
    inner: list[records.Task] = []
    outer: list[records.Task] = []
    for task in tasks(buffer):
        if task.activity_id == "add":
            assert task.used is not None
            (outer if task.used["y"] == 100 else inner).append(task)
    produced = only([task for task in tasks(buffer) if task.activity_id == "produce"])
    assert produced.generated == {"yielded": 2}
    assert {task.parent_task_id for task in inner} == {produced.task_id}
    assert {task.parent_task_id for task in outer} == {None}


def test_a_generator_that_is_dropped_or_raises_is_recorded(buffer: Path) -> None:
    @flowprov.task
    def count() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no more")

    generator = count()
    next(generator)
    del generator
    gc.collect()
    assert last(buffer).custom_metadata == {"left_early": True}
    with pytest.raises(ValueError, match="no more"):
        list(count())
    assert last(buffer).status == "ERROR"


def test_values_can_be_sent_into_a_recorded_generator(buffer: Path) -> None:
    @flowprov.task
    def echo() -> Any:
        received = yield "ready"
        received = yield received
        return received

    generator = echo()
    assert next(generator) == "ready"
    assert generator.send("a") == "a"
    with pytest.raises(StopIteration) as stop:
        generator.send("b")
    assert stop.value.value == "b"
    assert last(buffer).generated == {"yielded": 2, "result": "b"}


def test_an_async_generator_is_one_task(buffer: Path) -> None:
    @flowprov.task
    async def produce(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def main() -> list[int]:
        return [value async for value in produce(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert last(buffer).generated == {"yielded": 3}


def test_a_handle_adds_to_the_record_of_its_task(buffer: Path) -> None:
    ids = []

    @flowprov.task(tags=["given"])
    def work() -> dict[str, int]:
        handle = flowprov.current_task()
        assert handle is not None
        ids.append(handle.task_id)
        handle.set_generated(rows=10)
        handle.add_tags("added")
        handle.custom_metadata["note"] = "checked"
        return {"files": 2}

    work()
    task = last(buffer)
    assert task.generated == {"files": 2, "rows": 10}
    assert task.tags == ["given", "added"]
    assert task.custom_metadata == {"note": "checked"}
    assert ids == [task.task_id]
    assert flowprov.current_task() is None


def test_task_scope_records_a_block(buffer: Path) -> None:
    with flowprov.task_scope("tokenize", used={"files": 3}, subtype="step", tags=["t"]) as step:
        add(1)
        step.set_generated(tokens=1_000)
    child, scope = tasks(buffer)
    assert scope.activity_id == "tokenize"
    assert (scope.used, scope.generated, scope.subtype, scope.tags) == (
        {"files": 3},
        {"tokens": 1_000},
        "step",
        ["t"],
    )
    assert child.parent_task_id == scope.task_id == step.task_id
    with pytest.raises(ZeroDivisionError), flowprov.task_scope("fails"):
        _ = 1 / 0
    assert last(buffer).status == "ERROR"


class Hostile:
    """An object that raises on every access."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def test_any_object_gives_one_record_and_the_function_runs(buffer: Path) -> None:
    calls = []

    @flowprov.task
    def take(value: Any) -> int:
        calls.append(1)
        return 1

    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    odd = [
        Hostile(),
        deep,
        cycle,
        "\ud800",
        lambda: 1,
        open(__file__),
        10**5_000,
        {Hostile: Hostile},
        b"\0" * 99,
    ]
    for value in odd:
        assert take(value) == 1
    odd[5].close()  # type: ignore[attr-defined]
    assert len(calls) == len(tasks(buffer)) == len(odd)
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    assert dropped == {}
    assert captured == written == len(odd) + 1


def test_an_internal_error_is_counted_and_the_function_still_runs(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(1)

    def broken(_mapping: Any) -> bytes:
        raise RuntimeError("internal")

    monkeypatch.setitem(encoders.encoder_globals, "_flowprov_json", broken)
    assert add(1) == 3.0
    assert add(1) == 3.0
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    assert (captured, written, dropped) == (4, 2, {"fault": 2})
    assert caplog.text.count("flowprov met a fault of its own") == 1


def test_a_traceback_shows_the_lines_of_the_generated_encoder(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_mapping: Any) -> bytes:
        raise RuntimeError("internal")

    monkeypatch.setitem(encoders.encoder_globals, "_flowprov_json", broken)
    assert add(1) == 3.0
    name = f"<flowprov encoder of '{add.__module__}.add'>"
    assert f'File "{name}", line 5, in encode_used' in caplog.text
    arguments = "{'x': x, 'y': y, 'rest': rest, 'scale': scale, **more}"
    assert f"return _flowprov_json({arguments})" in caplog.text


def test_each_generated_encoder_keeps_its_own_source_and_copies_share_it() -> None:
    def one(first: int) -> None: ...

    def other(second: int) -> None: ...

    other.__qualname__ = one.__qualname__
    specs = [FunctionSpec(one), FunctionSpec(other)]
    sources = [inspect.getsource(spec.encode_used) for spec in specs]
    assert ["def encode_used(first):" in source for source in sources] == [True, False]
    assert ["def encode_used(second):" in source for source in sources] == [False, True]
    kept = len(linecache.cache)
    copies = [FunctionSpec(function) for function in (one, other) for _ in range(3)]
    assert [inspect.getsource(spec.encode_used) for spec in copies[::3]] == sources
    assert len(linecache.cache) == kept


def test_disabled_by_environment_the_decorator_returns_the_function_itself(tmp_path: Path) -> None:
    code = """
        import flowprov
        def f(): return 1
        assert flowprov.task(f) is f
        with flowprov.workflow("w"), flowprov.task_scope("s"):
            for i in flowprov.Loop(3): f()
        assert flowprov.current_task() is None
    """
    run(code, tmp_path, env={"FLOWPROV_DISABLED": "1"})
    assert not (tmp_path / "flowprov_buffer").exists()


def test_disabled_by_settings_nothing_is_recorded(tmp_path: Path) -> None:
    code = """
        import flowprov
        @flowprov.task
        def f(): return 1
        with flowprov.workflow("w") as w, flowprov.task_scope("s"):
            assert w.workflow_id
            for i in flowprov.Loop(3): f()
    """
    run(code, tmp_path, env={"FLOWPROV__INSTRUMENTATION__ENABLED": "false"})
    assert not (tmp_path / "flowprov_buffer").exists()


def test_a_function_of_main_can_be_pickled_by_value_and_called_elsewhere(tmp_path: Path) -> None:
    code = """
        import cloudpickle, pickle, subprocess, sys
        import flowprov

        @flowprov.task(tags=["x"])
        def f(x, y=2):
            return x + y

        if len(sys.argv) == 1:
            data = cloudpickle.dumps(f)
            other = "import pickle,sys; print(pickle.loads(sys.stdin.buffer.read())(40))"
            done = subprocess.run([sys.executable, "-c", other], input=data, capture_output=True)
            print(done.stdout.decode(), done.stderr.decode())
    """
    printed, _ = run(code, tmp_path)
    assert printed.strip() == "42"
    sent = only(tasks(tmp_path))
    assert (sent.used, sent.tags) == ({"x": 40, "y": 2}, ["x"])
