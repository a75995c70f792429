"""Journals of workers that do not see the client's buffer: they are in it when the workflow has closed."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Event

import flowprov
from flowprov import guard
from flowprov.capture.dask import collect
from flowprov.capture.dask.fetch import client, protocol, rpc
from tests.dask import steps
from tests.dask.apart import (
    RemoteCluster,
    check_of,
    has_footer,
    original_of,
    remote_cluster,
    replicas,
    verified,
)
from tests.dask.support import dask_tasks, ended, statuses
from tests.support import only, run, wait_until


@pytest.fixture
def buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record into a buffer whose path leads each other process into its own working folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    flowprov.configure(journal={"path": "/proc/self/cwd/buffer"})
    return home / "buffer"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[RemoteCluster]:
    """Start a cluster to which workers with folders of their own are added."""
    (tmp_path / "far").mkdir()
    with remote_cluster(tmp_path / "far") as cluster:
        yield cluster


def test_the_records_of_remote_workers_are_complete_when_the_workflow_has_closed(
    far: RemoteCluster, buffer: Path
) -> None:
    for name in ("one", "two"):
        far.start(name)
    with flowprov.workflow("Far", dask_client=far.client) as workflow:
        far.client.gather(far.client.map(steps.add, range(40), pure=False))
    finished = ended(buffer)
    assert sorted(task.used["x"] for task in finished if task.used) == list(range(40))
    assert {task.workflow_id for task in finished} == {workflow.workflow_id}
    assert statuses(dask_tasks(buffer)) == ["FINISHED"] * 40 + ["RUNNING"] * 40
    fetched = replicas(buffer)
    assert len(fetched) == 2
    for replica in fetched:
        assert has_footer(replica)
        assert replica.read_bytes() == original_of(replica, far.folder).read_bytes()
        assert (check_of(buffer, replica).state, check_of(buffer, replica).reasons) == ("closed", [])


def test_a_second_workflow_writes_new_journals_and_no_record_is_fetched_twice(
    far: RemoteCluster, buffer: Path
) -> None:
    far.start("one")
    for number in range(2):
        with flowprov.workflow(f"W{number}", dask_client=far.client):
            far.client.submit(steps.add, number, pure=False).result()
    assert collect(far.client) == []
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]
    assert len({task.task_id for task in ended(buffer)}) == 2
    assert [has_footer(replica) for replica in replicas(buffer)] == [True, True]


def test_the_journal_of_a_worker_that_starts_late_is_fetched_too(far: RemoteCluster, buffer: Path) -> None:
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
        far.start("two")
        far.client.submit(steps.add, 2, workers="two").result()
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [1, 2]
    assert all(map(has_footer, replicas(buffer)))


def test_only_records_after_the_last_collection_are_missing_of_a_worker_that_died(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flowprov.configure(journal={"path": "/proc/self/cwd/buffer"}, dask={"collect_interval": 0.05})
    far.start("one")
    with (
        caplog.at_level(logging.WARNING, "flowprov"),
        flowprov.workflow("Dies", dask_client=far.client) as workflow,
    ):
        far.client.submit(steps.add, 1).result()
        wait_until(lambda: ended(buffer))
        replica = only(replicas(buffer))
        assert check_of(buffer, replica).state == "running"
        far.kill("one")
        wait_until(lambda: check_of(buffer, replica).state == "gone")
    assert only(ended(buffer)).workflow_id == workflow.workflow_id
    assert str(far.folder / "one" / "buffer") in caplog.text
    assert "the worker is gone" in caplog.text
    assert verified(buffer).verdict == "INCOMPLETE"


def test_a_worker_that_died_before_the_first_request_is_reported_as_missing(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_FIRST_S", 60.0)  # on a busy machine the second task takes longer than 1 s
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("Dies", dask_client=far.client):
        far.client.submit(steps.add, 1, workers="one").result()
        far.start("two")
        far.client.submit(steps.add, 2, workers="two").result()
        far.kill("two")
    assert only(ended(buffer)).used["x"] == 1
    assert str(far.folder / "two" / "buffer") in caplog.text
    assert sorted(check_of(buffer, replica).state for replica in replicas(buffer)) == ["closed", "gone"]


def test_the_journal_of_a_dead_worker_is_fetched_through_another_worker_of_its_machine(
    far: RemoteCluster, buffer: Path
) -> None:
    shared = str(far.folder / "shared")
    for name in ("one", "two"):
        far.start(name, buffer=shared)
    with flowprov.workflow(dask_client=far.client):
        for number, name in enumerate(("one", "two")):
            far.client.submit(steps.add, number, workers=name).result()
        far.kill("one")
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]
    assert sorted(check_of(buffer, replica).state for replica in replicas(buffer)) == ["closed", "gone"]


def test_a_large_journal_is_fetched_in_several_chunks(
    far: RemoteCluster, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = _count_requests(monkeypatch)
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.gather([far.client.submit(steps.write, 4000, pure=False) for _ in range(3)])
    replica = only(replicas(buffer))
    assert replica.stat().st_size > 2 * protocol.CHUNK
    assert replica.read_bytes() == original_of(replica, far.folder).read_bytes()
    assert len(requests) >= 3
    assert check_of(buffer, replica).reasons == []


def _count_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    addresses: list[str] = []
    request = rpc.WorkerRPC.request

    def counted(self: Any, address: str, *arguments: Any) -> Any:
        addresses.append(address)
        return request(self, address, *arguments)

    monkeypatch.setattr(rpc.WorkerRPC, "request", counted)
    return addresses


def test_a_chunk_that_was_damaged_on_its_way_is_fetched_again(
    far: RemoteCluster, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast, damaged = rpc.WorkerRPC._broadcast, list[bytes]()

    async def unreliable(self: Any, addresses: list[str], request: protocol.FetchRequest) -> dict[str, Any]:
        replies = await broadcast(self, addresses, request)
        if request.replicas is not None and not damaged:
            (reply,) = replies.values()
            middle = len(reply["response"]) // 2
            damaged.append(reply["response"])
            reply["response"] = reply["response"][:middle] + b"?" + reply["response"][middle + 1 :]
        return replies

    monkeypatch.setattr(rpc.WorkerRPC, "_broadcast", unreliable)
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    assert damaged
    replica = only(replicas(buffer))
    assert replica.read_bytes() == original_of(replica, far.folder).read_bytes()


def test_a_client_that_closes_before_its_workflow_gives_a_warning(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    other = Client(far.address, set_as_default=False)
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=other) as workflow:
        other.submit(steps.add, 1).result()
        other.close()
    assert "(the client is closed)" in caplog.text
    assert collect(far.client, campaign_id=workflow.campaign_id) == []
    assert only(ended(buffer)).used["x"] == 1


def test_two_campaigns_at_once_do_not_mix(far: RemoteCluster, buffer: Path) -> None:
    far.start("one")
    with (
        flowprov.workflow("A", campaign_id="first", dask_client=far.client),
        flowprov.workflow("B", campaign_id="second", dask_client=far.client),
    ):
        far.client.submit(steps.add, 2).result()
        with flowprov.workflow("C", campaign_id="first", dask_client=far.client):
            far.client.submit(steps.add, 1).result()
    for campaign, number in (("first", 1), ("second", 2)):
        assert only(ended(buffer / campaign)).used["x"] == number
        assert has_footer(only(replicas(buffer / campaign)))


def test_a_worker_that_hangs_delays_the_end_of_a_workflow_up_to_its_timeout_and_the_rest_is_fetched(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flowprov.configure(journal={"path": "/proc/self/cwd/buffer"}, dask={"close_timeout": 4})
    for name in ("one", "two"):
        far.start(name)
    with caplog.at_level(logging.WARNING, "flowprov"):
        with flowprov.workflow(dask_client=far.client) as workflow:
            for number, name in enumerate(("one", "two")):
                far.client.submit(steps.add, number, workers=name).result()
            hanging = far.workers["one"]
            hanging.send_signal(signal.SIGSTOP)
        try:
            assert {"x": 1, "y": 2} in [task.used for task in ended(buffer)]
            assert True in map(has_footer, replicas(buffer))
            assert f"worker {far.addresses()['one']}" in caplog.text
            assert "(no response)" in caplog.text
            assert workflow.campaign_id in caplog.text
        finally:
            hanging.send_signal(signal.SIGCONT)
    assert wait_until(lambda: not collect(far.client, campaign_id=workflow.campaign_id))
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]


def test_a_task_that_runs_on_after_its_workflow_gives_a_warning_and_is_fetched_later(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=far.client):
        future = far.client.submit(steps.hold, "started", "go")
        Event("started", far.client).wait()
    assert "(1 still open)" in caplog.text
    assert check_of(buffer, only(replicas(buffer))).state == "running"
    Event("go", far.client).set()
    future.result()
    assert collect(far.client) == []
    assert statuses(dask_tasks(buffer)) == ["FINISHED", "RUNNING"]
    assert check_of(buffer, only(replicas(buffer))).state == "closed"


def test_no_thread_file_or_operation_of_flowprov_stays_behind(far: RemoteCluster, buffer: Path) -> None:
    far.start("one")
    before = {*(thread.name for thread in threading.enumerate()), "flowprov-maintenance"}
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    wait_until(lambda: not {thread.name for thread in threading.enumerate()} - before - {"Dask-Offload_0"})
    collect(far.client)
    assert [path.name for path in buffer.iterdir() if path.name.startswith(".")] == []
    assert far.client.run(steps.our_threads) == {far.addresses()["one"]: ["flowprov-maintenance"]}
    far.client.unregister_worker_plugin("flowprov")
    assert far.client.run(steps.operations) == {far.addresses()["one"]: []}
    assert guard.internal_errors() == {}
    assert "No handler" not in far.log("one")
    assert "Traceback" not in far.log("one")


def test_an_internal_error_on_a_worker_is_counted_there_and_gives_a_warning_here(
    far: RemoteCluster, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=far.client) as workflow:
        far.client.submit(steps.add, 1).result()
        far.client.run(steps.break_fetching)
    assert far.client.submit(steps.add, 2).result() == 4
    assert set(far.client.run(guard.internal_errors)[far.addresses()["one"]]) == {
        "sending journals to a Dask client: ZeroDivisionError"
    }
    assert workflow.campaign_id in caplog.text


def test_a_worker_keeps_the_buffer_folder_that_its_environment_names(
    far: RemoteCluster, buffer: Path
) -> None:
    far.start("one", buffer="relative")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    replica = only(replicas(buffer))
    assert original_of(replica, far.folder / "one" / "relative").is_file()


def test_a_workflow_on_a_cluster_that_sees_the_buffer_fetches_nothing(client: Any, buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, dask={"collect_interval": 0.05})
    with flowprov.workflow(dask_client=client):
        for number in range(20):
            client.submit(steps.add, number, pure=False).result()
    assert collect(client) == []
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == list(range(20))
    assert not any(map(has_footer, replicas(buffer)))


def test_an_asynchronous_program_awaits_the_records_of_remote_workers(
    far: RemoteCluster, buffer: Path, tmp_path: Path
) -> None:
    code = """
        import asyncio, sys
        import flowprov
        from operator import neg
        from distributed import Client

        async def main():
            flowprov.configure(journal={"path": "/proc/self/cwd/asynchronous"})
            async with Client(sys.argv[1], asynchronous=True) as client:
                await client.register_plugin(flowprov.DaskWorkerPlugin())
                with flowprov.workflow("Async", dask_client=client):
                    print(await client.submit(neg, 3))
                from flowprov.capture.dask import collect
                print(await collect(client))

        asyncio.run(main())
    """
    far.start("one")
    printed, errors = run(code, tmp_path, far.address)
    assert printed.split() == ["-3", "[]"]
    assert "flowprov" not in errors
    folder = tmp_path / "asynchronous"
    assert statuses(dask_tasks(folder)) == ["FINISHED", "RUNNING"]
    assert verified(folder).verdict == "COMPLETE"
