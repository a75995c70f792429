"""Fixtures of servers: of each kind one that all tests share, and one for a single test.

The root ``conftest.py`` imports them. A shared server starts when a test first asks for it, once per test
process. No test harms it. ``FLOWPROV_TEST_REDIS_URI`` and ``FLOWPROV_TEST_MONGODB_URI`` name real servers to
share instead; tests leave those as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import started

REAL = {kind: os.environ.get(f"FLOWPROV_TEST_{kind.upper()}_URI") for kind in ("redis", "mongodb")}


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the shared Redis, without a database."""
    if REAL["redis"]:
        yield REAL["redis"]
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--databases", "1000")
    with started(server):
        yield f"redis://127.0.0.1:{server.port}"


@pytest.fixture(scope="session")
def shared_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the shared MongoDB."""
    if REAL["mongodb"]:
        yield REAL["mongodb"]
        return
    with started(MongoServer(tmp_path_factory.mktemp("mongodb"))) as server:
        yield server.uri()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis that the test may fill, freeze and kill."""
    with started(RedisServer(tmp_path / "redis")) as server:
        yield server


@pytest.fixture
def own_mongodb(tmp_path: Path) -> Iterator[MongoServer]:
    """Start a MongoDB that the test may fill, freeze and kill."""
    with started(MongoServer(tmp_path / "mongodb")) as server:
        yield server
