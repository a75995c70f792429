"""The private parts of Dask that flowprov uses are where it looks for them; each has the fallback it says."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NamedTuple

import dask
import dask.utils
import distributed
import distributed.client
import distributed.core
import distributed.utils
import distributed.worker
import distributed.worker_state_machine
import pytest
from dask import _task_spec
from distributed import Client, LocalCluster, get_worker, wait

from flowprov import guard, records
from flowprov.capture.dask import DaskWorkerPlugin, _dask_private, current_task, origin
from flowprov.capture.dask._dask_parts import PRIVATE_PARTS, VERIFIED, DaskPart
from flowprov.capture.dask.task_recorder import Executions
from flowprov.runtime import runtime
from tests.dask import steps
from tests.dask.support import dask_tasks, metadata
from tests.support import lines, of_type, only, wait_until


class Observed(NamedTuple):
    """A worker in this process, and what was seen while it ran tasks."""

    client: Any
    worker: Any
    finished: Any
    failed: Any
    inside: dict[str, Any]
    coroutine_name: str
    frames: list[tuple[bool, Any]]
    replies: dict[str, Any]


def _look_inside() -> dict[str, Any]:
    utils: Any = distributed.utils
    state = getattr(utils.thread_state, "execution_state", {})
    return {
        "key": getattr(utils.thread_state, "key", None),
        "worker": state.get("worker") is get_worker(),
    }


async def _name_of_coroutine() -> str:
    task = asyncio.current_task()
    return "" if task is None else task.get_name()


async def _reply() -> str:
    return "here"


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    """Run tasks on a worker in this process, without the plugin, and keep what they leave."""
    frames: list[tuple[bool, Any]] = []
    module: Any = dask
    original = module.get_annotations

    def get_annotations() -> dict[str, Any]:
        frame: FrameType = sys._getframe(1)
        frames.append((_dask_private.is_submission(frame), _dask_private.submitting_client(frame)))
        annotations: dict[str, Any] = original()
        return annotations

    module.get_annotations = get_annotations
    try:
        with (
            LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            worker = only(list(cluster.workers.values()))
            finished = client.submit(steps.add, 1, key="finished")
            failed = client.submit(steps.fail, "on purpose", key="failed")
            wait([finished, failed])
            _dask_private.add_handler(worker, "flowprov_probe", _reply)
            message, addresses = {"op": "flowprov_probe"}, [worker.address]
            yield Observed(
                client,
                worker,
                worker.state.tasks["finished"],
                worker.state.tasks["failed"],
                client.submit(_look_inside, key="inside").result(),
                client.submit(_name_of_coroutine, key="coroutine").result(),
                frames,
                client.sync(_dask_private.broadcast, client, message, addresses),
            )
    finally:
        module.get_annotations = original


def _has(path: str, *attributes: str) -> bool:
    """Whether a class or function of a module exists, and has these attributes."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return all(hasattr(found, attribute) for attribute in attributes)


def _fused_has(attribute: str) -> bool:
    pytest.importorskip("dask.dataframe")
    modules = ("dask.dataframe.dask_expr._expr", "dask_expr._expr")
    return any(_has(f"{module}.Fused", attribute) for module in modules)


def _event_arrives(seen: Observed) -> bool:
    seen.worker.log_event("flowprov-probe", "announced")
    events = wait_until(lambda: seen.client.sync(_dask_private.events, seen.client, "flowprov-probe"))
    return set(events) == {"announced"}


def _state_names() -> tuple[str, ...]:
    return typing.get_args(distributed.worker_state_machine.TaskStateState)


def _subgraph_has_graph() -> bool:
    if not _has("dask.optimization.SubgraphCallable"):
        return False
    callable_class: Any = importlib.import_module("dask.optimization").SubgraphCallable
    return isinstance(callable_class({"a": 1}, "a", []).dsk, dict)


def _composed_has_functions() -> bool:
    composed: Any = importlib.import_module("toolz").compose(abs, int, str)
    return composed.first is str and set(composed.funcs) == {abs, int}


