"""A task is named after the user's function, whatever libraries and decorators put around it."""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dask import array
from dask.delayed import delayed

import flowprov
from tests.dask import steps
from tests.dask.support import ended
from tests.support import only

toolz = importlib.import_module("toolz")


def _activities(buffer: Path) -> set[str | None]:
    return {task.activity_id for task in ended(buffer)}


def train(x: Any, y: Any = 2) -> Any:
    """Be what a user wrote."""
    return x + y


def evaluate(x: Any) -> Any:
    """Be another function of the user's."""
    return x * 2


def with_wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as one should."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def without_wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate and forget functools.wraps."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def with_wrapped_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate and set only what inspect needs."""

    def outer(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    outer.__wrapped__ = function  # type: ignore[attr-defined]
    return outer


def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate and give another name on purpose."""
    decorated = with_wraps(function)
    decorated.__name__ = "train_again"
    return decorated


class _Catching:
    """A wrapper as joblib has one."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)


class SlottedWrapper:
    """A wrapper without a dictionary."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._function(*args, **kwargs)


class Objective:
    """The user's own callable, which keeps a function of the user's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, x: Any) -> Any:
        """Call it."""
        return self.function(x)


class Unfathomable:
    """A callable whose attributes raise."""

    @property
    def func(self) -> Any:
        """Raise."""
        raise RuntimeError("on purpose")

    function = __wrapped__ = func

    def __call__(self, x: Any) -> Any:
        """Return the argument."""
        return x


class _Selfish:
    """A wrapper that keeps itself, by which a search could run for ever."""

    def __init__(self) -> None:
        self.func = self

    def __call__(self, x: Any) -> Any:
        return x


def _wrapper(func: Callable[..., Any], *args: Any) -> Any:
    """Call a function that is an argument, as xarray does."""
    return func(*args)


@functools.lru_cache
def cached(x: Any) -> Any:
    """Be a function whose results are kept."""
    return x


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "wraps": (with_wraps(train), (1,), "train"),
    "wraps twice": (with_wraps(with_wraps(train)), (1,), "train"),
    "wraps forgotten": (without_wraps(train), (1,), "train"),
    "wraps forgotten twice": (without_wraps(without_wraps(train)), (1,), "train"),
    "only __wrapped__": (with_wrapped_alone(train), (1,), "train"),
    "renamed": (renamed(train), (1,), "train_again"),
    "partial": (functools.partial(train, y=3), (1,), "train"),
    "partial of a partial": (functools.partial(functools.partial(train), y=3), (1,), "train"),
    "partial of a wrapper": (functools.partial(without_wraps(train), y=3), (1,), "train"),
    "cache": (cached, (1,), "cached"),
    "flowprov.task": (steps.square, (1,), "square"),
    "curry": (toolz.curry(train), (1,), "train"),
    "curry with arguments": (toolz.curry(train, y=3), (1,), "train"),
    "compose": (toolz.compose(evaluate, train), (1,), "train-evaluate"),
    "compose of wrappers": (
        toolz.compose(functools.partial(evaluate), _Catching(train)),
        (1,),
        "train-evaluate",
    ),
    "juxt": (toolz.juxt(train, evaluate), (1,), "train-evaluate"),
    "excepts": (toolz.excepts(ValueError, train, evaluate), (1,), "train"),
    "wrapper object": (_Catching(train), (1,), "train"),
    "wrapper object of a wrapper": (_Catching(functools.partial(without_wraps(train))), (1,), "train"),
    "wrapper object with slots": (SlottedWrapper(train), (1,), "train"),
    "wrapper object of a method": (_Catching("{}".format), (1,), "format"),
    "function as argument": (_wrapper, (train, 1), "train"),
    "partial with a function": (functools.partial(_wrapper, train), (1,), "train"),
    "the user's own class": (Objective(train), (1,), "Objective"),
    "a class whose attributes raise": (Unfathomable(), (1,), "Unfathomable"),
    "a builtin": (operator.neg, (1,), "neg"),
    "a lambda": (lambda x: x, (1,), "<lambda>"),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_submitted_task_has_the_name_of_the_function_behind_its_wrappers(
    threads: Any, buffer: Path, case: str
) -> None:
    function, args, name = FUNCTIONS[case]
    with flowprov.workflow(dask_client=threads):
        threads.submit(function, *args, pure=False).result()
    assert only(ended(buffer)).activity_id == name


@pytest.mark.parametrize("case", ["wraps forgotten", "partial of a wrapper", "wrapper object"])
def test_maps_and_delayed_calls_have_that_name_too(threads: Any, buffer: Path, case: str) -> None:
    function, args, name = FUNCTIONS[case]
    with flowprov.workflow(dask_client=threads):
        threads.gather(threads.map(function, args, pure=False))
        threads.compute(delayed(function, pure=False, name="delayed-1")(*args)).result()
    assert _activities(buffer) == {name}


def test_a_fused_task_is_named_after_the_functions_behind_wrappers(threads: Any, buffer: Path) -> None:
    bag = importlib.import_module("dask.bag").from_sequence(range(4), npartitions=2)
    with flowprov.workflow(dask_client=threads):
        threads.gather(threads.compute(bag.map(without_wraps(evaluate)).filter(_Catching(steps.is_small))))
    assert _activities(buffer) == {"evaluate-is_small"}


def test_blocks_of_an_array_are_named_after_the_function_behind_a_wrapper(threads: Any, buffer: Path) -> None:
    with flowprov.workflow(dask_client=threads):
        array.ones(4, chunks=2).map_blocks(without_wraps(steps.double), dtype=float).sum().compute()
    assert _activities(buffer) == {"double"}


def test_the_prefix_of_the_key_is_the_last_resort(threads: Any, buffer: Path) -> None:
    def wrapper() -> None: ...

    with flowprov.workflow(dask_client=threads):
        threads.submit(wrapper, key="fit-1234567890").result()
        threads.submit(_Selfish(), 1, key="loops-1234567890").result()
    assert _activities(buffer) == {"fit", "loops"}


def test_what_joblib_runs_on_dask_has_the_names_of_the_functions(client: Any, buffer: Path) -> None:
    joblib = pytest.importorskip("joblib")
    with flowprov.workflow(dask_client=client), joblib.parallel_config(backend="dask", client=client):
        assert joblib.Parallel()(joblib.delayed(steps.add)(number) for number in range(4)) == [2, 3, 4, 5]
        joblib.Parallel(batch_size=2)(joblib.delayed(steps.double)(number) for number in range(4))
        wrapped = joblib.delayed(functools.partial(steps.total, [1]))
        joblib.Parallel()(wrapped(number) for number in range(2))
    assert _activities(buffer) - {"_joblib_probe_task"} == {"add", "double", "total"}


def test_a_batch_of_several_functions_has_all_their_names(client: Any, buffer: Path) -> None:
    joblib = pytest.importorskip("joblib")
    with flowprov.workflow(dask_client=client), joblib.parallel_config(backend="dask", client=client):
        calls = [joblib.delayed(function)(1) for function in (steps.add, steps.double)] * 100
        joblib.Parallel(batch_size=2, pre_dispatch="all")(calls)
    assert _activities(buffer) - {"_joblib_probe_task"} == {"add-double"}


def test_blocks_that_xarray_maps_have_the_name_of_the_function(client: Any, buffer: Path) -> None:
    xarray = pytest.importorskip("xarray")
    data = xarray.DataArray(array.ones((4, 4), chunks=2), dims=("x", "y"))
    with flowprov.workflow(dask_client=client):
        data.map_blocks(steps.double, template=data).compute()
        xarray.apply_ufunc(steps.double, data, dask="parallelized", output_dtypes=[float]).compute()
    assert _activities(buffer) == {"double"}
