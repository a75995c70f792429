"""One cluster of processes for all tests of Dask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[Any]:
    """Start two worker processes with a thread each.

    They end with the tests of this folder: a cluster that has nothing to do takes a tenth of a core for that.
    """
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """Connect to the shared cluster."""
    with Client(cluster) as client:
        yield client


@pytest.fixture
def threads() -> Iterator[Any]:
    """Connect to a worker in this process."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def recorded(buffer: Path) -> None:
    """Record the events of this process into the buffer of the test."""
