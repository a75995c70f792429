"""What is particular to MongoDB: its documents, their collections, and queries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov import records
from flowprov.records import (
    Campaign,
    Correction,
    Error,
    Footer,
    Header,
    Heartbeat,
    Machine,
    OpenTask,
    Record,
    Sample,
    Task,
    Workflow,
)
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb.documents import document_of, escape_name
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.mongodb.sink import MongoSink

Database = pymongo.database.Database[dict[str, Any]]
SIXTEEN_MIB = 16 * 1024 * 1024


class MongoStore:
    """A database with its sink and its sink reader."""

    def __init__(self, uri: str, name: str) -> None:
        self.client = pymongo.MongoClient[dict[str, Any]](uri)
        self.database: Database = self.client[name]
        self.sink = MongoSink(uri, database=name, timeout=20)
        self.reader = MongoReader(uri, database=name, timeout=20)

    def entries(self, header: Header) -> list[Entry]:
        """Read back the entries of a journal."""
        return list(self.reader.entries(header.journal_id))


@pytest.fixture
def store(shared_mongodb: str, database_name: str) -> Iterator[MongoStore]:
    opened = MongoStore(shared_mongodb, database_name)
    yield opened
    opened.client.drop_database(database_name)
    opened.sink.close()
    opened.reader.close()
    opened.client.close()


def header_of(journal_id: str = "j1", campaign_id: str = "c1", **fields: Any) -> Header:
    values = {"schema": 1, "hostname": "node7", "pid": 42, "started_at": 1_000, "monotonic_ns": 5, **fields}
    return Header(journal_id=journal_id, campaign_id=campaign_id, **values)


def entries_of(lines: Sequence[Record | bytes]) -> list[Entry]:
    entries, position = [], 0
    for line in lines:
        text = line if isinstance(line, bytes) else records.encode(line)[:-1]
        entries.append(Entry(position, text))
        position += len(text) + 1
    return entries


def tasks(count: int, **fields: Any) -> list[Task]:
    return [Task(task_id=number, workflow_id="w1", started_at=number, **fields) for number in range(count)]


def every_kind(header: Header) -> list[Record | bytes]:
    return [
        header,
        Campaign(campaign_id="c1", name="a"),
        Workflow(workflow_id="w1", name="train", status="RUNNING"),
        Heartbeat(at=5, captured=1, open=[1]),
        OpenTask(task_id=1, status="RUNNING"),
        Task(task_id=2, parent_task_id=1, group_id=0, used={"lr": 0.5}, error=Error(type="ValueError")),
        Sample(at=6, values={"host": {"cpu.percent": 3.5}}),
        Sample(at=7, changes={"host": {"cpu.percent": None, "$load": 1.5}}),
        Machine(at=6, values={"cpu": {"model.name": "a"}}),
        Correction(task_id=2, status="CANCELLED"),
        b'{"type":"from the future"}',
        b'{"type":"task","task_id":3,"used":{"torn',
        b'{"not": "utf-8 \xff\xfe"}',
        Footer(at=7, captured=3, written=3),
    ]


def test_every_line_is_read_back_unchanged_and_in_order(store: MongoStore) -> None:
    header = header_of()
    sent = entries_of(every_kind(header))
    store.sink.deliver(header, sent)
    assert store.entries(header) == sent
    assert list(store.reader.entries("j1", after=sent[4].position)) == sent[5:]


def test_lines_are_in_the_collection_of_their_kind(store: MongoStore) -> None:
    store.sink.deliver(header_of(), entries_of(every_kind(header_of())))
    kinds = {
        name: sorted(store.database[name].distinct("type")) for name in ("tasks", "workflows", "journals")
    }
    control = ["campaign", "correction", "footer", "header", "heartbeat", "journal", "machine", "sample"]
    control.append("unreadable")
    assert kinds == {"tasks": ["open_task", "task"], "workflows": ["workflow"], "journals": control}


def test_a_batch_that_was_interrupted_leaves_no_gap(store: MongoStore) -> None:
    header = header_of()
    sent = entries_of([header, *tasks(6)])
    store.sink.deliver(header, sent[:2])
    late = document_of(header, sent[5], SIXTEEN_MIB)  # an unordered insert may store any of a batch
    store.database[late.collection].insert_one(dict(late.document))
    assert store.sink.resume_after(header) == sent[1].position
    assert list(store.reader.entries("j1", confirmed=True)) == sent[:2]
    store.sink.deliver(header, sent[2:])
    assert store.entries(header) == sent


def test_journals_and_campaigns_are_listed_and_kept_apart(store: MongoStore) -> None:
    journals = [
        header_of("j2", "c1", started_at=2),
        header_of("j1", "c1", started_at=1),
        header_of("j3", "c2", started_at=3),
    ]
    for header in journals:
        store.sink.deliver(header, entries_of([header, *tasks(3)]))
    own = Workflow(workflow_id="w9", campaign_id="c9")
    store.sink.deliver(journals[2], [Entry(10_000, records.encode(own)[:-1])])
    assert store.reader.campaign_ids() == ["c1", "c2", "c9"]
    assert store.reader.journal_ids() == ["j1", "j2", "j3"]
    assert store.reader.journal_ids("c1") == ["j1", "j2"]
    assert store.reader.journal_ids("c9") == ["j3"]
    assert [len(store.entries(header)) for header in journals] == [4, 4, 5]


def test_documents_can_be_queried_by_their_fields(store: MongoStore) -> None:
    header = header_of(rank=3)
    losses: list[dict[str, Any]] = [{"loss": 0.5}, {"loss": 2.5}, {"loss": {"$float": "NaN"}}]
    steps = [Task(task_id=i, workflow_id="w1", parent_task_id=0, generated=g) for i, g in enumerate(losses)]
    store.sink.deliver(header, entries_of([header, Workflow(workflow_id="w1", name="train"), *steps]))
    collection = store.database.tasks
    assert collection.count_documents({"workflow_id": "w1", "campaign_id": "c1", "rank": 3, "pid": 42}) == 3
    assert [task["task_id"] for task in collection.find({"generated.loss": {"$gt": 1}})] == ["j1-1"]
    assert [task["task_id"] for task in collection.find({"generated.loss": math.nan})] == ["j1-2"]
    assert collection.count_documents({"parent_task_id": "j1-0", "hostname": "node7"}) == 3
    workflow = store.database.workflows.find_one({"name": "train"})
    assert workflow is not None
    assert workflow["campaign_id"] == "c1"


def test_odd_field_names_can_be_queried_and_come_back(store: MongoStore) -> None:
    used = {
        "a.b": 1,
        "$set": {"": [{"$ref": "x", "$id": 1, "n.m": {"\0": 2}}]},
        "%2E": 3,
        "_id": 4,
        "length": 5,
    }
    header = header_of()
    sent = entries_of([header, Task(task_id=1, used=used)])
    store.sink.deliver(header, sent)
    assert store.entries(header) == sent
    document = store.database.tasks.find_one({"used.a%2Eb": 1})
    assert document is not None
    assert unescaped(document["used"]) == used


def unescape_name(name: str) -> str:
    """Return the name that :func:`escape_name` was given."""
    return "" if name == "%" else unquote(name)


def unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {unescape_name(name): unescaped(content) for name, content in value.items()}
    return [unescaped(item) for item in value] if isinstance(value, list) else value


@given(st.lists(st.text(), unique=True))
def test_escaped_names_are_harmless_distinct_and_reversible(names: list[str]) -> None:
    escaped = [escape_name(name) for name in names]
    assert [unescape_name(name) for name in escaped] == names
    assert len(set(escaped)) == len(names)
    assert not any(not name or name[0] == "$" or "." in name or "\0" in name for name in escaped)


def test_an_integer_that_bson_cannot_hold_costs_the_fields_and_not_the_line(store: MongoStore) -> None:
    header = header_of()
    huge = b'{"type":"task","task_id":1,"used":{"seed":' + b"9" * 30 + b"}}"
    mark = Task(task_id=2, used={"seed": {"$int": str(2**64)}})
    sent = entries_of([header, huge, mark])
    store.sink.deliver(header, sent)
    assert store.entries(header) == sent
    assert store.database.tasks.count_documents({"type": "task"}) == 2
    assert store.database.tasks.count_documents({"used.seed.%24int": str(2**64)}) == 1


@pytest.mark.parametrize("depth", [50, 95, 400, 5_000])
def test_deep_values_are_delivered(store: MongoStore, depth: int) -> None:
    header = header_of()
    deep = b'{"type":"task","task_id":1,"used":{"x":' + b"[" * depth + b"]" * depth + b"}}"
    sent = entries_of([header, deep])
    store.sink.deliver(header, sent)
    assert store.entries(header) == sent


def test_a_line_that_fills_a_document_is_kept_whole_without_its_fields(store: MongoStore) -> None:
    header = header_of()
    sent = entries_of([header, Task(task_id=1, used={"text": "x" * (9 * 1024 * 1024)}), *tasks(2)])
    store.sink.deliver(header, sent)
    assert store.entries(header) == sent
    assert store.database.tasks.count_documents({"type": "task", "used": {"$exists": False}}) == 3


def test_a_line_over_the_limit_of_the_server_is_cut_and_has_its_length(store: MongoStore) -> None:
    header = header_of()
    sent = entries_of([header, Task(task_id=1, used={"text": "x" * (17 * 1024 * 1024)}), *tasks(2)])
    store.sink.deliver(header, sent)
    stored = store.entries(header)
    assert [entry.position for entry in stored] == [entry.position for entry in sent]
    assert stored[2:] == sent[2:]
    assert sent[1].line.startswith(stored[1].line)
    assert len(stored[1].line) > 15 * 1024 * 1024
    document = store.database.tasks.find_one({"length": {"$exists": True}}, {"line": 0})
    assert document is not None
    assert document["length"] == len(sent[1].line)


def test_the_database_is_that_of_the_address_or_flowprov(shared_mongodb: str) -> None:
    name = "flowprov_test_of_address"
    with pymongo.MongoClient[dict[str, Any]](shared_mongodb) as client:
        server, _, options = shared_mongodb.partition("?")
        address = server if server.count("/") > 2 else f"{server}/"
        sink = MongoSink(f"{address.rpartition('/')[0]}/{name}?{options}", timeout=20)
        sink.deliver(header_of(), entries_of([header_of()]))
        sink.close()
        assert client[name].journals.count_documents({"_id": "j1"}) == 1
        client.drop_database(name)


@given(st.binary(max_size=300), st.integers(0, 2**62))
def test_any_line_makes_a_document(line: bytes, position: int) -> None:
    stored = document_of(header_of(), Entry(position, line), SIXTEEN_MIB).document
    text = stored["line"]
    assert (text.encode() if isinstance(text, str) else text) == line
    assert stored["position"] == position


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _json, max_size=4))
def test_any_recorded_value_makes_a_document_with_its_line(used: dict[str, Any]) -> None:
    line = records.encode(Task(task_id=1, used=used))[:-1]
    stored = document_of(header_of(), Entry(7, line), SIXTEEN_MIB)
    assert stored.collection == "tasks"
    assert stored.document["line"].encode() == line
