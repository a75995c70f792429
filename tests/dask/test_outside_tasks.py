"""What runs on a Dask worker or scheduler outside of a task belongs to an actor's task or to a workflow."""

from __future__ import annotations

import gc
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, get_client

import flowprov
from flowprov import guard, records
from tests.dask import steps
from tests.dask.apart import remote_cluster
from tests.dask.support import dask_program, ended
from tests.dask.test_workers_without_flowprov import foreign_path
from tests.support import lines, of_type, only, tasks, wait_until


class Counter:
    """An actor whose methods record tasks."""

    def __init__(self, start: int = 0) -> None:
        self.count = start
        self.inner: Any = None

    def square(self, number: int) -> int:
        """Record a task in the actor's thread."""
        self.count += 1
        return steps.square(number)

    async def square_later(self, number: int) -> int:
        """Record a task in the worker's event loop."""
        return steps.square(number)

    @property
    def squared(self) -> int:
        """Record a task in the worker's event loop, as a plain call."""
        return steps.square(self.count)

    @flowprov.task
    def decorated(self, number: int) -> int:
        """Be a task."""
        return number

    def loop(self) -> int:
        """Record iterations."""
        return sum(flowprov.Loop(range(3), name="round"))

    def launch(self, number: int) -> int:
        """Submit a task."""
        return int(get_client().submit(steps.add, number, pure=False).result())

    def ask(self, other: Any, number: int) -> int:
        """Call another actor of the same worker."""
        return int(other.square(number).result())


