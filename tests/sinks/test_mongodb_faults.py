"""The ways in which MongoDB refuses: users, documents, disks; and the errors that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, OperationFailure

from flowprov.errors import SinkRefusedError, SinkUnavailableError
from flowprov.records import Task
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb.connection import MongoConnection, insert_new
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.mongodb.sink import MongoSink
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.server_process import started
from tests.sinks.test_mongodb import Database, entries_of, header_of, tasks

TIMEOUT = 1.0
HEADER = header_of()


@pytest.mark.filterwarnings("ignore::UserWarning")  # the driver warns of unknown options
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
def test_an_invalid_address_is_refused_without_its_credentials(uri: str) -> None:
    sink = MongoSink(uri, timeout=TIMEOUT)
    with pytest.raises((SinkRefusedError, SinkUnavailableError)) as caught:
        sink.resume_after(header_of())
    for secret in ("geheim", "ge/he", "he@im", "ada"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (18, SinkRefusedError),  # authentication failed
        (13, SinkRefusedError),  # not authorized
        (14031, SinkRefusedError),  # out of disk
        (64, SinkUnavailableError),  # not confirmed in time
        (91, SinkUnavailableError),  # shutting down
        (10107, SinkUnavailableError),  # no primary
    ],
)
def test_the_code_of_an_answer_decides_between_refused_and_unavailable(
    code: int, kind: type[Exception]
) -> None:
    connection = MongoConnection("mongodb://127.0.0.1", None, TIMEOUT)
    with pytest.raises(kind), connection.database():
        raise OperationFailure("no", code)
    connection.close()


def test_missing_rights_are_refused_without_credentials(own_mongodb: MongoServer) -> None:
    with pymongo.MongoClient[dict[str, Any]](own_mongodb.uri()) as client:
        reader = {"createUser": "ada", "pwd": "geheim", "roles": [{"role": "read", "db": "flowprov"}]}
        client.flowprov.command(reader)
    own_mongodb.kill()
    own_mongodb.start("--auth")
    sink = MongoSink(own_mongodb.address("ada:geheim@", "flowprov"), timeout=5)
    with pytest.raises(SinkRefusedError) as caught:
        sink.deliver(HEADER, entries_of([HEADER]))
    assert "geheim" not in str(caught.value)
    sink.close()


@pytest.fixture
def database(shared_mongodb: str, database_name: str) -> Iterator[Database]:
    """A database in which a test may create collections before the sink does."""
    with pymongo.MongoClient[dict[str, Any]](shared_mongodb) as client:
        yield client[database_name]
        client.drop_database(database_name)


@pytest.fixture
def sink(shared_mongodb: str, database: Database) -> Iterator[MongoSink]:
    with closing(MongoSink(shared_mongodb, database=database.name, timeout=20)) as made:
        yield made


def stored(uri: str, database: Database) -> list[Entry]:
    with closing(MongoReader(uri, database=database.name)) as source:
        return list(source.entries(HEADER.journal_id))


MIXED = entries_of([HEADER, *tasks(2), Task(task_id=7, used={"word": "geheim"}), *tasks(5)[2:]])


def deliver_twice(sink: MongoSink, entries: Sequence[Entry]) -> None:
    for _ in range(2):
        sink.deliver(HEADER, entries)
    assert sink.resume_after(HEADER) == entries[-1].position


def test_a_document_that_a_validator_refuses_is_stored_as_its_line_alone(
    sink: MongoSink, database: Database, shared_mongodb: str
) -> None:
    database.create_collection("tasks", validator={"used.word": {"$exists": False}})
    deliver_twice(sink, MIXED)
    assert stored(shared_mongodb, database) == MIXED
    assert database.tasks.count_documents({"hostname": "node7"}) == 5
    position, line = MIXED[3]
    assert database.tasks.find_one({"position": position}) == {
        "_id": f"j1:{position}",
        "journal_id": "j1",
        "position": position,
        "campaign_id": "c1",
        "type": "task",
        "line": line.decode(),
    }


def test_a_line_that_its_collection_refuses_in_every_form_is_stored_in_another(
    sink: MongoSink, database: Database, shared_mongodb: str
) -> None:
    database.create_collection("tasks", validator={"task_id": {"$in": ["j1-0", "j1-3"]}})
    deliver_twice(sink, MIXED)
    assert stored(shared_mongodb, database) == MIXED
    assert database.tasks.count_documents({}) == 2
    assert database.journals.count_documents({"type": "task"}) == 4


def test_a_foreign_unique_index_hides_no_line(
    sink: MongoSink, database: Database, shared_mongodb: str
) -> None:
    for field in ("task_id", "used.n"):
        database.tasks.create_index([(field, 1)], unique=True)
    entries = entries_of([HEADER, *(Task(task_id=1, used={"n": number % 2}) for number in range(6))])
    deliver_twice(sink, entries)
    assert stored(shared_mongodb, database) == entries


def test_a_line_that_every_collection_refuses_is_refused_without_its_contents(
    sink: MongoSink, database: Database
) -> None:
    for name in ("tasks", "journals"):
        database.create_collection(name, validator={"type": {"$ne": "task"}})
    with pytest.raises(SinkRefusedError, match="validation") as caught:
        sink.deliver(HEADER, MIXED)
    assert "geheim" not in str(caught.value)
    assert sink.resume_after(HEADER) is None


@pytest.mark.parametrize("answered_by", ["the server", "an old server"])
def test_a_document_that_is_stored_is_distinguished_from_one_with_an_equal_key(
    database: Database, answered_by: str
) -> None:
    """A stand-in removes the name of the key: servers before MongoDB 4.2 do not give it."""

    class WithoutKeyPattern:
        def insert_many(self, documents: Any, *, ordered: bool) -> None:
            try:
                database.tasks.insert_many(documents, ordered=ordered)
            except BulkWriteError as error:
                for detail in error.details["writeErrors"]:
                    del detail["keyPattern"], detail["keyValue"]
                raise

        def find_one(self, *arguments: Any) -> Any:
            return database.tasks.find_one(*arguments)

    collection: Any = WithoutKeyPattern() if answered_by == "an old server" else database.tasks
    database.tasks.create_index([("key", 1)], unique=True)
    first, second = (RawBSONDocument(bson.encode({"_id": number, "key": 5})) for number in (1, 2))
    assert insert_new(collection, [first]) == []
    assert [refused.document for refused in insert_new(collection, [first, second])] == [second]


def test_a_server_with_a_full_disk_refuses_and_later_takes_whole_documents(tmp_path: Path) -> None:
    with (
        started(MongoServer(tmp_path / "mongodb"), "--enable-test-commands") as server,
        pymongo.MongoClient[dict[str, Any]](server.uri()) as client,
        closing(MongoSink(server.uri(), timeout=20)) as sink,
    ):
        sink.deliver(HEADER, MIXED[:2])
        full = {"failCommands": ["insert"], "errorCode": 14031}
        client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=full)
        with pytest.raises(SinkRefusedError):
            sink.deliver(HEADER, MIXED)
        client.admin.command("configureFailPoint", "failCommand", mode="off")
        assert sink.resume_after(HEADER) == MIXED[1].position
        sink.deliver(HEADER, MIXED)
        assert client.flowprov.tasks.count_documents({"hostname": "node7"}) == 6


@pytest.mark.parametrize(
    ("code", "unconfirmed", "raised"),
    [(14031, False, True), (13, False, True), (91, False, True), (64, True, True), (10334, False, False)],
)
def test_only_an_error_about_its_content_makes_a_document_refused(
    code: int, *, unconfirmed: bool, raised: bool
) -> None:
    """A stand-in answers: no available server can return these codes for one document of several."""
    documents = [RawBSONDocument(bson.encode({"_id": number})) for number in range(3)]
    detail = {"index": 1, "code": code, "errmsg": "no"}
    details = {"writeConcernErrors" if unconfirmed else "writeErrors": [detail]}

    class Refusing:
        def insert_many(self, *_: Any, **__: Any) -> None:
            raise BulkWriteError(details)

    collection: Any = Refusing()
    if raised:
        with pytest.raises(OperationFailure):
            insert_new(collection, documents)
    else:
        assert [refused.document for refused in insert_new(collection, documents)] == [documents[1]]
