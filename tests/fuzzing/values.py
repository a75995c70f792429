"""The fuzzer of values: programs that give capture calls what nobody would give them, whole of secrets.

Names may be odd, too, but no objects of foreign classes: ``str`` of a name is what a program asks for.
Whatever is given, each call returns what it returns without capture, within bounded time. Each task is in the
journal, each line of it is JSON within the budget of a record, and no secret is in any. Nothing that happens
counts as an internal error.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import itertools
import logging
import resource
import string
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

import flowprov
from flowprov import guard
from flowprov.records import Task
from flowprov.runtime import runtime
from tests.support import lines, of_type
from tests.values.kinds import KINDS
from tests.values.kinds_of_packages import kinds_of_packages
from tests.values.secret_samples import INNOCENT, SAMPLES

_COLLECTED_EVERY = 50  # rounds; a whole collection takes as long as some of them
_MAX_LINE = 65_536 + 4_096  # a record's budget, and the fields that are no values
_MAX_TIME = 0.0011  # nearly the usual limit on a record, which the tests of this repository lift
_MAX_CALL_CPU_S = 0.5  # of a value whose capture ends after a millisecond, with whatever is loaded by it
_TEXTS = (
    "", "loss", "x" * 10,
    "y" * 999, "z" * 1_001, "\ud800", "caf\udce9", "a\0b", "\u202e", "\x1b[2J", "{", '"',
    "\\", "$type", "$int", "\n", "\u2028", "lr=0.1", "nan", "1e999", "𝄞" * 300,
)  # fmt: skip
_SCALARS = (
    None, True, False, 0, -1, 2**63, -(2**63) - 1, 10**400, -(10**5_000), 0.0, -0.0, 1e-310, float("nan"),
    float("inf"), -float("inf"), 1j, b"", b"x" * 5_000, b"\xff\xfe", Ellipsis, NotImplemented, range(10**12),
)  # fmt: skip
_SECRET_KEYS = (
    "password",
    "api_key",
    "PASSWORD",
    "db_password",
    "Authorization",
    b"passwd",
    "pwd",
    "client_secret",
)


class Pair(NamedTuple):
    """Two values by name."""

    first: Any
    second: Any


@dataclasses.dataclass
class Fields:
    """A value in a field, and one in a field that its repr hides."""

    value: Any
    hidden: Any = dataclasses.field(default=None, repr=False)


class Plain:
    """A value in an attribute."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Struct(msgspec.Struct):
    """A value in a field of a msgspec Struct."""

    value: Any


class ValueTarget:
    """Gives values to capture calls."""

    name = "values"

    def __init__(self) -> None:
        kinds = {**KINDS, **kinds_of_packages()}
        for reaches_our_secrets in ("all objects", "frame", "modules"):
            del kinds[f"library: {reaches_our_secrets}"]
        self._kinds = list(kinds.values())
        self._rounds = itertools.count(1)

    def play(self, rng: Random) -> None:
        """Play one round: a program of a few calls in a buffer of its own."""
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            runtime.reset()
            flowprov.configure(journal={"path": folder}, values={"max_time": _MAX_TIME})
            program = _Program(rng, self._kinds)
            logging.disable(logging.CRITICAL)  # what is said is not looked at here
            # The collector looks through what the packages of all kinds hold for as long as a call may take.
            gc.freeze()
            try:
                program.run()
            finally:
                gc.unfreeze()
                if next(self._rounds) % _COLLECTED_EVERY == 0:  # few come by themselves
                    gc.collect()
                errors = guard.internal_errors()
                runtime.reset()
                logging.disable(logging.NOTSET)
            assert errors == {}, errors
            program.check(Path(folder))


