"""What is recorded of an exception: bounded, whatever it passes through, and the program gets its own."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.capture.error_description import describe_exception
from flowprov.runtime import context
from tests.support import printed_without_carets, tasks


class Own(BaseException):
    """An exception of the program that is no ``Exception``."""


@flowprov.task
def descend(n: int) -> int:
    if n == 0:
        raise ValueError("at the bottom")
    return descend(n - 1)


def _work(function: Callable[[], Any]) -> int:
    """Return how many calls of Python functions something takes: no clock is involved."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        function()
    except (ValueError, RuntimeError):
        pass
    finally:
        sys.setprofile(None)
    return calls


def test_the_cost_of_a_failing_recursion_is_linear(buffer: Path) -> None:
    with flowprov.workflow("w"):
        _work(lambda: descend(5))
        shallow, deep = _work(lambda: descend(60)), _work(lambda: descend(120))
    assert deep < 2.5 * shallow
    assert {task.error.message for task in tasks(buffer) if task.error} == {"at the bottom"}


def _chained(count: int, *, explicit: bool = True) -> Exception:
    error: Exception = ValueError("the first")
    for number in range(count):
        try:
            try:
                raise error
            except ValueError as cause:
                if explicit:
                    raise ValueError(f"number {number}") from cause
                raise ValueError(f"number {number}")  # noqa: B904 - the other kind of chain
        except ValueError as next_one:  # noqa: PERF203 - as above
            error = next_one
    return error


@pytest.mark.parametrize("explicit", [True, False])
def test_thousands_of_causes_cost_no_more_than_a_few(buffer: Path, *, explicit: bool) -> None:
    few, many = _chained(20, explicit=explicit), _chained(2000, explicit=explicit)
    describe_exception(few)
    assert _work(lambda: describe_exception(many)) <= 1.2 * _work(lambda: describe_exception(few))
    trace = describe_exception(many).traceback or ""
    assert trace.rstrip().endswith("ValueError: number 1999")
    assert "ValueError: number 1995" in trace


def test_causes_that_refer_to_each_other_end(buffer: Path) -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert (describe_exception(first).traceback or "").count("ValueError") == 2


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:
        return raised


@pytest.mark.parametrize("explicit", [True, False])
def test_the_traceback_is_what_python_prints(buffer: Path, *, explicit: bool) -> None:
    error = _raised(_chained(3, explicit=explicit))
    assert describe_exception(error).traceback == printed_without_carets(error)


@pytest.mark.parametrize("kind", [ValueError, Own])
def test_a_message_of_megabytes_is_not_copied_and_hides_no_frame(kind: type[BaseException]) -> None:
    error: BaseException = kind("password=hunter22 " + "x" * 50_000_000)
    with pytest.raises(kind) as caught:
        raise error
    tracemalloc.start()
    try:
        described = describe_exception(caught.value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
    assert described.traceback is not None
    head, frame, source, *_, last = described.traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert "test_a_message_of_megabytes" in frame
    assert source.strip() == "raise error"
    assert last.startswith(f"{described.type}: password=*** xxx")


def test_a_group_shows_its_exceptions(buffer: Path) -> None:
    group = pytest.importorskip("builtins").__dict__.get("ExceptionGroup")
    if group is None:
        pytest.skip("Python 3.10 has no groups")
    error = _raised(group("several", [_chained(1), KeyError("other")]))
    assert describe_exception(error).traceback == printed_without_carets(error)


class UnprintableError(Exception):
    """Raises an exception of its own when it is printed."""

    def __str__(self) -> str:
        raise Own("not this one")


class UnprintableNoteError(Exception):
    """Its notes raise."""

    @property
    def __notes__(self) -> Any:
        raise Own("not this one")


@pytest.mark.parametrize("kind", [UnprintableError, UnprintableNoteError])
@pytest.mark.parametrize("way", ["task", "scope", "loop", "workflow"])
def test_the_program_gets_its_own_exception_whatever_printing_it_raises(
    buffer: Path, kind: type[Exception], way: str
) -> None:
    @flowprov.task
    def fail() -> None:
        raise kind

    def act() -> None:
        if way == "task":
            fail()
        with flowprov.task_scope("s") if way == "scope" else flowprov.workflow("inner"):
            for _ in flowprov.Loop(1):
                raise kind

    with flowprov.workflow("w"):
        scope = context.current.get()
        with pytest.raises(kind):
            act()
        assert context.current.get() is scope


def test_keywords_with_the_name_of_a_positional_argument_are_kept_apart(buffer: Path) -> None:
    @flowprov.task
    def g(a: int, /, b: int = 5, **others: Any) -> None: ...

    @flowprov.task
    def h(a: Any, b: Any = 0, /, *rest: int, **others: Any) -> None: ...

    class Model:
        @flowprov.task
        def fit(self, x: int, /, **options: Any) -> None: ...

    g(1, a=2)
    g(1, a=2, c=3)
    g(1, c=3)
    h([1], a=2, b={"x": 1}, others=4)
    Model().fit(1, self=2, x=3)
    assert [task.used for task in tasks(buffer)] == [
        {"a": 1, "b": 5, "**others": {"a": 2}},
        {"a": 1, "b": 5, "c": 3, "**others": {"a": 2}},
        {"a": 1, "b": 5, "c": 3},
        {"a": [1], "b": 0, "rest": [], "others": 4, "**others": {"a": 2, "b": {"x": 1}}},
        {"x": 1, "self": 2, "**options": {"x": 3}},
    ]
