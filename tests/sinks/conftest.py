"""Servers for the tests of sinks: one of each kind that all tests share, and servers of single tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowprov.sinks.base import Sink
from tests.sinks.kinds import Kind, MongoKind, RedisKind, configured_uri
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.server_process import ServerProcess

KINDS: list[Callable[[], Kind]] = [RedisKind, MongoKind]


@pytest.fixture(scope="session", params=KINDS, ids=["redis", "mongodb"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of sink."""
    made: Kind = request.param()
    return made


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], str]]:
    """Where the server of a kind is that all tests share; it is started when it is first asked for."""
    known: dict[str, str] = {}
    with ExitStack() as ends:

        def address(kind: Kind) -> str:
            if kind.name not in known:
                uri = configured_uri(kind)
                if uri is None:
                    server = kind.server(tmp_path_factory.mktemp(kind.name) / "server")
                    ends.callback(server.kill)
                    server.start()
                    uri = server.uri()
                ends.callback(kind.clean, uri)
                known[kind.name] = uri
            return known[kind.name]

        yield address


@pytest.fixture
def uri(kind: Kind, shared: Callable[[Kind], str]) -> str:
    """A server that all tests share and none harms."""
    return shared(kind)


@pytest.fixture
def sink(kind: Kind, uri: str) -> Iterator[Sink]:
    """A sink on the shared server."""
    made = kind.sink(uri, 20.0)
    yield made
    made.close()


@pytest.fixture
def server(kind: Kind, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, not started."""
    made = kind.server(tmp_path / "server")
    yield made
    made.kill()


@pytest.fixture(scope="session")
def shared_mongodb(shared: Callable[[Kind], str]) -> str:
    """The MongoDB that all tests share and none harms."""
    return shared(MongoKind())


@pytest.fixture
def own_mongodb(tmp_path: Path) -> Iterator[MongoServer]:
    """A MongoDB that the test may freeze and kill; it runs."""
    server = MongoServer(tmp_path / "mongodb")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def database_name() -> str:
    """A database that no other test uses."""
    return f"flowprov_test_{uuid.uuid4().hex[:12]}"
