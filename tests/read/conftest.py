"""Fixtures for tests of reading: locations in a folder, or on one server of each kind per session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pymongo
import pytest

from tests.read.locations import Location, fresh_database
from tests.servers import REAL

Uris = Callable[[str], str]


@pytest.fixture(scope="session")
def fresh_uri(request: pytest.FixtureRequest) -> Iterator[Uris]:
    """A function that returns the URI of an empty database of a kind; for a real Redis, of its only one."""
    numbers = itertools.count(1)
    databases: list[str] = []

    def make(kind: str) -> str:
        server: str = request.getfixturevalue(f"shared_{kind}")
        if kind == "redis":
            return server if REAL["redis"] else f"{server}/{next(numbers)}"
        databases.append(fresh_database(server))
        return databases[-1]

    yield make
    for uri in databases if REAL["mongodb"] else ():  # a server of the tests has ended, and its data is gone
        with pymongo.MongoClient[dict[str, object]](uri) as client:
            client.drop_database(client.get_default_database().name)


@pytest.fixture
def location_of(tmp_path: Path, fresh_uri: Uris) -> Callable[[str], Location]:
    """A function that returns an empty location of a kind; for "folder", where the journals are written."""
    return lambda kind: Location(kind, tmp_path / "journals" if kind == "folder" else fresh_uri(kind))