CHECKS: dict[str, Callable[[Observed], bool]] = {
    "distributed.client.Client._graph_to_futures": lambda _: _dask_private.asks_get_annotations(),
    "dask.get_annotations": lambda seen: bool(seen.frames),
    "the frame of distributed.client that asks for annotations": lambda seen: (
        (True, seen.client) in seen.frames
    ),
    "distributed.utils.thread_state": lambda seen: seen.inside["key"] == "inside",
    "thread_state.execution_state['worker']": lambda seen: bool(seen.inside["worker"]),
    "the asyncio task name execute('<key>')": lambda seen: seen.coroutine_name == "execute('coroutine')",
    "Worker.state.tasks": lambda seen: seen.worker.state.tasks["finished"] is seen.finished,
    **{
        f"task state {name!r}": lambda _, name=name: name in _state_names()  # type: ignore[misc]
        for name in (
            *_dask_private.RUNNING_STATES,
            *_dask_private.CANCELLED_STATES,
            _dask_private.MEMORY,
            _dask_private.ERROR,
            _dask_private.RESCHEDULED,
            _dask_private.FORGOTTEN,
        )
    },
    "TaskState.state": lambda seen: (seen.finished.state, seen.failed.state) == ("memory", "error"),
    "TaskState.previous": lambda seen: hasattr(seen.finished, "previous"),
    "TaskState.done": lambda seen: isinstance(seen.finished.done, bool),
    "TaskState.annotations": lambda seen: hasattr(seen.finished, "annotations"),
    "TaskState.key": lambda seen: seen.finished.key == "finished",
    "TaskState.run_spec": lambda seen: hasattr(seen.finished, "run_spec"),
    "TaskState.dependencies": lambda seen: seen.finished.dependencies == set(),
    "TaskState.resource_restrictions": lambda seen: hasattr(seen.finished, "resource_restrictions"),
    "TaskState.run_id": lambda seen: isinstance(seen.finished.run_id, int),
    "TaskState.startstops": lambda seen: (
        {"action", "start", "stop"} <= set(seen.finished.startstops[-1])
        and seen.finished.startstops[-1]["action"] == "compute"
    ),
    "TaskState.exception": lambda seen: seen.failed.exception is not None,
    "TaskState.traceback": lambda seen: seen.failed.traceback is not None,
    "TaskState.exception_text": lambda seen: "ValueError" in seen.failed.exception_text,
    "TaskState.traceback_text": lambda seen: "steps.py" in seen.failed.traceback_text,
    "TaskState.type": lambda seen: seen.finished.type is int,
    "TaskState.nbytes": lambda seen: isinstance(seen.finished.nbytes, int),
    "distributed.core.clean_exception": lambda _: _has("distributed.core.clean_exception"),
    "Worker.state.threads": lambda seen: isinstance(seen.worker.state.threads["finished"], int),
    "Worker.state.actors": lambda seen: seen.worker.state.actors == {},
    "Worker.data": lambda seen: "finished" in seen.worker.data,
    "zict.Buffer.fast": lambda seen: "finished" in seen.worker.data.fast,
    "zict.LRU.d": lambda seen: seen.worker.data.fast.d["finished"] == 3,
    "Worker.status.name": lambda seen: (
        seen.worker.status.name == "running"
        and {"closing", "closed", "failed"} <= set(type(seen.worker.status).__members__)
    ),
    "TaskState.run_spec as a tuple": lambda seen: isinstance(seen.finished.run_spec, tuple),
    "Task.func, Task.args, Task.kwargs": lambda seen: (
        getattr(seen.finished.run_spec, "func", None) is not None
        and (tuple(seen.finished.run_spec.args), dict(seen.finished.run_spec.kwargs or {})) == ((1,), {})
    ),
    "dask._task_spec.Alias.target": lambda _: _has("dask._task_spec.Alias", "target", "key"),
    "dask._task_spec.TaskRef.key": lambda _: _task_spec.TaskRef("k").key == "k",
    "dask._task_spec.DataNode.value": lambda _: _task_spec.DataNode(None, 3).value == 3,
    "dask._task_spec.NestedContainer.klass": lambda _: (
        _has("dask._task_spec.List", "klass")
        and (_task_spec.List.klass, _task_spec.Dict.klass) == (list, dict)
    ),
    "dask._task_spec._identity_cast": lambda _: _has("dask._task_spec._identity_cast"),
    "dask._task_spec._execute_subgraph": lambda _: _has("dask._task_spec._execute_subgraph"),
    "Fused._execute_task": lambda _: _fused_has("_execute_task"),
    "Fused._execute_internal_graph": lambda _: _fused_has("_execute_internal_graph"),
    "dask.optimization.SubgraphCallable.dsk": lambda _: _subgraph_has_graph(),
    "distributed.worker.execute_task": lambda _: _has("distributed.worker.execute_task"),
    "dask.utils.apply": lambda _: dask.utils.apply.__name__ == _dask_private.APPLY,
    "dask.utils.methodcaller": lambda _: (
        type(dask.utils.methodcaller("upper")).__name__ == _dask_private.METHOD_CALLER
    ),
    **{
        f"dask.bag.core.{name}": lambda _, name=name: _has(f"dask.bag.core.{name}")  # type: ignore[misc]
        for name in _dask_private.BAG_MAPPERS
    },
    "toolz Compose.first, Compose.funcs": lambda _: _composed_has_functions(),
    "dask.utils.key_split": lambda _: dask.utils.key_split("add-12345678") == "add",
    **{
        f"the worker's operation {operation!r}, with the key as actor=": lambda seen, operation=operation: (  # type: ignore[misc]
            "actor" in inspect.signature(seen.worker.handlers[operation]).parameters
        )
        for operation in _dask_private.ACTOR_OPERATIONS
    },
    "Worker.executors['actor'], whose submit() is called": lambda seen: callable(
        _dask_private.actor_executor(seen.worker).submit
    ),
    "distributed.utils.has_arg": lambda _: distributed.utils.has_arg(steps.state_of, "dask_worker"),
    "distributed.utils.iscoroutinefunction": lambda _: distributed.utils.iscoroutinefunction(_reply),
    "distributed.protocol.pickle.dumps": lambda _: _has("distributed.protocol.pickle.dumps"),
    "Worker.handlers": lambda seen: "flowprov_probe" in seen.worker.handlers,
    "Worker.log_event": _event_arrives,
    "scheduler.broadcast": lambda seen: seen.replies == {seen.worker.address: "here"},
    "scheduler.ncores": lambda seen: (
        seen.client.sync(_dask_private.worker_addresses, seen.client) == [seen.worker.address]
    ),
    "scheduler.events": _event_arrives,
    "client.scheduler.address": lambda seen: (
        _dask_private.scheduler_address(seen.client) == seen.client.cluster.scheduler_address
    ),
    "client.status": lambda seen: _dask_private.is_connected(seen.client),
    "client.loop.asyncio_loop": lambda seen: _dask_private.event_loop(seen.client).is_running(),
}