class _Program:
    def __init__(self, rng: Random, kinds: list[Callable[[], Any]]) -> None:
        self._rng, self._kinds = rng, kinds
        self._secrets: list[str] = []
        self._calls = 0

    def run(self) -> None:
        """Run the calls in a workflow."""
        ways = (_call, _keywords, _method, _raise, _generator, _loop, _scope, _given, _nested)
        with flowprov.workflow(self.name()):
            for _ in range(self._rng.randrange(1, 6)):
                way = self._rng.choice(ways)
                value, other = self.value(4), self.value(2)
                gc.collect(0)
                usage, before = resource.getrusage(resource.RUSAGE_THREAD), time.thread_time()
                self._calls += way(self, value, other)
                spent = time.thread_time() - before
                assert spent < _MAX_CALL_CPU_S, f"{way.__name__} took {spent:.2f} s: {_since(usage)}"

    def check(self, folder: Path) -> None:
        """Check what is in the journal."""
        content = b"".join(path.read_bytes() for path in folder.rglob("*.jsonl"))
        for line in content.split(b"\n"):
            assert len(line) <= _MAX_LINE, (len(line), line[:300])
        assert len(of_type(lines(folder), Task)) == self._calls
        for secret in self._secrets:
            assert secret.encode() not in content, secret
        frame = flowprov.read_buffer(source=folder)
        assert len(frame) > self._calls

    # -- what is given -----------------------------------------------------------------------------------

    def name(self) -> Any:
        """Return something for a name."""
        rng = self._rng
        return rng.choice((rng.choice(_TEXTS), rng.choice(_SCALARS), self.text(), "name"))

    def text(self) -> str:
        """Return a text, which may hold a secret."""
        rng = self._rng
        around = ["".join(rng.choices(string.ascii_lowercase + " \n", k=rng.randrange(60))) for _ in range(2)]
        middle = rng.choice((*_TEXTS, rng.choice(INNOCENT), self._secret_text()))
        return f"{around[0]} {middle} {around[1]}" if rng.random() < 0.7 else middle

    def secret(self) -> str:
        """Return a secret, which the journal must not hold."""
        secret = "Zq" + "".join(self._rng.choices(string.ascii_letters + string.digits, k=18))
        self._secrets.append(secret)
        return secret

    def _secret_text(self) -> str:
        rng = self._rng
        form = rng.randrange(5)
        if form == 0:
            sample = rng.choice(list(SAMPLES.values()))
            self._secrets.append(sample.replace("\n", "\\n"))
            return "w" * rng.choice((0, 60, 180, 900, 985)) + " " + sample
        secret = self.secret()
        padding = "w" * rng.choice((0, 50, 150, 170, 190, 950, 980))
        return (
            f"{padding} postgresql://bob:{secret}@db.example.org/x",
            f"{padding} password='{secret}'",
            f"{padding} --password {secret}",
            f"{padding} Authorization: Bearer {secret}",
        )[form - 1]

    def value(self, depth: int) -> Any:
        """Return a value."""
        rng = self._rng
        kind = rng.random()
        if depth == 0 or kind < 0.15:
            return rng.choice((rng.choice(_SCALARS), rng.choice(_TEXTS), self.text()))
        if kind < 0.3:
            return rng.choice(self._kinds)()
        if kind < 0.4:
            return {rng.choice(_SECRET_KEYS): self.secret(), "other": self.value(depth - 1)}
        return self._container(depth - 1)

    def _container(self, depth: int) -> Any:
        rng = self._rng
        count = rng.choice((0, 1, 2, 3, 3, 5, 120))
        below = 0 if count > 5 else depth
        items = [self.value(below) for _ in range(count)]
        pairs = [(rng.choice((*_TEXTS, *_SCALARS, number)), item) for number, item in enumerate(items)]
        make: Callable[[], Any] = rng.choice(
            (
                lambda: items,
                lambda: tuple(items),
                lambda: collections.deque(items),
                lambda: dict(pairs),
                lambda: collections.OrderedDict(pairs),
                lambda: types.MappingProxyType(dict(pairs)),
                lambda: collections.ChainMap[Any, Any](dict(pairs), {"below": 1}),
                lambda: types.SimpleNamespace(**{f"a{number}": item for number, item in enumerate(items)}),
                lambda: Pair(self.value(below), items),
                lambda: Fields(items, self.secret()),
                lambda: Plain(items),
                lambda: Struct(items),
                lambda: _wide(rng, items),
                lambda: _deep(rng, items),
                lambda: _cycle(items),
            )
        )
        return make()


