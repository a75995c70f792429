"""Journals of workers that do not see the client's buffer: they are there when the workflow has closed."""

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
from flowprov.capture.dask.fetch import protocol, rpc
from tests.dask import steps
from tests.dask.apart import Apart, apart, check_of, copies, has_footer, original_of, verified
from tests.dask.support import dask_tasks, ended, statuses, wait_until
from tests.support import only, run


@pytest.fixture
def buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Record into a buffer whose path leads every other process into its own working folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    flowprov.configure(journal={"path": "/proc/self/cwd/buffer"})
    return home / "buffer"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Apart]:
    """Start a cluster to which workers with folders of their own are added."""
    (tmp_path / "far").mkdir()
    with apart(tmp_path / "far") as made:
        yield made


def test_what_workers_elsewhere_recorded_is_complete_after_close(far: Apart, buffer: Path) -> None:
    for name in ("one", "two"):
        far.start(name)
    with flowprov.workflow("Far", dask_client=far.client) as workflow:
        far.client.gather(far.client.map(steps.add, range(40), pure=False))
    finished = ended(buffer)
    assert sorted(task.used["x"] for task in finished if task.used) == list(range(40))
    assert {task.workflow_id for task in finished} == {workflow.workflow_id}
    assert statuses(dask_tasks(buffer)) == ["FINISHED"] * 40 + ["RUNNING"] * 40
    found = copies(buffer)
    assert len(found) == 2
    for copy in found:
        assert has_footer(copy)
        assert copy.read_bytes() == original_of(copy, far.folder).read_bytes()
        assert (check_of(buffer, copy).state, check_of(buffer, copy).reasons) == ("closed", [])


def test_a_second_workflow_goes_on_in_new_journals_and_nothing_comes_twice(far: Apart, buffer: Path) -> None:
    far.start("one")
    for number in range(2):
        with flowprov.workflow(f"W{number}", dask_client=far.client):
            far.client.submit(steps.add, number, pure=False).result()
    assert collect(far.client) == []
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]
    assert len({task.task_id for task in ended(buffer)}) == 2
    assert [has_footer(copy) for copy in copies(buffer)] == [True, True]


def test_a_worker_that_comes_late_is_gathered_too(far: Apart, buffer: Path) -> None:
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
        far.start("two")
        far.client.submit(steps.add, 2, workers="two").result()
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [1, 2]
    assert all(map(has_footer, copies(buffer)))


