"""Objects of every odd kind: recorded by type, never raised on, never consumed, never changed."""

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
from tests.values.support import SUMMARISER, recorded

HERE = "tests.values.odd"


# By position: pytest itself cannot bear some of these objects.
@pytest.mark.parametrize("position", range(len(odd.odd_objects())))
def test_odd_objects_are_recorded_small_and_never_raise(position: Any) -> None:
    value = odd.odd_objects()[position]
    recorded(value)
    for form in (value, [value], (value,), {"a": value}, {"nested": {"deep": [value]}}):
        assert len(SUMMARISER.encode(form)) < 4_000
        assert len(SUMMARISER.encode_mapping({"x": form})) < 4_000
    recorded(value, key="password")
    recorded(value, key="token")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (odd.Plain, {"$type": f"{HERE}.Plain"}),
        (odd.Failing, {"$type": f"{HERE}.Failing", "repr_error": "ValueError: no repr at redis://***@host"}),
        (odd.Panicking, {"$type": f"{HERE}.Panicking", "repr_error": "BaseException: panic"}),
        (odd.Huge, {"$type": f"{HERE}.Huge", "repr": "x" * 200 + "…"}),
        (odd.Surrogate, {"$type": f"{HERE}.Surrogate", "repr": "\\udcff"}),
        (odd.Addressed, {"$type": f"{HERE}.Addressed", "repr": "<Addressed of 3>"}),
        (odd.Liar, {"$type": f"{HERE}.Liar"}),
        (odd.Hostile, {"$type": f"{HERE}.Hostile"}),
        (odd.Everything, {"$type": f"{HERE}.Everything"}),
        (odd.Partly, {"good": 1, "bad": {"$read_error": "OSError: bad"}}),
        (threading.Lock, {"$type": "_thread.lock", "repr": "<unlocked _thread.lock object>"}),
        (lambda: odd.a_function, {"$callable": f"{HERE}.a_function"}),
        (lambda: json.JSONEncoder().encode, {"$callable": "json.encoder.JSONEncoder.encode"}),
        (lambda: len, {"$callable": "len"}),
        (lambda: odd.Plain, {"$class": f"{HERE}.Plain"}),
        (lambda: json, {"$module": "json"}),
        (
            lambda: functools.partial(odd.a_function, 1, secret="s"),  # type: ignore[call-arg] # noqa: S106
            {"$partial": f"{HERE}.a_function", "args": [1], "keywords": {"secret": {"$redacted": True}}},
        ),
        (lambda: ValueError("bad"), {"$exception": "ValueError", "message": "bad"}),
        (odd.BadMessage, {"$exception": f"{HERE}.BadMessage", "message_error": "ValueError: no message"}),
        (lambda: itertools.repeat(1), {"$type": "itertools.repeat"}),
        (lambda: re.compile("a"), {"$type": "re.Pattern", "repr": "re.compile('a')"}),
    ],
)
def test_objects_are_recorded_by_type_name_and_short_repr(make: Any, expected: Any) -> None:
    assert recorded(make()) == expected


def test_endless_recursion_and_wrong_types_in_repr_are_said() -> None:
    assert recorded(odd.Endless())["repr_error"].startswith("RecursionError")
    assert recorded(odd.NoString())["repr_error"].startswith("TypeError")


def test_a_mock_is_taken_for_nothing_else() -> None:
    for value in (mock.Mock(), mock.MagicMock(), mock.MagicMock(spec=dict)):
        assert set(recorded(value)) == {"$type", "repr"}


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


def test_sockets_maps_and_closed_things_are_recorded() -> None:
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
    async def made() -> Any:
        task = asyncio.ensure_future(asyncio.sleep(0, "a result"))
        await task
        return recorded(task)

    assert "repr" not in asyncio.run(made())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["value", "list", "dict", "field"])
def test_interruptions_pass_through(interruption: Any, place: Any) -> None:
    class Interrupting:
        def __repr__(self) -> str:
            raise interruption

    value: Any = Interrupting()
    odd = {"value": value, "list": [value], "dict": {"a": value}, "field": {1: value}}[place]
    for call in (SUMMARISER.summarize, SUMMARISER.encode, lambda v: SUMMARISER.encode_mapping({"x": v})):
        with pytest.raises(interruption):
            call(odd)


def test_near_the_end_of_the_stack_it_still_does_not_raise() -> None:
    def descend() -> None:
        for call in (SUMMARISER.encode, SUMMARISER.encode_mapping):
            assert json.loads(call({"a": [1, {"b": float("nan")}]}))
        descend()

    # The bottom is reached by the test's own recursion (or in its own json.loads), not by the summariser.
    with pytest.raises(RecursionError) as caught:
        descend()
    assert not any("flowprov/values" in str(entry.path) for entry in caught.traceback[-1:])


def test_the_type_tables_stay_bounded() -> None:
    for i in range(3_000):
        recorded(type(f"Made{i}", (), {})())
        SUMMARISER.encode_mapping({f"name{i}": i, f"other{i}_{i}": {f"key{i}": 1}})
    from flowprov.values.summarizer import KINDS

    assert len(KINDS.handlers) <= 1_024
