"""A captured generator is the plain one, whatever is done to it."""

from __future__ import annotations

import contextlib
import gc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, note, settings

import flowprov
from flowprov.runtime import context
from tests.capture import generator_programs as programs
from tests.capture.generator_programs import (
    async_drives,
    bodies,
    coroutine_source_of,
    source_of,
    sync_drives,
)
from tests.support import only, tasks


@flowprov.task
def step(n: int) -> int:
    return n


def _plain(function: Any) -> Any:
    return function


def _task(function: Any) -> Any:
    return flowprov.task(function)


def _workflow(function: Any) -> Any:
    return flowprov.workflow("w")(function)


CAPTURES: dict[str, Callable[[Any], Any]] = {"task": _task, "workflow": _workflow}
# Where nothing is recorded, there is less to go wrong: 60 examples suffice beside each change.
STATES = [
    ("on", 200),
    *((state, 60) for state in ("off", "muted")),
    *(pytest.param(state, 200, marks=pytest.mark.soak) for state in ("off", "muted")),
]


@contextlib.contextmanager
def _capture(state: str, tmp_path: Path) -> Iterator[None]:
    flowprov.configure(
        journal={"path": str(tmp_path / "buffer")}, instrumentation={"enabled": state != "off"}
    )
    with flowprov.workflow("around"):
        scope = context.current.get()
        if state == "muted" and scope is not None:
            scope.muted = True
        gc.freeze()  # collections are fast: what was there before is left out
        try:
            yield
        finally:
            gc.unfreeze()
        assert context.current.get() is scope
        if scope is not None:
            scope.muted = state == "muted"
            left = set(scope.journal.open_scopes) - {scope.workflow_id}
            assert not left, "a scope of a generator stays open"


def _run(
    source: str, decorate: Any, operations: Any, *, captured: bool, mark: Callable[[Any], Any] = _plain
) -> list[Any]:
    log: list[Any] = []
    handle: list[Any] = []
    scope: Any = flowprov.task_scope if captured else contextlib.nullcontext
    function = programs.build(source, log.append, handle, step=step if captured else lambda n: n, scope=scope)
    return programs.drive(decorate(mark(function)), handle, log, operations)


def _play_twice(
    body: list[str],
    operations: Any,
    kind: str,
    *,
    asynchronous: bool,
    mark: Callable[[Any], Any] = _plain,
) -> tuple[list[Any], list[Any]]:
    """Return what a program sees of the captured generator, and of the plain one."""
    return _compare(source_of(body, asynchronous=asynchronous), operations, CAPTURES[kind], mark)


def _compare(
    source: str, operations: Any, capture: Callable[[Any], Any], mark: Callable[[Any], Any] = _plain
) -> tuple[list[Any], list[Any]]:
    try:
        compile(source, "body", "exec")
    except SyntaxError:
        assume(False)
    plain = _run(source, _plain, operations, captured=False, mark=mark)
    around = context.current.get()
    before = set(around.journal.open_scopes) if around is not None else set()
    captured = _run(source, capture, operations, captured=True, mark=mark)
    if isinstance(plain[-1], tuple) and plain[-1][0] == "unraisable":
        # It was let go and did not end: the interpreter says so. The inner generator is then let go, too, and
        # may say so once more. What the body opened meanwhile nobody closes before its workflow ends.
        captured = captured[: len(plain)]
        context.current.set(around)
        if around is not None:
            for key in set(around.journal.open_scopes) - before:
                del around.journal.open_scopes[key]
    return captured, plain


@pytest.mark.parametrize(("state", "examples"), STATES)
@pytest.mark.parametrize("kind", CAPTURES)
def test_a_captured_generator_does_what_the_plain_one_does(
    tmp_path: Path, kind: str, state: str, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(body=bodies, operations=sync_drives)
    def compare(body: list[str], operations: Any) -> None:
        note(source_of(body, asynchronous=False))
        captured, plain = _play_twice(body, operations, kind, asynchronous=False)
        assert captured == plain

    with _capture(state, tmp_path):
        compare()


@pytest.mark.parametrize("kind", CAPTURES)
def test_a_captured_generator_that_can_be_awaited_does_what_the_plain_one_does(
    tmp_path: Path, kind: str
) -> None:
    @settings(max_examples=60)
    @given(body=bodies, operations=sync_drives)
    def compare(body: list[str], operations: Any) -> None:
        note(source_of(body, asynchronous=False))
        captured, plain = _play_twice(body, operations, kind, asynchronous=False, mark=types.coroutine)
        assert captured == plain

    with _capture("on", tmp_path):
        compare()


@pytest.mark.parametrize(("state", "examples"), STATES)
@pytest.mark.parametrize("kind", CAPTURES)
def test_a_captured_asynchronous_generator_does_what_the_plain_one_does(
    tmp_path: Path, kind: str, state: str, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(body=bodies, operations=async_drives)
    def compare(body: list[str], operations: Any) -> None:
        note(source_of(body, asynchronous=True))
        captured, plain = _play_twice(body, operations, kind, asynchronous=True)
        assert captured == plain

    with _capture(state, tmp_path):
        compare()


BOUND: dict[str, tuple[Callable[[list[str]], str], Any]] = {
    "generator": (lambda body: source_of(body, asynchronous=False), sync_drives),
    "asynchronous generator": (lambda body: source_of(body, asynchronous=True), async_drives),
    "coroutine": (coroutine_source_of, sync_drives),
}


@pytest.mark.parametrize("kind", BOUND)
def test_a_bound_generator_or_coroutine_does_what_the_plain_one_does(tmp_path: Path, kind: str) -> None:
    to_source, drives = BOUND[kind]

    @settings(max_examples=60)
    @given(body=bodies, operations=drives)
    def compare(body: list[str], operations: Any) -> None:
        source = to_source(body)
        note(source)
        captured, plain = _compare(source, operations, flowprov.bind)
        assert captured == plain

    with _capture("on", tmp_path):
        compare()


REFUSES_TO_BE_CLOSED = [
    "with scope('s'):",
    "    try:",
    "        log(('sent', (yield 0)))",
    "    except KINDS['GeneratorExit'] as error:",
    "        log(('sent', (yield 0)))",
]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", CAPTURES)
def test_what_is_open_in_a_body_that_refuses_to_be_closed_is_recorded_when_it_is_let_go(
    tmp_path: Path, kind: str, *, asynchronous: bool
) -> None:
    with _capture("on", tmp_path):
        captured, plain = _play_twice(REFUSES_TO_BE_CLOSED, [("next", [])], kind, asynchronous=asynchronous)
        assert captured == plain
    task = only([task for task in tasks(tmp_path / "buffer") if task.activity_id == "s"])
    # The interpreter closes a plain one once more, and this time the body ends.
    how = {"left_early": True} if asynchronous else {"ended_by": "GeneratorExit"}
    assert (task.status, task.custom_metadata) == ("FINISHED", how)