def test_of_a_worker_that_died_after_a_collection_only_what_came_later_is_missing(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flowprov.configure(journal={"path": "/proc/self/cwd/buffer"}, dask={"collect_interval": 0.05})
    far.start("one")
    with (
        caplog.at_level(logging.WARNING, "flowprov"),
        flowprov.workflow("Dies", dask_client=far.client) as workflow,
    ):
        far.client.submit(steps.add, 1).result()
        wait_until(lambda: ended(buffer))
        copy = only(copies(buffer))
        assert check_of(buffer, copy).state == "running"
        far.kill("one")
        wait_until(lambda: check_of(buffer, copy).state == "gone")
    assert only(ended(buffer)).workflow_id == workflow.workflow_id
    assert str(far.folder / "one" / "buffer") in caplog.text
    assert "the worker is gone" in caplog.text
    assert verified(buffer).verdict == "INCOMPLETE"


def test_a_worker_that_died_before_it_was_ever_asked_is_missed(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("Dies", dask_client=far.client):
        far.client.submit(steps.add, 1, workers="one").result()
        far.start("two")
        far.client.submit(steps.add, 2, workers="two").result()
        far.kill("two")
    assert only(ended(buffer)).used["x"] == 1
    assert str(far.folder / "two" / "buffer") in caplog.text
    assert sorted(check_of(buffer, copy).state for copy in copies(buffer)) == ["closed", "gone"]


def test_what_a_dead_worker_left_is_handed_over_by_another_of_its_machine(far: Apart, buffer: Path) -> None:
    shared = str(far.folder / "shared")
    for name in ("one", "two"):
        far.start(name, buffer=shared)
    with flowprov.workflow(dask_client=far.client):
        for number, name in enumerate(("one", "two")):
            far.client.submit(steps.add, number, workers=name).result()
        far.kill("one")
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]
    assert sorted(check_of(buffer, copy).state for copy in copies(buffer)) == ["closed", "gone"]


def test_a_large_journal_comes_in_several_chunks(
    far: Apart, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _counted(monkeypatch)
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.gather([far.client.submit(steps.write, 4000, pure=False) for _ in range(3)])
    copy = only(copies(buffer))
    assert copy.stat().st_size > 2 * protocol.CHUNK
    assert copy.read_bytes() == original_of(copy, far.folder).read_bytes()
    assert len(asked) >= 3
    assert check_of(buffer, copy).reasons == []


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    ask = rpc.WorkerRPC.ask

    def counted(self: Any, address: str, *arguments: Any) -> Any:
        asked.append(address)
        return ask(self, address, *arguments)

    monkeypatch.setattr(rpc.WorkerRPC, "ask", counted)
    return asked


def test_a_chunk_that_was_damaged_on_its_way_is_fetched_again(
    far: Apart, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcast, damaged = rpc.WorkerRPC._broadcast, list[bytes]()

    async def unreliable(self: Any, addresses: list[str], question: protocol.FetchRequest) -> dict[str, Any]:
        replies = await broadcast(self, addresses, question)
        if question.held is not None and not damaged:
            (reply,) = replies.values()
            middle = len(reply["answer"]) // 2
            damaged.append(reply["answer"])
            reply["answer"] = reply["answer"][:middle] + b"?" + reply["answer"][middle + 1 :]
        return replies

    monkeypatch.setattr(rpc.WorkerRPC, "_broadcast", unreliable)
    far.start("one")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    assert damaged
    copy = only(copies(buffer))
    assert copy.read_bytes() == original_of(copy, far.folder).read_bytes()


def test_a_client_that_is_closed_before_its_workflow_is_said(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    other = Client(far.address, set_as_default=False)
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=other) as workflow:
        other.submit(steps.add, 1).result()
        other.close()
    assert "(the client is closed)" in caplog.text
    assert collect(far.client, campaign_id=workflow.campaign_id) == []
    assert only(ended(buffer)).used["x"] == 1


def test_two_campaigns_at_once_stay_apart(far: Apart, buffer: Path) -> None:
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
        assert has_footer(only(copies(buffer / campaign)))


def test_a_worker_that_hangs_holds_the_end_of_a_workflow_only_so_long_and_the_rest_comes(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
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
            assert True in map(has_footer, copies(buffer))
            assert f"worker {far.addresses()['one']}" in caplog.text
            assert "(no answer)" in caplog.text
            assert workflow.campaign_id in caplog.text
        finally:
            hanging.send_signal(signal.SIGCONT)
    assert wait_until(lambda: not collect(far.client, campaign_id=workflow.campaign_id))
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == [0, 1]


def test_a_task_that_goes_on_after_its_workflow_is_said_and_fetched_later(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=far.client):
        going_on = far.client.submit(steps.hold, "started", "go")
        Event("started", far.client).wait()
    assert "(1 still open)" in caplog.text
    assert check_of(buffer, only(copies(buffer))).state == "running"
    Event("go", far.client).set()
    going_on.result()
    assert collect(far.client) == []
    assert statuses(dask_tasks(buffer)) == ["FINISHED", "RUNNING"]
    assert check_of(buffer, only(copies(buffer))).state == "closed"


def test_nothing_of_ours_stays_behind(far: Apart, buffer: Path) -> None:
    far.start("one")
    before = {thread.name for thread in threading.enumerate()}
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    assert not {thread.name for thread in threading.enumerate()} - before - {"flowprov-maintenance"}
    collect(far.client)
    assert [path.name for path in buffer.iterdir() if path.name.startswith(".")] == []
    assert far.client.run(steps.our_threads) == {far.addresses()["one"]: ["flowprov-maintenance"]}
    far.client.unregister_worker_plugin("flowprov")
    assert far.client.run(steps.operations) == {far.addresses()["one"]: []}
    assert guard.internal_errors() == {}
    assert "No handler" not in far.log("one")
    assert "Traceback" not in far.log("one")


def test_a_fault_of_ours_on_a_worker_is_counted_there_and_said_here(
    far: Apart, buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("one")
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=far.client) as workflow:
        far.client.submit(steps.add, 1).result()
        far.client.run(steps.break_handing)
    assert far.client.submit(steps.add, 2).result() == 4
    assert set(far.client.run(guard.internal_errors)[far.addresses()["one"]]) == {
        "handing journals to a Dask client: ZeroDivisionError"
    }
    assert workflow.campaign_id in caplog.text


def test_a_worker_keeps_the_folder_that_its_environment_names(far: Apart, buffer: Path) -> None:
    far.start("one", buffer="relative")
    with flowprov.workflow(dask_client=far.client):
        far.client.submit(steps.add, 1).result()
    copy = only(copies(buffer))
    assert original_of(copy, far.folder / "one" / "relative").is_file()


def test_a_workflow_on_a_cluster_that_sees_the_buffer_copies_nothing(client: Any, buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, dask={"collect_interval": 0.05})
    with flowprov.workflow(dask_client=client):
        for number in range(20):
            client.submit(steps.add, number, pure=False).result()
    assert collect(client) == []
    assert sorted(task.used["x"] for task in ended(buffer) if task.used) == list(range(20))
    assert not any(map(has_footer, copies(buffer)))


def test_an_asynchronous_program_awaits_what_workers_elsewhere_recorded(
    far: Apart, buffer: Path, tmp_path: Path
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
    printed, complained = run(code, tmp_path, far.address)
    assert printed.split() == ["-3", "[]"]
    assert "flowprov" not in complained
    found = tmp_path / "asynchronous"
    assert statuses(dask_tasks(found)) == ["FINISHED", "RUNNING"]
    assert verified(found).verdict == "COMPLETE"
