"""Workers in namespaces of their own: other mounts, another network. The tests say why where they skip."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowprov
from tests.dask import steps
from tests.dask.apart import check_of, original_of, remote_cluster, replicas
from tests.dask.support import ended
from tests.support import only


def _allowed(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _hiding(folder: Path) -> tuple[str, ...]:
    """Return a command that runs another one, for which a folder looks empty."""
    if not _allowed("unshare", "-m", "sh", "-c", f"mount -t tmpfs none {folder}"):
        pytest.skip("NO MOUNT NAMESPACES: unshare -m and mount are not allowed here")
    return ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh")


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """Create the folder of the workers."""
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Record into a folder whose path workers have too, but without what is in it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    flowprov.configure(journal={"path": str(folder)})
    return folder


def test_the_journal_of_a_worker_with_other_mounts_is_fetched(far: Path, shared: Path) -> None:
    with remote_cluster(far) as cluster:
        cluster.start("one", buffer=str(shared), prefix=_hiding(shared))
        with flowprov.workflow(dask_client=cluster.client):
            cluster.client.gather(cluster.client.map(steps.add, range(5)))
    assert sorted(task.used["x"] for task in ended(shared) if task.used) == list(range(5))
    assert check_of(shared, only(replicas(shared))).state == "closed"


@pytest.fixture
def network() -> Iterator[tuple[str, str]]:
    """Create a network namespace; give its name and the address of this machine in it."""
    name, link = f"flowprov{os.getpid()}", f"fp{os.getpid()}"
    here, there = "10.231.77.1", "10.231.77.2"
    commands = [
        f"netns add {name}",
        f"link add {link}a type veth peer name {link}b netns {name}",
        f"addr add {here}/30 dev {link}a",
        f"link set {link}a up",
        f"-n {name} addr add {there}/30 dev {link}b",
        f"-n {name} link set {link}b up",
        f"-n {name} link set lo up",
    ]
    try:
        if not all(_allowed("ip", *command.split()) for command in commands):
            pytest.skip("NO NETWORK NAMESPACES: ip netns and veth are not allowed here")
        yield name, here
    finally:
        _allowed("ip", "link", "del", f"{link}a")
        _allowed("ip", "netns", "del", name)


def test_the_records_of_workers_with_another_network_and_other_folders_are_complete(
    far: Path, shared: Path, network: tuple[str, str]
) -> None:
    name, host = network
    inside = ("ip", "netns", "exec", name, *_hiding(shared))
    with remote_cluster(far, host) as cluster:
        for worker in ("one", "two"):
            cluster.start(worker, prefix=inside)
        with flowprov.workflow(dask_client=cluster.client):
            cluster.client.gather(cluster.client.map(steps.add, range(20)))
        assert all("10.231.77.2" in address for address in cluster.addresses().values())
    assert sorted(task.used["x"] for task in ended(shared) if task.used) == list(range(20))
    fetched = replicas(shared)
    assert [check_of(shared, replica).state for replica in fetched] == ["closed", "closed"]
    assert all(replica.read_bytes() == original_of(replica, far).read_bytes() for replica in fetched)
