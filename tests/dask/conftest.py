"""One cluster of processes for all tests of Dask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from distributed import Client, LocalCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Start two worker processes with a thread each."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """Connect to the shared cluster."""
    with Client(cluster) as made:
        yield made


@pytest.fixture
def threads() -> Iterator[Any]:
    """Connect to a worker that lives in this process."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as made,
        Client(made) as connected,
    ):
        yield connected


@pytest.fixture(autouse=True)
def recorded(buffer: Path) -> None:
    """Have this process record into the buffer of the test."""
