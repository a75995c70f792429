"""A follower reads from a server that may go away, come back empty, or take lines out of order."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest

from flowprov import records
from flowprov.errors import SinkError
from flowprov.read import Buffer, Follower
from flowprov.records import Footer, Record, Task
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb.documents import document_of
from flowprov.sinks.mongodb.sink import MongoSink
from tests.journal.support import NS, header, step, write
from tests.read.locations import SERVERS, Location, deliver
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import free_port
from tests.support import wait_until


class Server:
    """A server that tests may kill, restart and empty."""

    def __init__(self, server: RedisServer | MongoServer) -> None:
        self._server = server
        self.uri = server.uri()
        self.kill, self.start = server.kill, server.start

    def wipe(self) -> None:
        """Delete all data."""
        if isinstance(self._server, RedisServer):
            self._server.client().flushall()
        else:
            with pymongo.MongoClient[dict[str, Any]](self.uri) as client:
                client.drop_database("flowprov")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.getfixturevalue(f"own_{request.param}"))


class GrowingJournal:
    """A journal that tests write to, and deliver when they want."""

    def __init__(self, folder: Path) -> None:
        self.header = header(str(uuid.uuid4()), str(uuid.uuid4()))
        self.folder = folder
        self.path = write(folder, self.header, step(0))

    def add(self, *numbers: int) -> None:
        """Append steps."""
        with self.path.open("ab") as file:
            file.write(b"".join(records.encode(step(number)) for number in numbers))


@pytest.fixture
def journal(tmp_path: Path) -> GrowingJournal:
    return GrowingJournal(tmp_path / "journals")


def numbers(messages: list[Any]) -> list[int]:
    assert all(isinstance(message, Task) for message in messages)
    return [int(str(message.task_id).rpartition("-")[2]) for message in messages]


def available(follower: Follower) -> list[int]:
    return numbers(list(follower.available()))


def test_a_server_that_restarts_is_waited_for_and_logged_once(
    server: Server, journal: GrowingJournal, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(server.uri, journal.folder)
    follower = Buffer(server.uri).follow(poll=0.01)
    messages = [next(follower)]
    server.kill()
    reader = threading.Thread(target=lambda: messages.extend(next(follower) for _ in range(2)), daemon=True)
    with caplog.at_level(logging.INFO, "flowprov"):
        reader.start()
        wait_until(lambda: "away" in caplog.text)
        server.start()
        journal.add(1, 2)
        deliver(server.uri, journal.folder)
        reader.join(timeout=60)
    assert numbers(messages) == [0, 1, 2]
    assert caplog.text.count("is away") == 1
    assert caplog.text.count("is back") == 1


@pytest.mark.parametrize("scheme", SERVERS)
def test_a_server_that_was_never_reached_is_an_error(scheme: str) -> None:
    follower = Buffer(f"{scheme}://127.0.0.1:{free_port()}").follow()
    with pytest.raises(SinkError, match=r"127\.0\.0\.1"):
        next(follower)


def test_from_a_server_that_was_emptied_and_filled_again_no_message_is_returned_twice(
    server: Server, journal: GrowingJournal
) -> None:
    journal.add(1, 2)
    deliver(server.uri, journal.folder)
    buffer = Buffer(server.uri)
    follower = buffer.follow()
    assert available(follower) == [0, 1, 2]
    assert len(list(buffer.records())) == 3
    server.wipe()
    assert available(follower) == []
    assert list(buffer.records()) == []
    journal.add(3)
    write(journal.folder, header(str(uuid.uuid4()), journal.header.campaign_id, pid=1), step(4))
    deliver(server.uri, journal.folder)
    assert sorted(available(follower)) == [3, 4]
    assert available(follower) == []
    assert len(list(buffer.records())) == 5


def test_a_closed_journal_is_followed_to_its_end_and_no_further(
    journal: GrowingJournal, location_of: Callable[[str], Location]
) -> None:
    location = location_of("redis")
    follower = location.buffer.follow(campaign_id=journal.header.campaign_id)
    journal.add(1, 2, 3)
    location.deliver(journal.folder)
    assert available(follower) == [0, 1, 2, 3]
    with journal.path.open("ab") as file:
        file.write(records.encode(Footer(at=9 * NS, captured=4, written=4)))
    location.deliver(journal.folder)
    late = write(journal.folder, header(str(uuid.uuid4()), journal.header.campaign_id, pid=1), step(9))
    assert available(follower) == []
    location.deliver(late)
    assert available(follower) == [9]


def test_from_mongodb_no_message_is_returned_before_those_in_front_of_it(
    location_of: Callable[[str], Location],
) -> None:
    location = location_of("mongodb")
    head = header(str(uuid.uuid4()), str(uuid.uuid4()))
    written: list[Record] = [head, *map(step, range(5))]
    lines = [records.encode(record).rstrip() for record in written]
    entries = [Entry(1_000 * number, line) for number, line in enumerate(lines)]
    sink = MongoSink(str(location.source))
    sink.deliver(head, entries[:3])
    with pymongo.MongoClient[dict[str, Any]](str(location.source)) as client:
        early = document_of(head, entries[4], 1 << 24)  # as an unordered insert leaves it that was cut off
        client.get_default_database()[early.collection].insert_one(early.document)
        buffer = location.buffer
        follower = buffer.follow()
        assert available(follower) == [0, 1]
        assert numbers(list(buffer.messages())) == [0, 1, 3], "without following, all messages are returned"
        sink.deliver(head, entries[3:])
        assert available(follower) == [2, 3, 4]
        assert numbers(list(buffer.messages())) == [0, 1, 2, 3, 4]
    sink.close()
