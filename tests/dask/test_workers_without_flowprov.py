"""Workers without flowprov, or with another version of it: they work, and what is missing is said."""

from __future__ import annotations

import json
import logging
import operator
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Adaptive, Client, LocalCluster

import flowprov
from flowprov import guard, records
from tests.dask.apart import RemoteCluster, remote_cluster, verified
from tests.dask.support import ended, metadata
from tests.support import REPOSITORY, lines, of_type, only, run, start_command, wait_until

# Each makes a place from which a worker imports another flowprov than the client's, or none.
NOTHING = """
    import sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "flowprov":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Missing())
"""
BROKEN = "raise RuntimeError('flowprov cannot be imported here')"
OTHER_PLUGIN = """
    class DaskWorkerPlugin:
        pass

    def _restore_plugin(cls, settings):
        return cls()
"""


def _nothing(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(textwrap.dedent(NOTHING))


def _broken(folder: Path) -> None:
    (folder / "flowprov").mkdir()
    (folder / "flowprov" / "__init__.py").write_text(BROKEN)


def _another_plugin(folder: Path) -> None:
    package = folder / "flowprov" / "capture" / "dask"
    package.mkdir(parents=True)
    for inner in (package, package.parent, package.parent.parent):  # else the installed one goes first
        (inner / "__init__.py").touch()
    (package / "plugin.py").write_text(textwrap.dedent(OTHER_PLUGIN))


def _another_protocol(folder: Path) -> None:
    package = shutil.copytree(REPOSITORY / "flowprov", folder / "flowprov")
    source = package / "capture" / "dask" / "plugin.py"
    text = source.read_text()
    assert "PROTOCOL = 1" in text
    source.write_text(text.replace("PROTOCOL = 1", "PROTOCOL = 2"))


def _settings_it_does_not_know(folder: Path) -> None:
    package = shutil.copytree(REPOSITORY / "flowprov", folder / "flowprov")
    schema = package / "settings" / "storage_sections.py"
    text = schema.read_text()
    assert "collect_interval" in text
    schema.write_text(text.replace("collect_interval", "collect_period"))


PLACES = {
    "none": _nothing,
    "one that cannot be imported": _broken,
    "another plugin": _another_plugin,
    "another protocol": _another_protocol,
    "other settings": _settings_it_does_not_know,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the path from which a worker imports another flowprov, or none."""
    return foreign_path(tmp_path, request.param)


def foreign_path(tmp_path: Path, name: str) -> str:
    folder = tmp_path / "foreign"
    folder.mkdir()
    PLACES[name](folder)
    return str(folder)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[RemoteCluster]:
    """Start a cluster to which workers are added."""
    (tmp_path / "far").mkdir()
    with remote_cluster(tmp_path / "far") as cluster:
        yield cluster


def test_a_worker_with_another_flowprov_or_none_joins_a_cluster_and_is_named(
    far: RemoteCluster, buffer: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    far.start("ours", buffer=str(buffer))
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow(dask_client=far.client) as workflow:
        assert far.client.submit(operator.neg, 1, workers="ours").result() == -1
        address = far.start("other", PYTHONPATH=place)
        assert far.client.submit(operator.neg, 2, workers="other").result(60) == -2
    assert [task.used for task in ended(buffer)] == [{"a": 1}]
    line = only([record.message for record in caplog.records if "records nothing" in record.message])
    assert address in line
    assert "records nothing" in far.log("other")
    assert "Traceback" not in far.log("other")
    silent = only([worker for worker in of_type(lines(buffer), records.DaskWorker) if worker.reason])
    assert (silent.worker, silent.workflow_id) == (address, workflow.workflow_id)
    assert guard.internal_errors() == {}
    flowprov.runtime.runtime.shutdown()
    assert verified(buffer).verdict == "INCOMPLETE"
    with start_command("verify", buffer, cwd=buffer.parent) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Dask worker {address}" in printed
    with start_command("verify", buffer, "--json", cwd=buffer.parent) as process:
        printed, _ = process.communicate(timeout=60)
    assert address in " ".join(json.loads(printed)["missing"])


def test_a_cluster_without_flowprov_runs_every_workflow_and_says_so_in_each(
    far: RemoteCluster, buffer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = far.start("other", PYTHONPATH=foreign_path(tmp_path, "none"))
    with caplog.at_level(logging.WARNING, "flowprov"):
        for number in range(3):
            with flowprov.workflow(f"W{number}", dask_client=far.client):
                assert far.client.submit(operator.neg, number).result(60) == -number
    silent = of_type(lines(buffer), records.DaskWorker)
    assert {worker.worker for worker in silent} == {address}
    assert len({worker.workflow_id for worker in silent}) == len(silent) == 3
    assert len([record for record in caplog.records if "records nothing" in record.message]) == 1
    assert ended(buffer) == []


def test_a_worker_that_left_before_a_workflow_opened_is_not_held_against_it(
    far: RemoteCluster, buffer: Path, tmp_path: Path
) -> None:
    far.start("ours", buffer=str(buffer))
    with flowprov.workflow("with it", dask_client=far.client) as before:
        far.start("other", PYTHONPATH=foreign_path(tmp_path, "none"))
        far.client.submit(operator.neg, 1, workers="other").result(60)
    far.kill("other")
    with flowprov.workflow("without it", dask_client=far.client):
        far.client.submit(operator.neg, 2).result()
    silent = [worker for worker in of_type(lines(buffer), records.DaskWorker) if worker.reason]
    assert {worker.workflow_id for worker in silent} == {before.workflow_id}


def test_an_adaptive_cluster_without_flowprov_scales_up_and_down(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with flowprov.workflow("registers", dask_client=client):
            client.submit(operator.neg, 1).result()
        cluster.scale(0)
        wait_until(lambda: not cluster.scheduler.workers)
        path = foreign_path(tmp_path, "none")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([path, os.environ.get("PYTHONPATH", "")]))
        adaptive: Adaptive = cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2)
        with flowprov.workflow("adapts", dask_client=client) as workflow:
            futures = client.map(operator.neg, range(20), pure=False)
            assert sum(client.gather(futures)) == -190
            del futures
        wait_until(lambda: not cluster.scheduler.workers)
        adaptive.stop()
    silent = [worker for worker in of_type(lines(buffer), records.DaskWorker) if worker.reason]
    assert {worker.workflow_id for worker in silent} == {workflow.workflow_id}
    assert [task.used for task in ended(buffer)] == [{"a": 1}]


def test_an_asynchronous_client_learns_of_a_worker_without_flowprov(
    far: RemoteCluster, tmp_path: Path
) -> None:
    code = """
        import asyncio, sys
        import flowprov
        from operator import neg
        from distributed import Client

        async def main():
            async with Client(sys.argv[1], asynchronous=True) as client:
                await client.register_plugin(flowprov.DaskWorkerPlugin())
                with flowprov.workflow("Async", dask_client=client):
                    print(await client.submit(neg, 3))

        asyncio.run(main())
    """
    address = far.start("other", PYTHONPATH=foreign_path(tmp_path, "none"))
    printed, errors = run(code, tmp_path, far.address)
    assert printed.split() == ["-3"]
    assert f"{address} on " in errors
    silent = only(of_type(lines(tmp_path / "flowprov_buffer"), records.DaskWorker))
    assert (silent.worker, bool(silent.reason)) == (address, True)
    assert verified(tmp_path / "flowprov_buffer").verdict == "INCOMPLETE"


def test_a_plugin_of_the_users_own_class_falls_back_too(
    far: RemoteCluster, buffer: Path, tmp_path: Path
) -> None:
    class OwnPlugin(flowprov.DaskWorkerPlugin):
        """A plugin that does a little more."""

        def setup(self, worker: object) -> None:
            super().setup(worker)
            worker.own = "was here"  # type: ignore[attr-defined]

    far.start("ours", buffer=str(buffer))
    far.client.register_plugin(OwnPlugin())
    far.start("other", PYTHONPATH=foreign_path(tmp_path, "none"))
    with flowprov.workflow(dask_client=far.client):
        for name in ("ours", "other"):
            assert far.client.submit(operator.neg, 1, workers=name, pure=False).result(60) == -1
    assert metadata(only(ended(buffer)), "worker_name") == "ours"
    own = far.client.run(lambda dask_worker: getattr(dask_worker, "own", None))
    assert sorted(map(str, own.values())) == ["None", "was here"]