def _wide(rng: Random, items: list[Any]) -> Any:
    return {f"key{number}" * rng.choice((1, 100)): items for number in range(rng.choice((200, 3_000)))}


def _deep(rng: Random, value: Any) -> Any:
    for _ in range(rng.choice((10, 200, 5_000))):
        value = rng.choice((lambda v: [v], lambda v: {"a": v}, Plain, lambda v: (v, 1)))(value)
    return value


def _cycle(items: list[Any]) -> Any:
    items.append({"again": items})
    return items


# -- the ways in: each returns how many tasks it is ---------------------------------------------------------


def _call(program: _Program, value: Any, other: Any) -> int:
    @flowprov.task
    def function(first: Any, /, second: Any = 1, *rest: Any) -> Any:
        return rest

    rest = function(value, other, value, other)
    assert rest[0] is value
    assert rest[1] is other
    return 1


def _keywords(program: _Program, value: Any, other: Any) -> int:
    @flowprov.task(tags=[program.name()], subtype=program.name())
    def function(*, password: Any = None, **more: Any) -> Any:
        return {"loss": more["value"], **more}

    assert function(value=value, other=other, password=program.secret())["loss"] is value
    return 1


def _method(program: _Program, value: Any, other: Any) -> int:
    class Model:
        def __init__(self) -> None:
            self.state = other

        @flowprov.task
        def step(self, batch: Any) -> Any:
            return batch

    assert Model().step(value) is value
    return 1


def _raise(program: _Program, value: Any, other: Any) -> int:
    class CustomError(Exception):
        pass

    error = CustomError(program.name(), program.text())
    error.attributes = value, other  # type: ignore[attr-defined]

    @flowprov.task
    def function() -> None:
        raise error

    with pytest.raises(CustomError) as raised:
        function()
    assert raised.value is error
    return 1


def _generator(program: _Program, value: Any, other: Any) -> int:
    @flowprov.task
    def function(argument: Any) -> Any:
        got = yield argument
        return got

    steps = function(value)
    assert next(steps) is value
    with pytest.raises(StopIteration) as end:
        steps.send(other)
    assert end.value.value is other
    return 1


def _since(earlier: resource.struct_rusage) -> str:
    """Return what this thread did since: whether a call took the time, or the machine."""
    now = resource.getrusage(resource.RUSAGE_THREAD)
    return (
        f"{now.ru_utime - earlier.ru_utime:.2f} s of user time, "
        f"{now.ru_stime - earlier.ru_stime:.2f} s of system time, {now.ru_minflt - earlier.ru_minflt} page "
        f"faults, another thread took its place {now.ru_nivcsw - earlier.ru_nivcsw} times"
    )


def _loop(program: _Program, value: Any, other: Any) -> int:
    given = [value, other, value]
    loop = flowprov.Loop(given, name=program.name(), item_name=program.name())
    for expected, item in zip(given, loop, strict=True):
        assert item is expected
        loop.end_iter({program.name(): other, "loss": value})
        loop.end_iter(more=other)
    return len(given)


def _scope(program: _Program, value: Any, other: Any) -> int:
    with flowprov.task_scope(program.name(), used={"x": value}) as scope:
        scope.set_generated({"y": other, program.name(): value})
        scope.add_tags(program.name(), program.name())
    return 1


def _given(program: _Program, value: Any, other: Any) -> int:
    workflow: Any = flowprov.current_workflow()
    workflow.set_generated({"acc": value}, other=other)
    workflow.add_tags(program.name())
    return 0


def _nested(program: _Program, value: Any, other: Any) -> int:
    @flowprov.task
    def inner(argument: Any) -> Any:
        task: Any = flowprov.current_task()
        task.set_generated({"inner": other})
        return argument

    @flowprov.task
    def outer(argument: Any) -> Any:
        return inner(argument)

    assert outer(value) is value
    return 2
