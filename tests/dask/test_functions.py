"""What is known of functions, and their arguments by name."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

cloudpickle = pytest.importorskip("cloudpickle")
functions = pytest.importorskip("flowprov.capture.dask.callables")


def _plain(x: Any, y: Any = 2, z: Any = 3) -> None: ...


def _of_kinds(x: Any, /, y: Any = 2, *more: Any, z: Any = 3, **others: Any) -> None: ...


@functools.wraps(_plain)
def _wrapping(*args: Any, **kwargs: Any) -> None:
    _plain(*args, **kwargs)


class _Signed:
    """Has a signature of its own making."""

    __signature__ = inspect.signature(_plain)

    def __call__(self, *args: Any) -> None: ...


def _sent(function: Any) -> Any:
    """Send a function as Dask does where a worker cannot import it."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        return cloudpickle.loads(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(here)


@given(
    function=st.sampled_from([_plain, _of_kinds, _wrapping, _Signed(), dict]),
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["x", "y", "z", "w"]), st.integers(), max_size=3),
)
def test_arguments_get_the_names_that_python_gives_them(
    function: Any, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    named = functions.name_arguments(function, args, kwargs)
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # they do not fit, or there is no signature
        assert named == {**{f"arg_{place}": value for place, value in enumerate(args)}, **kwargs}
        return
    bound.apply_defaults()
    expected = dict(bound.arguments)
    expected.update(expected.pop("others", {}))
    assert named == expected


def test_parameters_keep_their_order_where_defaults_stand_in() -> None:
    assert list(functions.name_arguments(_plain, (1,), {"z": 5})) == ["x", "y", "z"]


def test_a_function_that_is_sent_with_each_task_is_known_by_its_code() -> None:
    first, second = _sent(_plain), _sent(_plain)
    assert first is not second
    assert functions.function_info(first) is functions.function_info(second)


def test_functions_of_the_same_code_keep_their_own_names_modules_and_defaults() -> None:
    def made(default: Any) -> Any:
        def inner(x: Any, y: Any = default) -> None: ...

        return inner

    one, two = made(1), made(2)
    two.__name__, two.__module__ = "other", "dask.utils"
    assert [functions.name_arguments(each, (0,), {}) for each in (one, two)] == [
        {"x": 0, "y": 1},
        {"x": 0, "y": 2},
    ]
    assert (functions.function_info(one).name, functions.function_info(two).name) == ("inner", "other")
    assert (functions.function_info(one).is_users, functions.function_info(two).is_users) == (True, False)


def test_a_function_that_was_sent_is_not_kept_alive() -> None:
    functions.function_info(_sent(_plain))
    before = len(functions._known)
    for _ in range(10):
        functions.function_info(_sent(_plain))
    assert len(functions._known) <= before
