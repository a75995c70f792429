"""Objects of every odd kind are recorded by type; recording never raises, consumes or changes them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import mmap
import re
import socket
import threading
import weakref
from typing import Any
from unittest import mock

import pytest

from tests.values import odd
from tests.values.support import ASKING, SUMMARIZER, recorded

MODULE = "tests.values.odd"


# Parametrized by index: pytest itself fails on some of these objects.
@pytest.mark.parametrize("index", range(len(odd.odd_objects())))
def test_odd_objects_are_recorded_small_and_never_raise(index: Any) -> None:
    value = odd.odd_objects()[index]
    for summarizer in (SUMMARIZER, ASKING):
        recorded(value, summarizer=summarizer)
        for form in (value, [value], (value,), {"a": value}, {"nested": {"deep": [value]}}):
            assert len(summarizer.encode(form)) < 4_000
            assert len(summarizer.encode_mapping({"x": form})) < 4_000
        recorded(value, key="password", summarizer=summarizer)
        recorded(value, key="token", summarizer=summarizer)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (odd.Plain, {"$type": f"{MODULE}.Plain"}),
        (
            odd.Failing,
            {"$type": f"{MODULE}.Failing", "repr_error": "ValueError: no repr at redis://***@host"},
        ),
        (odd.Panicking, {"$type": f"{MODULE}.Panicking", "repr_error": "BaseException: panic"}),
        (odd.Huge, {"$type": f"{MODULE}.Huge", "repr": "x" * 200 + "…"}),
        (odd.Surrogate, {"$type": f"{MODULE}.Surrogate", "repr": "\\udcff"}),
        (odd.Addressed, {"$type": f"{MODULE}.Addressed", "repr": "<Addressed of 3>"}),
        (odd.Liar, {"$type": f"{MODULE}.Liar"}),
        (odd.Hostile, {"$type": f"{MODULE}.Hostile"}),
        (odd.Everything, {"$type": f"{MODULE}.Everything"}),
        (odd.Partly, {"good": 1, "bad": {"$read_error": "OSError: bad"}}),
        (threading.Lock, {"$type": "_thread.lock", "repr": "<unlocked _thread.lock object>"}),
        (lambda: odd.a_function, {"$callable": f"{MODULE}.a_function"}),
        (lambda: json.JSONEncoder().encode, {"$callable": "json.encoder.JSONEncoder.encode"}),
        (lambda: len, {"$callable": "len"}),
        (lambda: odd.Plain, {"$class": f"{MODULE}.Plain"}),
        (lambda: json, {"$module": "json"}),
        (
            lambda: functools.partial(odd.a_function, 1, secret="s"),  # type: ignore[call-arg] # noqa: S106
            {"$partial": f"{MODULE}.a_function", "args": [1], "keywords": {"secret": {"$redacted": True}}},
        ),
        (lambda: ValueError("bad"), {"$exception": "ValueError", "message": "bad"}),
        (odd.BadMessage, {"$exception": f"{MODULE}.BadMessage", "message_error": "ValueError: no message"}),
        (lambda: itertools.repeat(1), {"$type": "itertools.repeat"}),
        (lambda: re.compile("a"), {"$type": "re.Pattern", "repr": "re.compile('a')"}),
    ],
)
def test_objects_that_are_asked_are_recorded_by_type_name_and_short_repr(make: Any, expected: Any) -> None:
    assert recorded(make(), summarizer=ASKING) == expected


def test_endless_recursion_and_wrong_types_in_a_repr_are_recorded() -> None:
    assert recorded(odd.Endless(), summarizer=ASKING)["repr_error"].startswith("RecursionError")
    assert recorded(odd.NoString(), summarizer=ASKING)["repr_error"].startswith("TypeError")


def test_a_mock_is_recorded_like_any_other_object() -> None:
    for value in (mock.Mock(), mock.MagicMock(), mock.MagicMock(spec=dict)):
        assert set(recorded(value)) == {"$type"}
        assert set(recorded(value, summarizer=ASKING)) == {"$type", "repr"}


def test_iterators_generators_and_files_are_not_consumed(tmp_path: Any) -> None:
    generator = (i for i in range(3))
    iterator = iter([1, 2, 3])
    mapped = map(str, [1, 2, 3])
    path = tmp_path / "file"
    path.write_text("content")
    with path.open() as file:
        recorded([generator, iterator, mapped, file])
        assert file.read() == "content"
    assert list(generator) == [0, 1, 2]
    assert list(iterator) == [1, 2, 3]
    assert list(mapped) == ["1", "2", "3"]


def test_sockets_memory_maps_and_closed_resources_are_recorded() -> None:
    with socket.socket() as open_socket:
        recorded(open_socket)
    recorded(open_socket)
    with mmap.mmap(-1, 4096) as area:
        assert recorded(area)["$type"] == "mmap.mmap"
    recorded(area)
    view = memoryview(b"abc")
    view.release()
    assert recorded(view)["read_error"].startswith("ValueError")


def test_weak_proxies_are_recorded_alive_and_dead() -> None:
    thing = odd.Plain()
    proxy = weakref.proxy(thing)
    assert recorded(proxy) == {"$type": "weakref.ProxyType"}
    del thing
    assert recorded(proxy) == {"$type": "weakref.ProxyType"}


def test_asyncio_tasks_do_not_show_their_results() -> None:
    async def record_finished_task() -> Any:
        task = asyncio.ensure_future(asyncio.sleep(0, "a result"))
        await task
        return recorded(task)

    assert "repr" not in asyncio.run(record_finished_task())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("container", ["value", "list", "dict", "field"])
def test_interruptions_pass_through(interruption: Any, container: Any) -> None:
    class Interrupting:
        def __repr__(self) -> str:
            raise interruption

    value: Any = Interrupting()
    nested = {"value": value, "list": [value], "dict": {"a": value}, "field": {1: value}}[container]
    for call in (ASKING.summarize, ASKING.encode, lambda v: ASKING.encode_mapping({"x": v})):
        with pytest.raises(interruption):
            call(nested)


def test_the_summarizer_does_not_raise_near_the_end_of_the_stack() -> None:
    def descend() -> None:
        for call in (SUMMARIZER.encode, SUMMARIZER.encode_mapping):
            assert json.loads(call({"a": [1, {"b": float("nan")}]}))
        descend()

    # The test's own recursion (or its own json.loads) exhausts the stack, not the summarizer.
    with pytest.raises(RecursionError) as caught:
        descend()
    assert not any("flowprov/values" in str(entry.path) for entry in caught.traceback[-1:])


def test_the_type_tables_stay_bounded() -> None:
    for i in range(3_000):
        recorded(type(f"Generated{i}", (), {})())
        SUMMARIZER.encode_mapping({f"name{i}": i, f"other{i}_{i}": {f"key{i}": 1}})
    from flowprov.values.handler_table import HANDLER_TABLE

    assert len(HANDLER_TABLE.by_id) <= 1_024
