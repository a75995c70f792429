"""A Dask run of which a whole journal is not there is not complete, and what is missing is named."""

from __future__ import annotations

import importlib
import operator
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Event, LocalCluster, wait

import flowprov
from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.runtime import runtime
from tests.dask import steps
from tests.dask.apart import RemoteCluster, remote_cluster, verified
from tests.support import lines, lines_of, of_type, only, tasks


@pytest.fixture
def pair() -> Iterator[Any]:
    """Start two worker processes of this test's own."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteCluster]:
    """Start a cluster to which workers with folders of their own are added, and work in another folder."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    (tmp_path / "far").mkdir()
    with remote_cluster(tmp_path / "far") as cluster:
        yield cluster


def _of_others(buffer: Path) -> list[Path]:
    return [path for path in find_journals(buffer) if not path.name.startswith(f"{os.getpid()}-")]


def _tasks(client: Any) -> None:
    futures = [
        client.submit(steps.add, 1, workers=[worker], pure=False) for worker in sorted(client.nthreads())
    ]
    client.gather(futures)


def _run(client: Any) -> None:
    client.run(steps.square, 2)


def _collections(client: Any) -> None:
    bag = importlib.import_module("dask.bag").from_sequence(range(20), npartitions=20)
    client.gather(client.compute(bag.map(steps.double)))


def _leftovers(client: Any) -> None:
    for worker in sorted(client.nthreads()):  # internal tasks only: they are no rows
        client.submit(operator.itemgetter(0), [1], workers=[worker], pure=False).result()


@pytest.mark.parametrize("use", [_tasks, _run, _collections, _leftovers])
def test_a_run_without_any_one_of_its_workers_journals_is_not_complete(
    buffer: Path, tmp_path: Path, use: Callable[[Any], None]
) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        flowprov.workflow(dask_client=client) as workflow,
    ):
        use(client)
    runtime.shutdown()
    assert verified(buffer).verdict == "COMPLETE"
    of_workers = _of_others(buffer)
    assert len(of_workers) == 2
    for number, path in enumerate(of_workers):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(buffer, copy)
        (copy / path.relative_to(buffer)).unlink()
        result = verified(copy)
        assert result.verdict == "INCOMPLETE"
        sentence = only(result.missing)
        assert f"{path.parent.name}/{path.name}" in sentence
        assert workflow.workflow_id in sentence


def test_each_workflow_names_the_journals_in_which_it_was_recorded(client: Any, buffer: Path) -> None:
    ids = []
    for _ in range(3):
        with flowprov.workflow(dask_client=client) as workflow:
            _tasks(client)
        ids.append(workflow.workflow_id)
    named = of_type(lines(buffer), records.DaskWorker)
    assert sorted(worker.workflow_id for worker in named) == sorted([*ids, *ids])
    written = {
        header.journal_id: header.pid
        for path in find_journals(buffer)
        for header in of_type(lines_of(path), records.Header)
    }
    assert {worker.journal_id: worker.pid for worker in named}.items() <= written.items()
    assert os.getpid() not in {worker.pid for worker in named}


def test_tasks_that_start_after_their_workflow_closed_are_missed_too(pair: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=pair):
        worker = min(pair.nthreads())
        gate = pair.submit(steps.hold, "missing started", "missing go", workers=[worker])
        futures = [
            pair.submit(steps.total, [1], gate, workers=[worker], pure=False)
            for worker in sorted(pair.nthreads())
        ]
    Event("missing go", pair).set()
    wait(futures)
    named = of_type(lines(buffer), records.DaskWorker)
    assert len({worker.journal_id for worker in named}) == 2


def test_a_worker_that_was_killed_is_missed_if_its_journal_is_not_there(
    pair: Any, buffer: Path, tmp_path: Path
) -> None:
    with flowprov.workflow(dask_client=pair):
        _tasks(pair)  # a worker that dies with its first task may die before it said anything
        pair.submit(steps.die_once, str(tmp_path / "marker")).result()
    runtime.shutdown()
    dead = next(task for task in tasks(buffer) if task.activity_id == "die_once")
    path = only([path for path in find_journals(buffer) if path.name.startswith(f"{dead.pid}-")])
    path.unlink()
    assert any(path.name in sentence for sentence in verified(buffer).missing)


def test_a_part_of_a_campaign_is_not_asked_for_the_rest(pair: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=pair):
        _tasks(pair)
    runtime.shutdown()
    for path in _of_others(buffer):
        path.unlink()
    own = only(find_journals(buffer))
    assert len(verify(buffer).missing) == 2
    assert verify(own).missing == verify(own.parent).missing == []


def test_a_journal_that_may_still_arrive_is_not_missing_while_its_client_lives(
    pair: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=pair):
        _tasks(pair)
        for path in _of_others(buffer):
            path.unlink()
        assert verified(buffer).missing == []


def test_the_replica_of_a_remote_worker_is_missed_too(far: RemoteCluster) -> None:
    far.start("one")
    flowprov.configure(journal={"path": "/proc/self/cwd/unseen"})
    buffer = Path("unseen")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    runtime.shutdown()
    assert verified(buffer).verdict == "COMPLETE"
    replica: Path = only(
        [path for path in find_journals(buffer) if not path.name.startswith(f"{os.getpid()}-")]
    )
    replica.unlink()
    assert replica.name in only(verified(buffer).missing)


def _leave_no_place(folder: str) -> None:
    tempfile.tempdir = folder


def test_a_worker_that_cannot_write_a_journal_is_named(far: RemoteCluster) -> None:
    nowhere = "/proc/nowhere"
    address = far.start("one", buffer=nowhere)
    flowprov.configure(journal={"path": "/proc/self/cwd/unseen"})
    far.client.run(_leave_no_place, nowhere)
    with flowprov.workflow(dask_client=far.client):
        for number in range(3):
            assert far.client.submit(steps.add, number).result() == number + 2
    runtime.shutdown()
    silent = only(of_type(lines(Path("unseen")), records.DaskWorker))
    assert (silent.worker, "cannot be written" in str(silent.reason)) == (address, True)
    assert verified(Path("unseen")).verdict == "INCOMPLETE"