def _call(actor: Any, name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(actor, name)(*arguments, **options).result()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a worker process that has recorded nothing yet."""
    monkeypatch.chdir(tmp_path)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def _campaigns(buffer: Path) -> set[str]:
    return {header.campaign_id for header in of_type(lines(buffer), records.Header)}


def _others(buffer: Path) -> list[records.Task]:
    """Return the tasks that are no Dask tasks."""
    return [task for task in tasks(buffer) if task.subtype != "dask_task"]


@pytest.mark.parametrize(
    ("use", "activity", "number"),
    [
        (lambda actor: _call(actor, "square", 3), "square", 1),
        (lambda actor: _call(actor, "square", 3, separate_thread=False), "square", 1),
        (lambda actor: _call(actor, "square_later", 3), "square", 1),
        (lambda actor: actor.squared, "square", 1),
        (lambda actor: _call(actor, "decorated", 3), "decorated", 1),
        (lambda actor: _call(actor, "loop"), "round_iteration", 3),
    ],
    ids=["thread", "event loop", "coroutine", "property", "decorated", "loop"],
)
def test_what_an_actor_records_belongs_to_the_actors_task(
    client: Any, buffer: Path, use: Callable[[Any], Any], activity: str, number: int
) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        actor = client.submit(Counter, 1, actor=True).result()
        other = client.submit(Counter, 2, actor=True).result()
        use(actor)
        use(other)
    of_actors = {str(task.task_id) for task in ended(buffer, "Counter")}
    assert len(of_actors) == 2
    inside = _others(buffer)
    assert [task.activity_id for task in inside] == [activity] * 2 * number
    assert {task.parent_task_id for task in inside} == of_actors
    assert {task.workflow_id for task in inside} == {workflow.workflow_id}
    assert _campaigns(buffer) == {workflow.campaign_id}


def test_an_actor_of_a_closed_workflow_still_belongs_to_it(client: Any, buffer: Path) -> None:
    with flowprov.workflow("makes", dask_client=client) as workflow:
        actor = client.submit(Counter, actor=True).result()
    with flowprov.workflow("other", dask_client=client):
        _call(actor, "square", 3)
    assert only(_others(buffer)).workflow_id == workflow.workflow_id
    assert only(_others(buffer)).parent_task_id == only(ended(buffer, "Counter")).task_id


def test_a_task_that_an_actor_submits_is_inside_the_actors_task(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        actor = client.submit(Counter, actor=True).result()
        assert _call(actor, "launch", 1) == 3
    submitted = only(ended(buffer, "add"))
    assert submitted.parent_task_id == only(ended(buffer, "Counter")).task_id
    assert submitted.workflow_id == workflow.workflow_id


def test_an_actor_that_calls_another_one_of_its_worker_is_around_it(fresh: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=fresh):
        one, two = (fresh.submit(Counter, number, actor=True).result() for number in range(2))
        assert _call(one, "ask", two, 3) == 9
    first = next(task for task in ended(buffer, "Counter") if task.used and task.used["start"] == 0)
    assert only(_others(buffer)).parent_task_id == first.task_id


def test_tasks_that_run_beside_an_actor_are_not_inside_it(fresh: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=fresh):
        actor = fresh.submit(Counter, actor=True).result()
        for number in range(5):
            _call(actor, "square_later", number)
            _call(actor, "square", number)
            fresh.submit(steps.work, 1, pure=False).result()
    of_actor = only(ended(buffer, "Counter")).task_id
    parents = [task.parent_task_id for task in _others(buffer) if task.activity_id == "square"]
    assert parents.count(of_actor) == 10
    assert len(parents) == 15
    assert {task.parent_task_id for task in ended(buffer, "work")} == {None}


def _run_square(dask_worker: Any = None) -> tuple[int, str]:
    return steps.square(2), type(dask_worker).__name__


async def _run_square_later() -> int:
    return steps.square(2)


def _run_and_fail() -> None:
    steps.square(2)
    raise ValueError("on purpose")


@pytest.mark.parametrize(
    "run",
    [
        lambda client: client.run(steps.square, 2),
        lambda client: client.run(_run_square),
        lambda client: client.run(_run_square_later),
        lambda client: client.run(lambda number: steps.square(number + 1), number=1),
        lambda client: client.run(_run_and_fail, on_error="return"),
        lambda client: client.run(function=steps.square, number=2),
        lambda client: client.run(steps.square, 2, nanny=True),
    ],
    ids=["decorated", "with the worker", "coroutine", "lambda", "error", "by keyword", "nanny"],
)
def test_what_a_client_runs_on_its_workers_belongs_to_its_workflow(
    fresh: Any, buffer: Path, run: Callable[[Any], dict[str, Any]]
) -> None:
    before = run(fresh)  # before any workflow: nothing is recorded, nothing changes
    with flowprov.workflow(dask_client=fresh) as workflow:
        inside = run(fresh)
    after = run(fresh)
    assert str(before) == str(inside) == str(after)
    recorded = [task for task in _others(buffer) if task.workflow_id == workflow.workflow_id]
    assert only(recorded).activity_id == "square"
    assert only(recorded).parent_task_id is None


def test_a_worker_that_a_workflow_reached_opens_no_campaign_of_its_own(fresh: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=fresh) as workflow:
        fresh.run(steps.square, 1)
        fresh.submit(steps.add, 1).result()
    fresh.run(steps.square, 2)
    fresh.run(steps.work, 1)
    assert only(_others(buffer)).used == {"number": 1}
    assert _campaigns(buffer) == {workflow.campaign_id}


def test_what_a_task_runs_on_all_workers_is_inside_that_task(client: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=client) as workflow:
        client.submit(_run_on_all).result()
    inside = _others(buffer)
    assert len(inside) == 2
    assert {task.parent_task_id for task in inside} == {only(ended(buffer, "_run_on_all")).task_id}
    assert {task.workflow_id for task in inside} == {workflow.workflow_id}


def _run_on_all() -> int:
    return len(get_client().run(steps.square, 2))


def test_two_workflows_of_two_clients_keep_what_they_run_apart(cluster: Any, buffer: Path) -> None:
    with (
        Client(cluster) as one,
        Client(cluster, set_as_default=False) as two,
        flowprov.workflow("one", dask_client=one, campaign_id="first") as first,
    ):
        one.run(steps.square, 1)
        with flowprov.workflow("two", dask_client=two, campaign_id="second") as second:
            two.run(steps.square, 2)
    of = {first.workflow_id: 1, second.workflow_id: 2}
    assert len(_others(buffer)) == 4
    for task in _others(buffer):
        assert task.used == {"number": of[str(task.workflow_id)]}
    assert _campaigns(buffer) == {"first", "second"}


def test_what_a_client_runs_on_its_scheduler_belongs_to_its_workflow(buffer: Path, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    options = ("--scheduler-file", str(file), "--no-dashboard")
    with dask_program("scheduler", *options, "--port", "0", folder=tmp_path):
        wait_until(file.exists)
        with Client(scheduler_file=str(file)) as client:
            with flowprov.workflow(dask_client=client) as workflow:
                assert client.run_on_scheduler(steps.square, 3) == 9
                assert client.run_on_scheduler(_tasks_of) == 0
            assert client.run_on_scheduler(steps.square, 4) == 16
    recorded = only(_others(buffer))
    assert (recorded.workflow_id, recorded.used) == (workflow.workflow_id, {"number": 3})
    assert _campaigns(buffer) == {workflow.campaign_id}


def _tasks_of(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def test_a_function_runs_where_flowprov_is_not_installed(buffer: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    with remote_cluster(tmp_path / "far") as far:
        far.start("other", PYTHONPATH=foreign_path(tmp_path, "none"))
        with flowprov.workflow(dask_client=far.client):
            assert list(far.client.run(operator.neg, 2).values()) == [-2]
            assert list(far.client.run(lambda dask_worker: dask_worker.name).values()) == ["other"]


def test_a_clients_own_process_still_records_outside_of_workflows(buffer: Path) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with flowprov.workflow(dask_client=client):
            client.run(steps.square, 1)
            client.submit(Counter, actor=True).result().square(2).result()
        steps.square(3)
    numbers = {task.used["number"]: task for task in _others(buffer) if task.used}
    assert sorted(numbers) == [1, 2, 3]
    assert numbers[1].workflow_id == numbers[2].workflow_id != numbers[3].workflow_id
    assert numbers[2].parent_task_id == only(ended(buffer, "Counter")).task_id


def _live_actors(client: Any) -> list[int]:
    gc.collect()  # the client lets go of an actor when its handle is freed, which may lie in a cycle
    return list(client.run(steps.live_actors).values())


def test_actors_that_are_gone_are_forgotten_and_the_plugin_leaves_nothing(fresh: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=fresh):
        for number in range(3):
            _call(fresh.submit(Counter, number, actor=True).result(), "square", 1)
            wait_until(lambda: _live_actors(fresh) == [0])
        assert list(fresh.run(steps.kept_actors).values()) == [1]
        assert len(only(list(fresh.run(steps.replaced).values()))) == 3
        fresh.unregister_worker_plugin("flowprov")
        assert list(fresh.run(steps.replaced).values()) == [[]]
        assert list(fresh.run(guard.internal_errors).values()) == [{}]