def test_each_private_part_has_a_check() -> None:
    assert sorted(part.name for part in PRIVATE_PARTS) == sorted(CHECKS)
    assert all(part.versions and set(part.versions) <= set(VERIFIED) for part in PRIVATE_PARTS)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")[:3]]


def _is_expected(part: DaskPart) -> bool:
    """Whether the table has a part in this version; a version between two of them counts as the earlier."""
    installed = _numbers(importlib.metadata.version("distributed"))
    earlier = [version for version in VERIFIED if _numbers(version) <= installed]
    return (earlier or VERIFIED)[-1 if earlier else 0] in part.versions


@pytest.mark.parametrize("part", PRIVATE_PARTS, ids=lambda part: part.name)
def test_a_private_part_is_where_flowprov_looks_for_it(part: DaskPart, observed: Observed) -> None:
    library = f"{part.library} {importlib.metadata.version(part.library)}"
    try:
        is_there = CHECKS[part.name](observed)
    except Exception as error:  # whatever a changed part raises, the message names the part
        is_there, cause = False, f" ({type(error).__name__}: {error})"
    else:
        cause = ""
    if _is_expected(part):
        assert is_there, (
            f"{library} no longer has {part.name}{cause}; flowprov uses it {part.purpose}; "
            f"where it is missing, {part.fallback}"
        )
    else:
        assert not is_there, (
            f"{library} has {part.name}, which the table in _dask_private.py does not say of this version"
        )


# -- what happens where one is missing --------------------------------------------------------------------


