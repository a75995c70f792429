"""The forms of a Dask task in all supported versions, read by their attributes."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from dask import _task_spec
from dask.delayed import delayed
from hypothesis import given
from hypothesis import strategies as st

from flowprov.capture.dask import encoding, internal_tasks, task_spec
from flowprov.values import Summarizer
from tests.dask.steps import add, total

if not hasattr(_task_spec, "Dict"):
    pytest.skip(
        "tasks of this version of Dask have another form, which the tests on clusters cover",
        allow_module_level=True,
    )

Alias, DataNode, Dict, List = _task_spec.Alias, _task_spec.DataNode, _task_spec.Dict, _task_spec.List
Task, TaskRef = _task_spec.Task, _task_spec.TaskRef


def _used(run_spec: Any, *dependencies: Any) -> Any:
    call = task_spec.call_of(run_spec)
    inputs = {key: encoding.dependency_name(key) for key in dependencies}
    return json.loads(encoding.encode_used(run_spec, call, inputs, Summarizer()))


def _helper(name: str, package: str) -> Any:
    def helper(*_: Any) -> None: ...

    helper.__name__, helper.__module__ = name, package
    return helper


def test_a_tuple_of_the_old_form_is_read_like_a_node_of_the_new_form() -> None:
    new = Task("k", add, TaskRef("first"), y=Alias("second"))
    old = (add, ("first",), {"y": "second"})
    expected = {"x": {"$task": "dask:first"}, "y": {"$task": "dask:second"}}
    assert _used(new, "first", "second") == _used(old, "first", "second") == expected


def test_a_string_that_equals_a_key_is_a_string_in_the_new_form() -> None:
    assert _used(Task("k", add, "first", TaskRef("first")), "first") == {
        "x": "first",
        "y": {"$task": "dask:first"},
    }


def test_the_user_function_is_found_behind_the_helpers_of_dask() -> None:
    mapped: Any = (_helper("execute_task", "distributed.worker"), ((add, 1, "key"),), {})
    applied: Any = (
        _helper("execute_task", "distributed.worker"),
        ((_helper("apply", "dask.utils"), add, [1], {"y": "key"}),),
        {},
    )
    delayed: Any = (_helper("apply", "dask.utils"), (add, [1], (dict, [["y", "key"]])), {})
    second: Any = TaskRef("key")
    partial = Task("k", functools.partial(add, y=second), 1)
    for run_spec in (mapped, applied, delayed, partial):
        call = task_spec.call_of(run_spec)
        assert task_spec.call_name(call, "prefix") == "add"
        assert _used(run_spec, "key") == {"x": 1, "y": {"$task": "dask:key"}}


def test_references_in_containers_and_nested_tasks_are_found() -> None:
    inner = Task(None, add, TaskRef("a"), 1)
    run_spec = Task("k", total, List(TaskRef("a"), DataNode(None, 2)), inner, named=Dict({"b": TaskRef("b")}))
    assert _used(run_spec, "a", "b") == {
        "items": [{"$task": "dask:a"}, 2],
        "more": [{"$call": "add", "used": {"x": {"$task": "dask:a"}, "y": 1}}],
        "named": {"b": {"$task": "dask:b"}},
    }


def test_references_in_containers_of_the_old_form_are_found() -> None:
    run_spec: Any = (total, (["a", {"deep": ["b"]}, (add, "a", 1)],), {})
    assert _used(run_spec, "a", "b") == {
        "items": [
            {"$task": "dask:a"},
            {"deep": [{"$task": "dask:b"}]},
            {"$call": "add", "used": {"x": {"$task": "dask:a"}, "y": 1}},
        ],
        "more": [],
    }


def test_a_delayed_object_that_is_passed_as_it_is_stays_a_value() -> None:
    passed = delayed(add)(1)
    call = task_spec.call_of(Task("k", add, passed))
    assert (
        internal_tasks.user_functions("k", call) == internal_tasks.user_functions(("k", 0), call) == ["add"]
    )
    assert "$call" not in _used(Task("k", add, passed, TaskRef("a")), "a")["x"]


def test_a_fused_graph_is_named_by_its_key_and_uses_its_inputs() -> None:
    fused = Task.fuse(Task("one", add, TaskRef("input"), 1), Task("two", add, TaskRef("one"), 1))
    call = task_spec.call_of(fused)
    assert task_spec.call_name(call, "two") == "two"
    assert _used(fused, "input") == {"inputs": [{"$task": "dask:input"}]}


def test_arguments_that_do_not_fit_are_named_by_position() -> None:
    assert _used(Task("k", add, 1, 2, 3)) == {"arg_0": 1, "arg_1": 2, "arg_2": 3}
    assert _used(Task("k", dict, [("a", 1)])) == {"arg_0": [["a", 1]]}


def test_secrets_are_concealed_among_references_too() -> None:
    assert _used(Task("k", dict, password="hunter2", other=TaskRef("a")), "a") == {  # noqa: S106 - on purpose
        "password": {"$redacted": True},
        "other": {"$task": "dask:a"},
    }


def four(a: Any, b: Any, c: Any, d: Any) -> None: ...


def test_arguments_keep_their_order_whatever_they_are() -> None:
    used = _used(Task("k", four, TaskRef("a"), 0.1, TaskRef("b"), d={"deep": [1]}), "a", "b")
    assert used == {"a": {"$task": "dask:a"}, "b": 0.1, "c": {"$task": "dask:b"}, "d": {"deep": [1]}}
    assert list(used) == ["a", "b", "c", "d"]


_values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(st.lists(_values | st.sampled_from(["a", "b"]).map(TaskRef), min_size=4, max_size=4))
def test_the_fast_encoder_writes_what_the_general_one_writes(args: list[Any]) -> None:
    named = dict(zip("abcd", args, strict=True))
    fast = encoding._encode_flat(named, {"a": "dask:a"}, (), Summarizer())
    assert fast is not None
    assert json.loads(fast) == json.loads(encoding._ReferenceEncoder((), Summarizer()).encode(named))


@pytest.mark.parametrize("key", [("block", 0, 1), 7, b"bytes"])
def test_keys_that_are_no_strings_are_written_as_their_repr(key: Any) -> None:
    assert _used((add, (key,), {}), key)["x"] == {"$task": f"dask:{key!r}"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(
    args=st.lists(_json, max_size=4),
    kwargs=st.dictionaries(st.text(min_size=1), _json, max_size=3),
    key=st.text(),
)
def test_any_arguments_are_encoded_as_json(args: list[Any], kwargs: dict[str, Any], key: str) -> None:
    old = (total, tuple(args), kwargs)
    new = Task("k", total, *args, TaskRef(key))
    for run_spec in (old, new):
        assert isinstance(_used(run_spec, key), dict)
