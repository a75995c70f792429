"""What a scheduler of green threads throws in reaches the program; what a value raises stays inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard
from flowprov.runtime import context
from tests.support import run, tasks

HEAD = """
import gevent, greenlet
import flowprov
from flowprov.runtime import context

flowprov.configure(values={"object_reprs": True})

class Own(BaseException):
    pass

class Slow:
    def __repr__(self):
        gevent.sleep(30)
        return "slow"

@flowprov.task
def take(value):
    return 1

@flowprov.task
def give(value):
    return value

def in_scope(value):
    with flowprov.task_scope("s", used={"value": value}):
        pass

def in_loop(value):
    for _ in flowprov.Loop([value]):
        pass

def in_handle(value):
    with flowprov.task_scope("s") as scope:
        scope.set_generated(value=value)

WAYS = [take, give, in_scope, in_loop, in_handle]
"""

PROGRAMS = {
    "a timeout": """
for way in WAYS:
    for kind in (None, Own, ValueError):
        with flowprov.workflow("w"):
            scope = context.current.get()
            try:
                with gevent.Timeout(0.02, kind):
                    way(Slow())
            except BaseException as error:
                print(type(error) is (kind or gevent.Timeout), context.current.get() is scope)
            else:
                print("kept", way)
""",
    "a timeout around steps": """
from gevent import monkey
@flowprov.task
def wait():
    gevent.sleep(30)
@flowprov.task
def stream():
    yield 1
    gevent.sleep(30)
def loop():
    for _ in flowprov.Loop(3):
        wait()
for way in (wait, lambda: list(stream()), loop):
    with flowprov.workflow("w"):
        scope = context.current.get()
        try:
            with gevent.Timeout(0.02):
                way()
        except gevent.Timeout:
            print(True, context.current.get() is scope)
""",
    "a kill": """
for way in WAYS:
    for kind in (greenlet.GreenletExit, Own):
        ended = []
        def body():
            try:
                way(Slow())
            except BaseException as error:
                ended.append(type(error))
        with flowprov.workflow("w"):
            green = gevent.spawn(body)
            gevent.sleep(0.01)
            green.kill(kind)
        print(*[cls is kind for cls in ended], True)
""",
    "a greenlet that is thrown into": """
main = greenlet.getcurrent()
class Switching:
    def __repr__(self):
        main.switch()
        return "switched"
for way in WAYS:
    for kind in (greenlet.GreenletExit, Own):
        ended = []
        def body():
            try:
                way(Switching())
            except BaseException as error:
                ended.append(type(error))
        with flowprov.workflow("w"):
            green = greenlet.greenlet(body)
            green.switch()
            green.throw(kind)
        print(*[cls is kind for cls in ended], True)
""",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_what_is_thrown_in_reaches_the_program(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("gevent")
    stdout, _ = run(HEAD + PROGRAMS[kind], tmp_path)
    assert stdout.splitlines() == ["True True"] * len(stdout.splitlines())
    assert len(stdout.splitlines()) >= 3


class Own(BaseException):
    """An exception of the program that is no ``Exception``."""


def _raising(name: str) -> Callable[[], object]:
    def method(*_: Any, **__: Any) -> Any:
        raise Own(name)

    return type("Raising", (), {name: method})


class Attributes:
    """Looks like an array."""

    @property
    def shape(self) -> Any:
        """Raise."""
        raise Own("shape")

    dtype = shape


class Items(dict[str, Any]):
    """A dictionary whose methods raise."""

    def items(self) -> Any:
        """Raise."""
        raise Own("items")

    keys = __iter__ = __len__ = items


class Elements(list[Any]):
    """A list whose methods raise."""

    def __iter__(self) -> Any:
        raise Own("iter")

    __len__ = __iter__


class Text(str):
    """A text whose methods raise."""

    __slots__ = ()

    def __str__(self) -> str:
        raise Own("str")

    __len__ = __str__  # type: ignore[assignment]


@dataclasses.dataclass
class Data:
    """A dataclass whose fields cannot be read."""

    a: int = 1

    def __getattribute__(self, name: str) -> Any:
        raise Own(name)


DUNDERS = ["__repr__", "__str__", "__len__", "__iter__", "__float__", "__int__", "__index__", "__bool__"]
DUNDERS += ["__getattr__", "__array__", "__fspath__", "__eq__", "__hash__", "keys", "items", "item", "tolist"]
VALUES: dict[str, Callable[[], object]] = {name: _raising(name) for name in DUNDERS}
VALUES |= {cls.__name__: cls for cls in (Attributes, Data)}
VALUES |= {"Items": lambda: Items(a=1), "Elements": lambda: Elements([1]), "Text": lambda: Text("a")}


@flowprov.task
def take(value: Any) -> int:
    return 1


@flowprov.task
def give(value: Any) -> Any:
    return value


def in_scope(value: Any) -> None:
    with flowprov.task_scope("s", used={"value": value}) as scope:
        scope.set_generated(value=value)
        scope.custom_metadata["value"] = value


def in_loop(value: Any) -> None:
    loop = flowprov.Loop([value])
    for _ in loop:
        loop.end_iter(value=value)


WAYS: list[Callable[[Any], Any]] = [take, give, in_scope, in_loop]


@pytest.mark.parametrize("name", VALUES)
def test_what_a_value_raises_while_it_is_read_stays_inside(buffer: Path, name: str) -> None:
    """The program did not ask to have it read."""
    with flowprov.workflow("w"):
        scope = context.current.get()
        for way in WAYS:
            way(VALUES[name]())
            assert context.current.get() is scope
    assert {task.status for task in tasks(buffer)} == {"FINISHED"}
    assert len(tasks(buffer)) == len(WAYS)
    assert guard.internal_errors() == {}
