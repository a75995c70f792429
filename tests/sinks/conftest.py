"""What the tests of sinks run over: each kind of sink, with a shared server or one of a single test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov.sinks.base import Sink
from tests.sinks.kinds import Kind, MongoKind, RedisKind
from tests.sinks.server_process import ServerProcess

KINDS: list[Callable[[], Kind]] = [RedisKind, MongoKind]


@pytest.fixture(scope="session", params=KINDS, ids=["redis", "mongodb"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of sink."""
    instance: Kind = request.param()
    return instance


@pytest.fixture(scope="session")
def uri(kind: Kind, request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that all tests share and none harms."""
    address: str = request.getfixturevalue(f"shared_{kind.name}")
    yield address
    kind.clean(address)


@pytest.fixture
def sink(kind: Kind, uri: str) -> Iterator[Sink]:
    """A sink on the shared server."""
    opened = kind.sink(uri, 20.0)
    yield opened
    opened.close()


@pytest.fixture
def server(kind: Kind, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, not started."""
    created = kind.server(tmp_path / "server")
    yield created
    created.kill()


@pytest.fixture
def database_name() -> str:
    """A database that no other test uses."""
    return f"flowprov_test_{uuid.uuid4().hex[:12]}"