def _loaded_anew() -> Any:
    """Load ``_dask_private`` once more, as another module."""
    assert _dask_private.__file__ is not None
    spec = importlib.util.spec_from_file_location("loaded_anew", _dask_private.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_objects_of_dask_that_are_missing_have_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(distributed.utils, "thread_state")
    monkeypatch.delattr(distributed.core, "clean_exception")
    monkeypatch.delattr(dask.utils, "key_split")
    module = _loaded_anew()
    assert isinstance(module.thread_state, threading.local)
    with pytest.raises(NotImplementedError):
        module.clean_exception(b"", b"")
    assert module.key_split("add-12345678") == "add-12345678"


@pytest.mark.parametrize(
    ("owner", "name"), [(distributed.client.Client, "_graph_to_futures"), (dask, "get_annotations")]
)
def test_without_what_a_submission_asks_dask_carries_the_workflow(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    assert _dask_private.asks_get_annotations()
    monkeypatch.delattr(owner, name)
    assert not _dask_private.asks_get_annotations()


def test_without_the_state_of_a_thread_no_task_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_task, "thread_state", SimpleNamespace(key="some task"))
    assert current_task.current_execution() is None
    monkeypatch.setattr(current_task, "thread_state", SimpleNamespace())
    assert current_task.current_execution() is None


class _Worker:
    """What the plugin reads of a worker; its one task has the key ``add-1``."""

    def __init__(self) -> None:
        annotation = origin.to_annotation(origin.TaskContext("campaign", "workflow"))
        self.task = SimpleNamespace(
            key="add-1",
            state="executing",
            previous="executing",
            done=True,
            annotations={origin.ANNOTATION_KEY: annotation},
            run_spec=(steps.add, (1,), {}),
            dependencies=(),
            resource_restrictions=None,
            run_id=7,
            startstops=({"action": "compute", "start": 1.0, "stop": 3.0},),
            exception=None,
            traceback=None,
            exception_text="ValueError('no')",
            traceback_text="steps.py",
            type=int,
            nbytes=28,
        )
        self.state = SimpleNamespace(tasks={"add-1": self.task}, threads={}, actors={})
        self.data = {"add-1": 3}
        self.address, self.name = "inproc://worker", "worker"
        self.events: list[str] = []

    def log_event(self, _topic: str, message: str) -> None:
        """Keep what the plugin says."""
        self.events.append(message)


def _records_of(worker: Any, end: str) -> tuple[list[str], int, int]:
    """Start and end the task; return the statuses of its records, dropped events, internal errors."""
    plugin = DaskWorkerPlugin()
    plugin._executions = executions = Executions(worker)
    executions.owner = plugin
    plugin.transition("add-1", "ready", "executing")
    if hasattr(worker.task, "state"):
        worker.task.state = end
    plugin.transition("add-1", "executing", end)
    journals = runtime.get().journals()
    path = Path(runtime.get().settings.journal.path)
    dropped = sum(journal.counts()[2].get("fault", 0) for journal in journals)
    statuses = [str(task.status) for task in dask_tasks(path)]
    return statuses, dropped, sum(guard.internal_errors().values())


# The end of the task, and what there is without an attribute: statuses, dropped events, internal errors.
WITHOUT: dict[str, tuple[str, list[str], int, int]] = {
    "nothing": ("memory", ["RUNNING", "FINISHED"], 0, 0),
    "TaskState.state": ("memory", ["RUNNING", "CANCELLED"], 0, 0),
    "TaskState.previous": ("cancelled", ["RUNNING"], 0, 1),
    "TaskState.done": ("cancelled", ["RUNNING"], 0, 1),
    "TaskState.annotations": ("memory", [], 0, 1),
    "TaskState.key": ("memory", [], 1, 1),
    "TaskState.run_spec": ("memory", [], 1, 1),
    "TaskState.dependencies": ("memory", [], 1, 1),
    "TaskState.resource_restrictions": ("memory", [], 1, 1),
    "TaskState.run_id": ("memory", ["RUNNING", "FINISHED"], 0, 0),
    "TaskState.startstops": ("memory", ["RUNNING", "FINISHED"], 0, 0),
    "TaskState.exception": ("error", ["RUNNING", "ERROR"], 0, 0),
    "TaskState.traceback": ("error", ["RUNNING", "ERROR"], 0, 0),
    "TaskState.exception_text": ("error", ["RUNNING"], 1, 1),
    "TaskState.traceback_text": ("error", ["RUNNING"], 1, 1),
    "TaskState.type": ("memory", ["RUNNING"], 1, 1),
    "TaskState.nbytes": ("memory", ["RUNNING"], 1, 1),
    "Worker.state.tasks": ("memory", [], 0, 1),
    "Worker.state.threads": ("memory", ["RUNNING"], 1, 1),
    "Worker.state.actors": ("memory", ["RUNNING"], 1, 1),
    "Worker.data": ("memory", ["RUNNING"], 1, 1),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_an_attribute_the_records_are_those_that_the_table_says(buffer: Path, name: str) -> None:
    worker: Any = _Worker()
    if name in ("TaskState.type", "TaskState.nbytes"):
        worker.data = {}  # the result is spilled
    owner, _, attribute = name.rpartition(".")
    if owner:
        delattr({"TaskState": worker.task, "Worker.state": worker.state, "Worker": worker}[owner], attribute)
    end, *expected = WITHOUT[name]
    assert list(_records_of(worker, end)) == expected


def test_without_the_number_and_durations_of_a_run_the_metadata_do_not_have_them(buffer: Path) -> None:
    worker = _Worker()
    del worker.task.run_id, worker.task.startstops
    _records_of(worker, "memory")
    finished = dask_tasks(buffer)[-1]
    assert metadata(finished, "run_id") is None
    assert "compute" not in (finished.custom_metadata or {})


def test_without_function_and_arguments_a_task_is_left_out_as_an_internal_one(buffer: Path) -> None:
    worker = _Worker()
    worker.task.run_spec = SimpleNamespace()
    assert _records_of(worker, "memory") == ([], 0, 0)
    assert [record.dask_key for record in of_type(lines(buffer), records.LeftOut)] == ["add-1"]


def test_without_the_layers_of_zict_every_result_counts_as_spilled(buffer: Path) -> None:
    worker: Any = _Worker()
    worker.data = SimpleNamespace(slow=worker.data)
    _records_of(worker, "memory")
    assert dask_tasks(buffer)[-1].generated == {"result": "<int of 28 bytes, spilled>"}
