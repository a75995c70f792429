"""A table of kinds of values, from a number to objects whose every method is foreign code.

Each kind is a function that creates a value. `test_kinds` records all of them; a soak test measures what that
costs. Kinds of a package that is not installed are left out.
"""

from __future__ import annotations

import abc
import argparse
import array
import ast
import asyncio
import collections
import concurrent.futures
import configparser
import contextvars
import ctypes
import dataclasses
import datetime as dt
import decimal
import email.message
import enum
import fractions
import functools
import gc
import hashlib
import io
import ipaddress
import itertools
import json
import logging
import mmap
import os
import pathlib
import queue
import random
import re
import socket
import sqlite3
import string
import sys
import tempfile
import threading
import time
import types
import typing
import uuid
import weakref
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from tests.values import hostile, odd
from tests.values.hostile import hostile_class, hostile_object

_LONG = 5_000_000  # characters or bytes: enough to see whether they are copied


class Color(enum.Enum):
    """An enum."""

    RED = (1, 0, 0)


class Level(enum.IntEnum):
    """An enum of integers."""

    HIGH = 3


class Permission(enum.Flag):
    """An enum of flags."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float


@dataclasses.dataclass
class Config:
    """A dataclass with a property in the place of a field, and one that keeps what it computed."""

    lr: float = 0.1
    layers: list[int] = dataclasses.field(default_factory=lambda: [64, 64])
    computed: Any = None

    @functools.cached_property
    def cached(self) -> Any:
        """Compute."""
        hostile.CALLS.append("cached_property")
        return 1


Config.computed = property(hostile.spy("a property"), lambda _self, _value: None)


@dataclasses.dataclass
class Slotted:
    """A dataclass with slots."""

    __slots__ = ("lr", "seed")
    lr: float
    seed: int


class Struct(msgspec.Struct, dict=True):
    """A msgspec Struct."""

    batch: int = 32


class Everything:
    """Has every attribute, and computes it."""

    def __getattr__(self, name: str) -> Any:
        hostile.CALLS.append(name)
        return self


class _Callable:
    """Something foreign that can be called."""

    def __call__(self, *_: object) -> None: ...

    __repr__ = __str__ = __getattr__ = hostile.spy("something callable")


class Sleeping:
    """Has a repr that waits."""

    def __repr__(self) -> str:
        time.sleep(1)
        return "woken"


class Tree:
    """Holds itself and other trees."""

    def __init__(self, depth: int) -> None:
        self.children = [Tree(depth - 1) for _ in range(3)] if depth else []

    def to_dict(self) -> dict[str, Any]:
        """Return all of it."""
        hostile.CALLS.append("to_dict")
        return {"children": [child.to_dict() for child in self.children]}


StoredDict = type("StoredDict", (), {"__dict__": property(hostile.spy("__dict__"))})
"""Has a property where others have the dictionary of their attributes."""


def _texts(count: int, length: int = 20) -> list[str]:
    return [f"{number:0{length}}" for number in range(count)]


def _fields(count: int) -> list[str]:
    return [f"field_{number}" for number in range(count)]


def _deep(levels: int, make: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = make(value)
    return value


def _cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def _generator() -> Any:
    yield 1


async def _async_generator() -> Any:
    yield 1


async def _coroutine() -> int:
    return 1


def _closed_coroutine() -> Any:
    coroutine = _coroutine()
    coroutine.close()
    return coroutine


def _future() -> Any:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.set_result(_texts(10_000))
    return future


def _asyncio_future() -> Any:
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()
        future.set_result(_texts(10_000))
        return future
    finally:
        loop.close()


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # with its traceback
        return caught


def _closed(value: Any) -> Any:
    value.close()
    return value


def _weak_dictionary() -> Any:
    value: Any = weakref.WeakValueDictionary()
    value["kept"] = Color
    return value


def _partial(depth: int) -> Any:
    function: Any = print
    for number in range(depth):
        function = functools.partial(function, number)
    return function


def _time_zone() -> dt.tzinfo:
    class Foreign(dt.tzinfo):
        def utcoffset(self, _when: dt.datetime | None) -> dt.timedelta:
            hostile.CALLS.append("utcoffset")
            return dt.timedelta(0)

        def __repr__(self) -> str:
            hostile.CALLS.append("__repr__")
            return "zone"

        tzname = dst = hostile.spy("of a time zone")

    return Foreign()


def _filled(value: Any, fill: Callable[..., Any], *args: Any) -> Any:
    fill(value, *args)
    return value


def odd_mapping() -> Any:
    """Create a mapping whose methods are all foreign code."""
    return hostile_class(collections.abc.Mapping)()


def _hostile_keys() -> dict[Any, int]:
    class Key:
        def __repr__(self) -> str:
            hostile.CALLS.append("__repr__")
            return "key"

        def __str__(self) -> str:
            hostile.CALLS.append("__str__")
            return "key"

    return {Key(): number for number in range(1_000)}


BUILTINS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "int": lambda: 7,
    "int beyond 64 bits": lambda: 2**64,
    "int of 4,000 bits": lambda: 2**4000,
    "enormous int": lambda: 1 << 100_000_000,
    "float": lambda: 0.5,
    "nan": lambda: float("nan"),
    "complex": lambda: 1 + 2j,
    "ellipsis": lambda: ...,
    "not implemented": lambda: NotImplemented,
    "short text": lambda: "text",
    "text of a megabyte and more": lambda: "x" * _LONG,
    "text beyond ascii": lambda: "日" * _LONG,
    "control characters": lambda: "\x00" * 1_000,
    "quotes": lambda: '"\\' * 500,
    "lone surrogates": lambda: "\udcff" * 1_000,
    "text of addresses": lambda: "http://u:p@h/ " * 100_000,
    "one long address": lambda: "redis://u:" + "p" * 100_000,
    "bytes": lambda: b"abc",
    "many bytes": lambda: bytes(_LONG),
    "bytearray": lambda: bytearray(_LONG),
    "memoryview": lambda: memoryview(bytes(_LONG)),
    "strided memoryview": lambda: memoryview(bytes(_LONG))[::2],
    "memoryview of floats": lambda: memoryview(array.array("d", [0.5]) * 100_000),
    "released memoryview": lambda: _filled(memoryview(b"abc"), memoryview.release),
    "array": lambda: array.array("d", [0.5]) * 1_000_000,
    "range": lambda: range(10**18),
    "slice": lambda: slice(None, 3),
    "slice of texts": lambda: slice("x" * _LONG, "y" * _LONG),
    "list of ints": lambda: list(range(1_000_000)),
    "list of floats": lambda: [0.1] * 100,
    "list of floats and nan": lambda: [*[0.1] * 99, float("nan")],
    "list of texts": lambda: _texts(100_000),
    "list of long texts": lambda: ["x" * 100_000] * 1_000,
    "list of short lists": lambda: [[number] for number in range(100_000)],
    "lists in lists": lambda: [[["x" * 50] * 100] * 100] * 100,
    "lists of 5,000 levels": lambda: _deep(5_000, lambda value: [value]),
    "lists that branch": lambda: _deep(8, lambda value: [value, value, value]),
    "list of many bytes": lambda: [bytes(100_000)] * 1_000,
    "list of enormous ints": lambda: [1 << 1_000_000] * 1_000,
    "list of long addresses": lambda: ["http://u:p@h/" * 70] * 1_000,
    "cyclic list": _cyclic,
    "tuple": lambda: tuple(range(100_000)),
    "empty tuple": lambda: (),
    "named tuple": lambda: Point(1, 2.0),
    "wide named tuple": lambda: collections.namedtuple("Wide", _fields(2_000))(*range(2_000)),  # noqa: PYI024
    "struct time": lambda: time.gmtime(0),
    "stat result": lambda: os.stat_result(range(10)),
    "set of ints": lambda: set(range(100_000)),
    "set of texts": lambda: set(_texts(100_000)),
    "set of tuples": lambda: {(number, "x") for number in range(10_000)},
    "sets in a list": lambda: [set(_texts(2_000, 200))] * 100,
    "frozenset": lambda: frozenset({1, "a", None}),
    "dict": lambda: {"lr": 0.1, "layers": [64, 64]},
    "dict of 100 metrics": lambda: {f"metric_{number}": number / 3 for number in range(100)},
    "dict of 1,000 x 100 texts": lambda: {
        name: dict.fromkeys(_texts(100), "x" * 50) for name in _texts(1_000)
    },
    "dict of 1,000 x 100 x 10 texts": lambda: {
        name: {inner: _texts(10, 100) for inner in _texts(100)} for name in _texts(1_000)
    },
    "dict of 100,000": lambda: dict.fromkeys(_texts(100_000), "x" * 100),
    "dict of long texts": lambda: dict.fromkeys(_texts(1_000), "x" * 5_000),
    "dict of long keys": lambda: {f"{number}{'k' * 100_000}": number for number in range(200)},
    "dict of keys beyond ascii": lambda: {f"{number}{'日' * 150}": number for number in range(1_000)},
    "dict of control characters": lambda: {
        f"{number}{chr(1) * 150}": chr(1) * 900 for number in range(1_000)
    },
    "dict of numbers as keys": lambda: dict.fromkeys(range(1_000), 1),
    "dict of tuples as keys": lambda: {(number, "x" * 1_000): 1 for number in range(1_000)},
    "dict of objects as keys": lambda: {object(): number for number in range(1_000)},
    "dict of bytes as keys": lambda: {bytes(100_000) + bytes([number]): number for number in range(200)},
    "dicts in dicts": lambda: _deep(8, lambda value: dict.fromkeys(_texts(10), value)),
    "dicts of 5,000 levels": lambda: _deep(5_000, lambda value: {"a": value}),
    "cyclic dict": lambda: _filled({}, lambda value: value.update(again=value)),
    "keys of a dict": lambda: dict.fromkeys(_texts(100_000)).keys(),
    "values of a dict": lambda: dict.fromkeys(_texts(100_000)).values(),
    "items of a dict": lambda: dict.fromkeys(_texts(100_000)).items(),
    "ordered dict": lambda: collections.OrderedDict.fromkeys(_texts(10_000)),
    "default dict": lambda: collections.defaultdict(list, a=[1]),
    "counter": lambda: collections.Counter(_texts(10_000)),
    "chain map": lambda: collections.ChainMap({"a": 1}, dict.fromkeys(_texts(100_000))),
    "mapping proxy": lambda: types.MappingProxyType(dict.fromkeys(_texts(100_000))),
    "namespace of a class": lambda: vars(Config),
    "user dict": lambda: collections.UserDict(dict.fromkeys(_texts(10_000))),
    "user list": lambda: collections.UserList(range(100_000)),
    "user string": lambda: collections.UserString("x" * _LONG),
    "deque": lambda: collections.deque(range(100_000)),
    "namespace": lambda: types.SimpleNamespace(**dict.fromkeys(_fields(2_000), 1)),
}

STANDARD_LIBRARY: dict[str, Callable[[], Any]] = {
    "decimal": lambda: decimal.Decimal("1.10"),
    "decimal of a million digits": lambda: decimal.Decimal("1" * 1_000_000),
    "fraction": lambda: fractions.Fraction(3, 4),
    "fraction of enormous ints": lambda: fractions.Fraction(1 << 1_000_000, 3),
    "uuid": lambda: uuid.UUID(int=5),
    "path": lambda: pathlib.Path("/data/x"),
    "long path": lambda: pathlib.PurePosixPath("/".join(["d" * 200] * 500)),
    "datetime": lambda: dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
    "datetime with a time zone": lambda: dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "datetime with a foreign time zone": lambda: dt.datetime(2024, 1, 2, tzinfo=_time_zone()),
    "date": lambda: dt.date(2024, 1, 2),
    "time": lambda: dt.time(3, 4),
    "timedelta": lambda: dt.timedelta(seconds=3),
    "time zone": lambda: dt.timezone.utc,
    "datetimes": lambda: [dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc)] * 1_000,
    "decimals": lambda: [decimal.Decimal("1.10")] * 1_000,
    "enum": lambda: Color.RED,
    "int enum": lambda: Level.HIGH,
    "flags": lambda: Permission.READ | Permission.WRITE,
    "enums": lambda: [Color.RED] * 1_000,
    "pattern": lambda: re.compile("a" * 100_000),
    "match": lambda: re.match("(a*)", "a" * 1_000_000),
    "lock": threading.Lock,
    "rlock": threading.RLock,
    "event": threading.Event,
    "condition": threading.Condition,
    "semaphore": threading.Semaphore,
    "thread": threading.current_thread,
    "thread-local data": threading.local,
    "queue": lambda: _filled(queue.Queue(), queue.Queue.put, 1),
    "future": _future,
    "asyncio future": _asyncio_future,
    "socket": lambda: _closed(socket.socket()),
    "socket pair": lambda: [_closed(each) for each in socket.socketpair()],
    "file": lambda: _closed(open(__file__)),
    "binary file": lambda: _closed(open(__file__, "rb")),
    "temporary file": lambda: _closed(tempfile.TemporaryFile()),
    "text in memory": lambda: io.StringIO("x" * _LONG),
    "bytes in memory": lambda: io.BytesIO(bytes(_LONG)),
    "memory map": lambda: mmap.mmap(-1, _LONG),
    "closed memory map": lambda: _closed(mmap.mmap(-1, 4_096)),
    "module": lambda: json,
    "module with hostile attributes": lambda: _filled(
        types.ModuleType("m"), lambda module: module.__dict__.update(__name__=hostile_object())
    ),
    "function": lambda: _texts,
    "lambda": lambda: lambda: None,
    "builtin": lambda: len,
    "method": lambda: json.JSONEncoder().encode,
    "method of something foreign": lambda: types.MethodType(hostile_object(), 1),
    "builtin method": lambda: [].append,
    "method wrapper": lambda: [].__len__,
    "partial": lambda: functools.partial(print, 1, sep="s"),
    "partials in partials": lambda: functools.partial(print, _partial(50)),
    "partial with much": lambda: functools.partial(print, _texts(100_000), key=_texts(100_000)),
    "partial of something foreign": lambda: functools.partial(_Callable(), 1),
    "cached function": lambda: functools.lru_cache(_fields),
    "property": property,
    "static method": lambda: staticmethod(len),
    "class": lambda: Config,
    "abstract class": lambda: abc.ABC,
    "generic alias": lambda: list[int],
    "union": lambda: int | str,
    "typing": lambda: typing.Optional[dict[str, int]],  # noqa: UP045 - the object that it makes
    "type variable": lambda: typing.TypeVar("T"),
    "generator": _generator,
    "coroutine": _closed_coroutine,
    "asynchronous generator": _async_generator,
    "iterator": lambda: iter(_texts(100_000)),
    "endless iterator": itertools.count,
    "repeated": lambda: itertools.repeat(_texts(100_000)),
    "map": lambda: map(str, [1]),
    "weak reference": lambda: weakref.ref(Color),
    "weak proxy": lambda: weakref.proxy(Color.RED),
    "weak dictionary": _weak_dictionary,
    "weak set": lambda: weakref.WeakSet([Color.RED]),
    "exception": lambda: ValueError("bad", 3),
    "exception with a long message": lambda: ValueError("x" * _LONG),
    "exception with many arguments": lambda: ValueError(_texts(100_000), _texts(100_000)),
    "exception with a foreign argument": lambda: ValueError(hostile_object()),
    "exceptions with foreign arguments": lambda: [KeyError(hostile_object()), OSError(2, hostile_object())],
    "exception with a foreign message": lambda: hostile.hostile(ValueError, "message"),
    "key error": lambda: KeyError("k" * _LONG),
    "system error": lambda: OSError(2, "No such file", "/data/x"),
    "unicode error": lambda: UnicodeDecodeError("utf-8", bytes(_LONG), 0, 1, "bad"),
    "syntax error": lambda: SyntaxError("bad", ("f.py", 1, 2, "x" * _LONG)),
    "raised exception": lambda: _raised(ValueError("bad")),
    "traceback": lambda: _raised(ValueError("bad")).__traceback__,
    "frame": sys._getframe,
    "code": lambda: _texts.__code__,
    "syntax tree": lambda: ast.parse("x = 1\n" * 1_000),
    "ctypes int": lambda: ctypes.c_int(3),
    "ctypes array": ctypes.c_int * 100_000,
    "ctypes pointer": lambda: ctypes.pointer(ctypes.c_int(1)),
    "mock": mock.Mock,
    "magic mock": lambda: mock.MagicMock(spec=dict),
    "sentinel": lambda: mock.sentinel.thing,
    "standard output": lambda: sys.stdout,
    "flags of the interpreter": lambda: sys.flags,
    "modules": lambda: sys.modules,
    "all objects": lambda: gc.get_objects()[:100_000],
    "environment": lambda: os.environ,
    "context variable": lambda: contextvars.ContextVar("v", default=tuple(_texts(10_000))),
    "logger": lambda: logging.getLogger("flowprov.test"),
    "arguments": lambda: argparse.Namespace(lr=0.5, files=_texts(10_000)),
    "parser of arguments": argparse.ArgumentParser,
    "random": random.Random,
    "hash": hashlib.sha256,
    "connection": lambda: _closed(sqlite3.connect(":memory:")),
    "configuration": configparser.ConfigParser,
    "message": email.message.EmailMessage,
    "address": lambda: ipaddress.ip_address("10.0.0.1"),
    "network": lambda: ipaddress.ip_network("10.0.0.0/8"),
    "template": lambda: string.Template("$x" * 100_000),
}

DECLARED: dict[str, Callable[[], Any]] = {
    "dataclass": Config,
    "dataclass with slots": lambda: Slotted(0.1, 1),
    "dataclass with an unset field": lambda: _filled(Config(), lambda value: value.__dict__.pop("lr")),
    "dataclass of 2,000 fields": lambda: dataclasses.make_dataclass("Wide", _fields(2_000))(*range(2_000)),
    "dataclass with 100,000 more attributes": lambda: _filled(
        Config(), lambda value: value.__dict__.update(dict.fromkeys(_texts(100_000), 1))
    ),
    "dataclasses in dataclasses": lambda: _deep(50, lambda value: Config(layers=[value])),
    "hostile dataclass": lambda: hostile.hostile(Config),
    "msgspec struct": Struct,
    "msgspec raw": lambda: msgspec.Raw(b'{"a":1}'),
    "much msgspec raw": lambda: msgspec.Raw(b'"%b"' % (b"x" * _LONG)),
    "class that is no key": hostile.OfUnhashableMeta,
    "list with a class that is no key": lambda: [1, hostile.OfUnhashableMeta(), "a"],
    "set of classes": lambda: {int, str, Color},
    "object of a spying class": lambda: type.__call__(hostile.OfSpyingMeta),
    "spying class": lambda: hostile.OfSpyingMeta,
    "object with to_dict": lambda: Tree(6),
    "object without a dictionary of its own": StoredDict,
}

HOSTILE: dict[str, Callable[[], Any]] = {
    "object": hostile_object,
    "object with attributes": lambda: hostile_object(lr=0.1),
    "objects": lambda: [hostile_object() for _ in range(1_000)],
    "objects as keys": _hostile_keys,
    "class": hostile_class,
    "int": lambda: hostile.hostile(int, 7),
    "enormous int": lambda: hostile.hostile(int, 1 << 10_000_000),
    "float": lambda: hostile.hostile(float, 0.5),
    "complex": lambda: hostile.hostile(complex, 1j),
    "text": lambda: hostile.hostile(str, "text"),
    "long text": lambda: hostile.hostile(str, "x" * _LONG),
    "bytes": lambda: hostile.hostile(bytes, bytes(_LONG)),
    "bytearray": lambda: hostile.hostile(bytearray, bytes(_LONG)),
    "list": lambda: hostile.hostile(list, [1, 2, 3]),
    "tuple": lambda: tuple.__new__(hostile_class(tuple), (1, 2)),
    "named tuple": lambda: tuple.__new__(hostile_class(Point), (1, 2.0)),
    "dict": lambda: hostile.hostile(dict, {"lr": 0.1}),
    "set": lambda: hostile.hostile(set, {1, 2}),
    "frozenset": lambda: frozenset.__new__(hostile_class(frozenset), {1, 2}),
    "deque": lambda: hostile.hostile(collections.deque, [1, 2]),
    "ordered dict": lambda: _filled(
        collections.OrderedDict.__new__(hostile_class(collections.OrderedDict)), dict.update, {"lr": 0.1}
    ),
    "user dict": lambda: _filled(
        object.__new__(hostile_class(collections.UserDict)),
        lambda value: object.__getattribute__(value, "__dict__").update(data={"lr": 0.1}),
    ),
    "chain map of a foreign mapping": lambda: collections.ChainMap(odd_mapping()),
    "proxy of a foreign mapping": lambda: types.MappingProxyType(odd_mapping()),
    "mapping": odd_mapping,
    "sequence": hostile_class(collections.abc.Sequence),
    "path": lambda: object.__new__(hostile_class(pathlib.PurePosixPath)),
    "uuid": lambda: object.__new__(hostile_class(uuid.UUID)),
    "decimal": lambda: decimal.Decimal.__new__(hostile_class(decimal.Decimal), "1.1"),
    "fraction": lambda: object.__new__(hostile_class(fractions.Fraction)),
    "datetime": lambda: dt.datetime.__new__(hostile_class(dt.datetime), 2024, 1, 2),
    "timedelta": lambda: dt.timedelta.__new__(hostile_class(dt.timedelta), 1),
    "partial": lambda: functools.partial.__new__(hostile_class(functools.partial), print, 1),
    "module": lambda: hostile.hostile(types.ModuleType, "m"),
    "everything": Everything,
    "sleeping": Sleeping,
    "many sleeping": lambda: [Sleeping()] * 100,
    "huge repr": odd.Huge,
    "endless repr": odd.Endless,
    "raising class": odd.RaisingClass,
    "lying class": odd.Liar,
    "interrupting repr": type("I", (), {"__repr__": hostile.spy("__repr__")}),
}


KINDS: dict[str, Callable[[], Any]] = {
    f"{group}: {name}": make
    for group, kinds in {
        "builtins": BUILTINS,
        "library": STANDARD_LIBRARY,
        "declared": DECLARED,
        "hostile": HOSTILE,
    }.items()
    for name, make in kinds.items()
}
