"""Anything that can be called is wrapped, whatever its attributes do, and what it offers stays in reach."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import only, tasks


class _RaisesForItsSignature:
    """Cannot say which parameters it has."""

    @property
    def __signature__(self) -> Any:
        raise RuntimeError("no")

    def __call__(self, x: int) -> int:
        return x


class _RaisesForUnknownNames:
    """Raises what no lookup of an attribute should."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def __call__(self, x: int) -> int:
        return x


class _AnswersForEveryName:
    """Has every attribute, as the proxies of some libraries do."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, x: int) -> int:
        return x


class _IsConfigured:
    """Has an attribute of its own."""

    def __init__(self) -> None:
        self.rate = 0.5

    def __call__(self, x: int) -> int:
        """Return what was given."""
        return x


CAPTURES: dict[str, Callable[[Any], Any]] = {
    "task": flowprov.task,
    "workflow": flowprov.workflow("W"),
    "bind": flowprov.bind,
}
ODD = [_RaisesForItsSignature, _RaisesForUnknownNames, _AnswersForEveryName]


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("kind", ODD)
def test_an_object_whose_attributes_raise_is_wrapped_and_called(
    buffer: Path, kind: Callable[[], Any], capture: str
) -> None:
    with flowprov.workflow("around"):
        odd = kind()
        wrapped = CAPTURES[capture](odd)
        assert wrapped is not odd
        assert wrapped.__wrapped__ is odd
        assert wrapped(3) == 3


@pytest.mark.parametrize("kind", ODD)
def test_a_task_of_an_object_whose_attributes_raise_is_recorded(
    buffer: Path, kind: Callable[[], Any]
) -> None:
    flowprov.task(kind())(3)
    task = only(tasks(buffer))
    assert list((task.used or {}).values()) == [3]
    assert task.generated == {"result": 3}


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_cache_of_a_function_is_in_reach(buffer: Path, capture: str) -> None:
    @functools.lru_cache(maxsize=7)
    def square(x: int) -> int:
        """Return the square."""
        return x * x

    with flowprov.workflow("around"):
        wrapped = CAPTURES[capture](square)
        assert [wrapped(3), wrapped(3)] == [9, 9]
        assert (wrapped.cache_info().hits, wrapped.cache_parameters()["maxsize"]) == (1, 7)
        wrapped.cache_clear()
        assert square.cache_info().currsize == 0
        assert (wrapped.__name__, wrapped.__doc__) == ("square", "Return the square.")


@pytest.mark.parametrize("capture", ["task", "workflow"])
def test_an_object_that_can_be_called_becomes_a_function_with_its_attributes(
    buffer: Path, capture: str
) -> None:
    thing = _IsConfigured()
    wrapped = CAPTURES[capture](thing)
    assert inspect.isfunction(wrapped)
    assert wrapped.__wrapped__ is thing  # type: ignore[attr-defined]
    assert wrapped.rate == 0.5  # type: ignore[attr-defined]
    assert str(inspect.signature(wrapped)) == "(x: 'int') -> 'int'"


def test_a_wrapper_has_what_functools_gives_to_one() -> None:
    def plain(x: int = 1) -> int:
        return x

    plain.rate = 0.5  # type: ignore[attr-defined]
    given = functools.wraps(plain)(lambda: None)
    names = [*functools.WRAPPER_ASSIGNMENTS, "__dict__"]
    assert [getattr(flowprov.task(plain), name) for name in names] == [getattr(given, name) for name in names]
