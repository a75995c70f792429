"""The MongoDB sink when its server is away, frozen, killed, or refuses."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from flowprov.sinks.base import SinkRefusedError, SinkUnavailableError
from flowprov.sinks.mongodb import MongoSink
from flowprov.sinks.mongodb_connection import Connection
from flowprov.sinks.mongodb_reader import MongoSource
from tests.sinks.mongodb_server import MongoServer, database_name, free_port, own_mongodb, shared_mongodb
from tests.sinks.test_mongodb import entries_of, header_of, tasks

__all__ = ["database_name", "own_mongodb", "shared_mongodb"]

TIMEOUT = 1.0
PATIENCE = 10.0  # far above the timeout, far below any default of the driver


def test_a_server_that_is_away_is_said_within_the_timeout_and_without_credentials() -> None:
    sink = MongoSink(f"mongodb://ada:geheim@127.0.0.1:{free_port()}/x", timeout=TIMEOUT)
    started = time.monotonic()
    with pytest.raises(SinkUnavailableError) as caught:
        sink.resume_after(header_of())
    with pytest.raises(SinkUnavailableError):
        sink.deliver(header_of(), entries_of([header_of()]))
    assert time.monotonic() - started < PATIENCE
    assert "127.0.0.1" in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "ada" not in str(caught.value)
    sink.close()


@pytest.mark.filterwarnings("ignore::UserWarning")  # the driver's own, of odd options
@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://ada:ge/he@im@localhost/",
        "mongodb://ada:geheim@localhost:port/",
        "mongodb://localhost/?authMechanism=NONE&password=geheim",
        "mongodb://localhost/?replicaSet=",
        "nothing://geheim@x",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_credentials(uri: str) -> None:
    sink = MongoSink(uri, timeout=TIMEOUT)
    with pytest.raises((SinkRefusedError, SinkUnavailableError)) as caught:
        sink.resume_after(header_of())
    for secret in ("geheim", "ge/he", "he@im", "ada"):
        assert secret not in str(caught.value)


def test_making_a_sink_connects_to_nothing() -> None:
    sink = MongoSink("mongodb://nowhere.invalid", timeout=TIMEOUT)
    sink.close()
    sink.close()


def test_a_frozen_server_is_said_within_the_timeout_and_served_after_it(own_mongodb: MongoServer) -> None:
    sink = MongoSink(own_mongodb.uri, timeout=TIMEOUT)
    fresh = MongoSink(own_mongodb.uri, timeout=TIMEOUT)
    header = header_of()
    given = entries_of([header, *tasks(4)])
    patient = MongoSink(own_mongodb.uri, timeout=20)
    patient.deliver(header, given[:1])
    assert sink.resume_after(header) == 0
    own_mongodb.freeze()
    for asked in (sink, fresh, sink):
        started = time.monotonic()
        with pytest.raises(SinkUnavailableError):
            asked.deliver(header, given)
        assert time.monotonic() - started < PATIENCE
    own_mongodb.thaw()
    patient.deliver(header, given)
    assert list(MongoSource(own_mongodb.uri).entries("j1")) == given
    for made in (sink, fresh, patient):
        made.close()


def test_what_was_confirmed_before_a_kill_is_there_once_after_it(own_mongodb: MongoServer) -> None:
    header = header_of()
    given = entries_of([header, *tasks(300)])
    sink = MongoSink(own_mongodb.uri, timeout=20)
    sink.deliver(header, given[:150])
    own_mongodb.kill()
    hasty = MongoSink(own_mongodb.uri, timeout=TIMEOUT)
    with pytest.raises(SinkUnavailableError):
        hasty.deliver(header, given[150:])
    own_mongodb.start()
    assert sink.resume_after(header) == given[149].position
    source = MongoSource(own_mongodb.uri)
    assert list(source.entries("j1")) == given[:150]
    sink.deliver(header, given[100:])
    assert list(source.entries("j1")) == given
    for made in (sink, hasty, source):
        made.close()


def test_a_failed_call_is_tried_on_a_new_connection(own_mongodb: MongoServer) -> None:
    sink = MongoSink(own_mongodb.uri, timeout=5)
    sink.deliver(header_of(), entries_of([header_of()]))
    own_mongodb.kill()
    with pytest.raises(SinkUnavailableError):
        sink.resume_after(header_of())
    own_mongodb.start()
    assert sink.resume_after(header_of()) == 0
    sink.close()


def test_a_wrong_password_and_missing_rights_are_refused_without_credentials(
    own_mongodb: MongoServer,
) -> None:
    with pymongo.MongoClient[dict[str, Any]](own_mongodb.uri) as client:
        reader = {"createUser": "ada", "pwd": "geheim", "roles": [{"role": "read", "db": "flowprov"}]}
        client.flowprov.command(reader)
    own_mongodb.kill()
    own_mongodb.start("--auth")
    for user in ("ada:falsch", "ada:geheim"):
        sink = MongoSink(own_mongodb.uri.replace("://", f"://{user}@") + "/flowprov", timeout=5)
        with pytest.raises(SinkRefusedError) as caught:
            sink.deliver(header_of(), entries_of([header_of()]))
        assert not any(word in str(caught.value) for word in ("geheim", "falsch"))
        sink.close()


def test_a_document_that_the_server_refuses_is_said_without_its_contents(
    shared_mongodb: str, database_name: str
) -> None:
    with pymongo.MongoClient[dict[str, Any]](shared_mongodb) as client:
        client[database_name].create_collection("tasks", validator={"rank": {"$gt": 1_000}})
        sink = MongoSink(shared_mongodb, database=database_name, timeout=20)
        with pytest.raises(SinkRefusedError) as caught:
            sink.deliver(header_of(), entries_of([header_of(), *tasks(2, used={"word": "geheim"})]))
        assert "geheim" not in str(caught.value)
        assert sink.resume_after(header_of()) is None
        sink.close()
        client.drop_database(database_name)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (18, SinkRefusedError),  # authentication failed
        (13, SinkRefusedError),  # not authorised
        (14031, SinkRefusedError),  # out of disk
        (64, SinkUnavailableError),  # not confirmed in time
        (91, SinkUnavailableError),  # shutting down
        (10107, SinkUnavailableError),  # no primary
    ],
)
def test_what_a_server_answers_is_refused_or_passing_by_its_code(code: int, kind: type[Exception]) -> None:
    connection = Connection("mongodb://127.0.0.1", None, TIMEOUT)
    with pytest.raises(kind), connection.database():
        raise OperationFailure("no", code)
    connection.close()


def test_a_forked_child_makes_a_client_of_its_own(
    shared_mongodb: str, database_name: str, tmp_path: Path
) -> None:
    sink = MongoSink(shared_mongodb, database=database_name, timeout=20)
    header = header_of()
    given = entries_of([header, *tasks(2)])
    sink.deliver(header, given[:1])
    child = os.fork()
    if child == 0:
        try:
            sink.deliver(header, given[:2])
            (tmp_path / "done").touch()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "done").exists()
    assert sink.resume_after(header) == given[1].position
    sink.deliver(header, given)
    assert sink.resume_after(header) == given[2].position
    sink.close()
    with pymongo.MongoClient[dict[str, Any]](shared_mongodb) as client:
        client.drop_database(database_name)
