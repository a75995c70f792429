"""What is looked up of functions, and their arguments by name."""

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


def _with_all_kinds(x: Any, /, y: Any = 2, *more: Any, z: Any = 3, **others: Any) -> None: ...


@functools.wraps(_plain)
def _wrapping(*args: Any, **kwargs: Any) -> None:
    _plain(*args, **kwargs)


class _Signed:
    """A callable with a signature of its own."""

    __signature__ = inspect.signature(_plain)

    def __call__(self, *args: Any) -> None: ...


def _sent(function: Any) -> Any:
    """Pickle a function by value, as Dask does if a worker cannot import it."""
    this_module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this_module)
    try:
        return cloudpickle.loads(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(this_module)


@given(
    function=st.sampled_from([_plain, _with_all_kinds, _wrapping, _Signed(), dict]),
    args=st.lists(st.integers(), max_size=4).map(tuple),
    kwargs=st.dictionaries(st.sampled_from(["x", "y", "z", "w"]), st.integers(), max_size=3),
)
def test_arguments_get_the_names_that_python_binds_them_to(
    function: Any, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    named = functions.name_arguments(function, args, kwargs)
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # they do not fit, or there is no signature
        assert named == {**{f"arg_{position}": value for position, value in enumerate(args)}, **kwargs}
        return
    bound.apply_defaults()
    expected = dict(bound.arguments)
    expected.update(expected.pop("others", {}))
    assert named == expected


def test_parameters_keep_their_order_where_defaults_are_filled_in() -> None:
    assert list(functions.name_arguments(_plain, (1,), {"z": 5})) == ["x", "y", "z"]


def test_copies_of_a_function_that_is_sent_with_each_task_share_one_entry() -> None:
    first, second = _sent(_plain), _sent(_plain)
    assert first is not second
    assert functions.function_info(first) is functions.function_info(second)


def test_functions_of_the_same_code_keep_their_own_names_modules_and_defaults() -> None:
    def create(default: Any) -> Any:
        def inner(x: Any, y: Any = default) -> None: ...

        return inner

    one, two = create(1), create(2)
    two.__name__, two.__module__ = "other", "dask.utils"
    assert [functions.name_arguments(function, (0,), {}) for function in (one, two)] == [
        {"x": 0, "y": 1},
        {"x": 0, "y": 2},
    ]
    assert (functions.function_info(one).name, functions.function_info(two).name) == ("inner", "other")
    assert (functions.function_info(one).is_users, functions.function_info(two).is_users) == (True, False)


def test_a_function_that_was_sent_is_not_kept_alive() -> None:
    functions.function_info(_sent(_plain))
    before = len(functions._infos)
    for _ in range(10):
        functions.function_info(_sent(_plain))
    assert len(functions._infos) <= before
