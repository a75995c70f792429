"""Random generators, and random ways to drive them: a captured one is compared with the plain one.

A body is Python source. Whatever it does is logged, so that the order of side effects can be compared. A
drive is a list of operations, each with what came of it.
"""

from __future__ import annotations

import gc
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

Observed = list[Any]


class Own(BaseException):
    """An exception of the program that is no ``Exception``."""


KINDS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        ValueError,
        KeyError,
        GeneratorExit,
        StopIteration,
        StopAsyncIteration,
        RuntimeError,
        KeyboardInterrupt,
        Own,
    )
}
# Instances that both sides use, so that identity can be compared.
SHARED: dict[str, BaseException] = {}


class Pause:
    """What an asynchronous body awaits: it hands a number to the driver."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __await__(self) -> Iterator[Any]:
        return (yield ("pause", self.number))


# -- bodies ------------------------------------------------------------------------------------------------

_names = st.sampled_from(sorted(KINDS))
_numbers = st.integers(0, 9)
_SIMPLE = st.one_of(
    _numbers.map(lambda n: [f"log({n})"]),
    _numbers.map(lambda n: [f"log(('sent', (yield {n})))"]),
    _numbers.map(lambda n: [f"log(('sent', (yield {n})))"]),
    _numbers.map(lambda n: [f"yield {n}"]),
    _numbers.map(lambda n: ["AWAIT", f"{n}"]),
    _names.map(lambda name: [f"raise KINDS[{name!r}]({name!r})"]),
    _names.map(lambda name: [f"raise SHARED[{name!r}]"]),
    _numbers.map(lambda n: [f"RETURN {n}"]),
    st.sampled_from(["next", "close", "throw"]).map(lambda act: [f"log(reenter({act!r}))"]),
    _numbers.map(lambda n: [f"log(step({n}))"]),
)


def _indent(block: list[str]) -> list[str]:
    return [f"    {line}" for line in block] or ["    pass"]


def _try(parts: tuple[list[str], str, list[str], bool, list[str] | None]) -> list[str]:
    body, name, handler, raises_on, final = parts
    lines = ["try:", *_indent(body), f"except KINDS[{name!r}] as error:"]
    lines += _indent(
        ["log(('caught', type(error), error.args))", *handler, *(["raise"] if raises_on else [])]
    )
    if final is not None:
        lines += ["finally:", *_indent(["log('finally')", *final])]
    return lines


def _finally(parts: tuple[list[str], list[str]]) -> list[str]:
    body, final = parts
    return ["try:", *_indent(body), "finally:", *_indent(["log('finally')", *final])]


def _scope(body: list[str]) -> list[str]:
    return ["with scope('s'):", *_indent(body)]


def _extend(blocks: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    several = st.lists(blocks, min_size=1, max_size=3).map(
        lambda many: [line for one in many for line in one]
    )
    return st.one_of(
        several,
        st.tuples(several, _names, several, st.booleans(), st.none() | several).map(_try),
        st.tuples(several, several).map(_finally),
        several.map(lambda body: ["for _ in range(2):", *_indent(body)]),
        several.map(_scope),
    )


bodies = st.recursive(_SIMPLE, _extend, max_leaves=12)


def source_of(body: list[str], *, asynchronous: bool) -> str:
    """Return the source of a generator function with this body."""
    lines = []
    skip = False
    for position, line in enumerate(body):
        stripped = line.lstrip()
        indent = line[: len(line) - len(stripped)]
        if skip:
            skip = False
        elif stripped == "AWAIT":
            number, skip = body[position + 1].strip(), True
            lines.append(f"{indent}log(await Pause({number}))" if asynchronous else f"{indent}log({number})")
        elif stripped.startswith("RETURN"):
            lines.append(f"{indent}return" if asynchronous else f"{indent}{stripped.lower()}")
        else:
            lines.append(line)
    head = "async def body(a, b=2):" if asynchronous else "def body(a, b=2):"
    return "\n".join([head, *_indent(["log(('begins', a, b))", *lines, "if False: yield"])])


def coroutine_source_of(body: list[str]) -> str:
    """Return the source of an asynchronous function with this body: it awaits what a generator yields."""
    source = source_of(body, asynchronous=False).replace("if False: yield", "pass")
    return re.sub(r"yield (\d)", r"await Pause(\1)", f"async {source}")


def build(source: str, log: Callable[[Any], None], handle: list[Any], **names: Any) -> Callable[..., Any]:
    """Return the generator function; ``handle`` will hold the generator that it created."""

    def reenter(act: str) -> Any:
        generator = handle[0]
        try:
            if inspect.isasyncgen(generator):
                calls: dict[str, Any] = {"next": generator.__anext__, "close": generator.aclose}
                return calls.get(act, lambda: generator.athrow(ValueError))().send(None)
            calls = {"next": lambda: next(generator), "close": generator.close}
            return calls.get(act, lambda: generator.throw(ValueError))()
        except BaseException as error:
            return type(error), error.args

    namespace = {"log": log, "KINDS": KINDS, "SHARED": SHARED, "Pause": Pause, "reenter": reenter, **names}
    exec(textwrap.dedent(source), namespace)  # noqa: S102 - source of this module
    function: Callable[..., Any] = namespace["body"]
    return function


# -- drives ------------------------------------------------------------------------------------------------

_thrown = st.tuples(st.sampled_from(["class", "instance", "shared", "three", "wrong"]), _names)
_sync_operations = st.one_of(
    st.just(("next",)),
    st.just(("next",)),
    st.tuples(st.just("send"), _numbers),
    st.tuples(st.just("throw"), _thrown),
    st.just(("close",)),
    st.just(("look",)),
)
sync_drives = st.lists(_sync_operations, max_size=7)
# How an asynchronous step goes on where it pauses: with a value, with an exception, or not at all.
_resumptions = st.lists(st.one_of(_numbers, _names), max_size=3)
_async_operations = st.one_of(
    st.tuples(st.just("next"), _resumptions),
    st.tuples(st.just("next"), _resumptions),
    st.tuples(st.just("send"), _resumptions, _numbers),
    st.tuples(st.just("throw"), _resumptions, _thrown),
    st.tuples(st.just("close"), _resumptions),
    st.tuples(st.just("look"), _resumptions),
)
async_drives = st.lists(_async_operations, max_size=7)


def _to_throw(how: str, name: str) -> tuple[Any, ...]:
    kind = KINDS[name]
    if how == "class":
        return (kind,)
    if how == "instance":
        return (kind("given", name),)
    if how == "shared":
        return (SHARED[name],)
    if how == "three":
        return (kind, kind("given", name), None)
    return (1,)


def _described(error: BaseException) -> tuple[Any, ...]:
    shared = next((name for name, instance in SHARED.items() if instance is error), None)
    causes: tuple[Any, ...] = tuple(
        None if other is None else type(other) for other in (error.__cause__, error.__context__)
    )
    if isinstance(error, GeneratorExit):
        causes = ()  # where a coroutine is closed, each generator on the way gets one of its own
    value = error.value if isinstance(error, StopIteration) else None
    return ("raised", type(error), error.args, shared, value, causes)


def _observed(act: Callable[[], Any]) -> tuple[Any, ...]:
    try:
        return ("value", act())
    except BaseException as error:
        return _described(error)


@contextmanager
def _unraisable(observed: Observed) -> Iterator[None]:
    before = sys.unraisablehook
    sys.unraisablehook = lambda given: observed.append(
        ("unraisable", given.exc_type, getattr(given.exc_value, "args", None))
    )
    try:
        yield
    finally:
        sys.unraisablehook = before


def drive(function: Callable[..., Any], handle: list[Any], log: Observed, operations: Any) -> Observed:
    """Drive a generator, and let go of it in the end; return what was observed, in its order."""
    SHARED.clear()
    SHARED.update({name: kind("shared", name) for name, kind in KINDS.items()})
    observed = log
    is_async = inspect.isasyncgenfunction(function)
    perform = _perform_async if is_async else _perform
    with _unraisable(observed):
        generator = function(1)
        handle[:] = [generator]
        kinds = (inspect.isgenerator, inspect.isasyncgen, inspect.isawaitable)
        observed.append((generator.__name__, *(is_kind(generator) for is_kind in kinds)))
        for operation in operations:
            observed.append((operation[0], perform(generator, operation)))
        observed.append(_state(generator))
        handle.clear()
        SHARED.clear()  # their tracebacks hold frames
        del generator, perform
        gc.collect()
    return observed


def _state(generator: Any) -> tuple[Any, ...]:
    if inspect.isasyncgen(generator):
        return (generator.ag_running, generator.ag_frame is None)
    if inspect.iscoroutine(generator):
        return (inspect.getcoroutinestate(generator), generator.cr_running)
    return (inspect.getgeneratorstate(generator), generator.gi_running, generator.gi_yieldfrom)


def _perform(generator: Any, operation: tuple[Any, ...]) -> tuple[Any, ...]:
    kind = operation[0]
    if kind == "look":
        return _state(generator)
    if kind == "throw":
        return _observed(lambda: generator.throw(*_to_throw(*operation[1])))
    if kind == "send":
        return _observed(lambda: generator.send(operation[1]))
    if kind == "next" and inspect.iscoroutine(generator):
        return _observed(lambda: generator.send(None))
    return _observed(lambda: next(generator) if kind == "next" else generator.close())


def _perform_async(generator: Any, operation: tuple[Any, ...]) -> tuple[Any, ...]:
    kind, resumptions = operation[:2]
    if kind == "look":
        return _state(generator)
    if kind == "throw":
        return _stepped(lambda: generator.athrow(*_to_throw(*operation[2])), resumptions)
    if kind == "send":
        return _stepped(lambda: generator.asend(operation[2]), resumptions)
    return _stepped(generator.__anext__ if kind == "next" else generator.aclose, resumptions)


def _raised_at_pause(name: str) -> BaseException:
    # Where a coroutine is closed, a plain GeneratorExit is raised; only that reaches the body unchanged.
    return GeneratorExit() if name == "GeneratorExit" else KINDS[name](name)


def _stepped(create: Callable[[], Coroutine[Any, Any, Any]], resumptions: list[Any]) -> tuple[Any, ...]:
    """Run one asynchronous step as an event loop would; return each pause and the end."""
    pauses: list[Any] = []
    left = list(resumptions)

    def go() -> Any:
        step = create()
        given: Any = None
        while True:
            try:
                paused = step.throw(_raised_at_pause(given)) if isinstance(given, str) else step.send(given)
            except StopIteration as stop:
                return stop.value
            pauses.append(paused)
            given = left.pop(0) if left else 0
            if len(pauses) > 20:
                return "endless"

    return (*_observed(go), pauses)
