"""Objects with the oddest behavior that a class can have."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import io
import itertools
import json
import re
import sys
import threading
import weakref
from typing import Any
from unittest import mock


class Plain:
    """Has the repr of `object`."""


class Failing:
    """Has a repr that raises."""

    def __repr__(self) -> str:
        raise ValueError("no repr at redis://user:pw@host")


class Endless:
    """Has a repr that never ends."""

    def __repr__(self) -> str:
        return repr([self])


class Panicking:
    """Has a repr that raises a BaseException which is no Exception."""

    def __repr__(self) -> str:
        raise BaseException("panic")  # noqa: TRY002 - as native extensions do


class NoString:
    """Has a repr that returns no string."""

    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class Huge:
    """Has a very long repr."""

    def __repr__(self) -> str:
        return "x" * 10_000_000


class Surrogate:
    """Has a repr that UTF-8 cannot hold."""

    def __repr__(self) -> str:
        return "\udcff"


class Addressed:
    """Has a repr with its address."""

    def __repr__(self) -> str:
        return f"<Addressed at {id(self):#x} of 3>"


class Liar:
    """Claims to be a dict."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return dict


class RaisingClass:
    """Raises when its `__class__` is read."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no class")


class Hostile:
    """Raises at every use."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    __hash__ = None  # type: ignore[assignment]


class Everything:
    """Has every attribute."""

    def __getattr__(self, name: str) -> Everything:
        return self

    def __call__(self, *_: object) -> Everything:
        """Return itself."""
        return self


class HostileMeta(type):
    """A metaclass that raises at every use."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __hash__(cls) -> int:
        raise RuntimeError("hash")

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("isinstance")


class OfHostileMeta(metaclass=HostileMeta):
    """A class that raises at every use."""


@dataclasses.dataclass
class Partly:
    """Has a field that raises and a field that is unset."""

    good: int = 1

    @property
    def bad(self) -> int:
        """Raise."""
        raise OSError("bad")


Partly.__dataclass_fields__ = {**Partly.__dataclass_fields__, "bad": None, "unset": None}  # type: ignore[dict-item]


class BadMessage(Exception):  # noqa: N818
    """Raises when its message is read."""

    def __str__(self) -> str:
        raise ValueError("no message")


def a_function() -> None: ...


def odd_objects() -> list[Any]:
    infinite: Any = itertools.count()
    cell_array = (ctypes.c_int * 5)()
    return [
        Plain(), Failing(), Endless(), Panicking(), NoString(), Huge(), Surrogate(), Addressed(), Liar(),
        RaisingClass(), Hostile(), Everything(), OfHostileMeta(), OfHostileMeta, Partly(), BadMessage(),
        mock.Mock(), mock.MagicMock(), mock.Mock(spec=dict), mock.AsyncMock(), mock.sentinel.thing,
        threading.Lock(), threading.RLock(), threading.Event(), threading.current_thread(), threading.local(),
        lambda: None, a_function, len, [].append, "".join, str.upper, dict.fromkeys, Plain.__init__,
        functools.partial(print, 1, sep="s"), functools.lru_cache(a_function), property(), staticmethod(len),
        infinite, itertools.repeat(1), itertools.cycle([1]), iter([1]), (i for i in [1]), map(str, [1]),
        zip([1]), io.StringIO("text"), io.BytesIO(b"x"), sys.stdout, sys, json, type, object, int, ...,
        NotImplemented, cell_array, ctypes.c_int(3), ctypes.c_char_p(b"x"), ctypes.pointer(ctypes.c_int(1)),
        re.compile("a"), ValueError("bad", 3), KeyboardInterrupt(), StopIteration(), KeyError("k"),
        SystemExit(2), weakref.ref(a_function), weakref.WeakValueDictionary(), weakref.WeakSet(),
        super(Plain, Plain()), sys.flags, sys.version_info, sys.implementation, a_function.__code__,
        list[int], int | str,
    ]  # fmt: skip
