"""Everything that takes values takes a mapping, keywords, or both; nothing that is given raises."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import flowprov
from flowprov import guard


class Broken:
    """A mapping that raises."""

    def keys(self) -> list[str]:  # noqa: D102
        raise RuntimeError("keys")


def give_to_iteration(*args: Any, **values: Any) -> None:
    loop = flowprov.Loop(1)
    for _ in loop:
        loop.end_iter(*args, **values)


def give_to_task(*args: Any, **values: Any) -> None:
    with flowprov.task_scope("step") as step:
        step.set_generated(*args, **values)


def give_to_current_task(*args: Any, **values: Any) -> None:
    with flowprov.task_scope("step"):
        handle = flowprov.current_task()
        assert handle is not None
        handle.set_generated(*args, **values)


def give_to_workflow(*args: Any, **values: Any) -> None:
    with flowprov.workflow("inner") as inner:
        inner.set_generated(*args, **values)


def give_to_current_workflow(*args: Any, **values: Any) -> None:
    with flowprov.workflow("inner"):
        handle = flowprov.current_workflow()
        assert handle is not None
        handle.set_generated(*args, **values)


WAYS = [
    give_to_iteration,
    give_to_task,
    give_to_current_task,
    give_to_workflow,
    give_to_current_workflow,
]


def generated(buffer: Path) -> Any:
    """Return what the last row generated."""
    return flowprov.read_buffer(buffer, return_df=False)[-1]["generated"]


@pytest.mark.parametrize("give", WAYS)
def test_a_mapping_keywords_or_both_are_recorded_by_name(buffer: Path, give: Callable[..., None]) -> None:
    with flowprov.workflow("w"):
        for args, values in [
            (({"acc": 0.9},), {}),
            ((), {"acc": 0.9}),
            (({"acc": 0.1, "loss": 1},), {"acc": 0.9}),
            ((OrderedDict(acc=0.9),), {}),
            ((UserDict(acc=0.9),), {}),
            (([("acc", 0.9)],), {}),
        ]:
            give(*args, **values)
            assert generated(buffer)["acc"] == 0.9
        give({1: "a", None: "b"})
        assert generated(buffer) == {"1": "a", "null": "b"}


@pytest.mark.parametrize("give", WAYS)
@pytest.mark.parametrize("value", [0.5, "text", [1, 2], Broken(), object(), {1, 2}, b"x", range(3)])
def test_a_value_without_a_name_is_recorded_and_said_once(
    buffer: Path, caplog: pytest.LogCaptureFixture, give: Callable[..., None], value: Any
) -> None:
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("w"):
        give(value)
        give(value)
    assert list(generated(buffer)) == ["value"]
    assert [record.getMessage().count('under the name "value"') for record in caplog.records] == [1]
    assert guard.internal_errors() == {}


@pytest.mark.parametrize("give", WAYS)
def test_the_environment_is_never_recorded_whole(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, give: Callable[..., None]
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "some-value-of-it")
    with flowprov.workflow("w"):
        give(os.environ)
    written = b"".join(path.read_bytes() for path in buffer.rglob("*.jsonl"))
    assert b"some-value-of-it" not in written
    assert list(generated(buffer)) == ["value"]


@given(value=st.recursive(st.none() | st.floats() | st.text() | st.binary(), st.lists) | st.just(Broken()))
def test_nothing_that_is_given_raises(value: Any) -> None:
    with flowprov.workflow("w"):
        for give in WAYS:
            give(value)


def use_in_workflow(config: Any) -> Any:
    with flowprov.workflow("inner", used=config):
        pass


def use_in_task_scope(config: Any) -> Any:
    with flowprov.task_scope("step", used=config):
        pass


def describe_task_scope(config: Any) -> Any:
    with flowprov.task_scope("step", custom_metadata=config):
        pass


@flowprov.task
def take(config: Any) -> None:
    """Take a configuration as an argument."""


@pytest.mark.filterwarnings("ignore:register_new_resolver")  # its later name is not in every version
@pytest.mark.parametrize(
    "give",
    [
        *WAYS,
        use_in_workflow,
        use_in_task_scope,
        describe_task_scope,
        flowprov.log_params,
        flowprov.log_config,
        take,
    ],
)
def test_a_configuration_of_omegaconf_is_recorded_without_the_environment_wherever_it_is_given(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, give: Callable[..., None]
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "some-value-of-it")
    calls: list[int] = []
    OmegaConf.register_new_resolver("flowprov_called", lambda: calls.append(1), replace=True)
    config = OmegaConf.create(
        {
            "env": "${oc.env:SOME_VARIABLE}",
            "called": "${flowprov_called:}",
            "db": {"password": "hunter2", "env": "${env}"},
            "plain": "${db.password}",
            "missing": "???",
        }
    )
    with flowprov.workflow("w"):
        give(config)
    written = b"".join(path.read_bytes() for path in buffer.rglob("*.jsonl"))
    assert b"some-value-of-it" not in written
    assert b"hunter2" not in written
    assert b'"env":"${oc.env:SOME_VARIABLE}"' in written or give is flowprov.log_config
    assert b'"plain":{"$redacted":true}' in written
    assert calls == []


def test_keywords_are_concealed_if_the_parameter_that_takes_them_is_named_like_a_secret(buffer: Path) -> None:
    @flowprov.task
    def connect(host: Any, /, *passwords: Any, **secrets: Any) -> None:
        """Take secrets under names of the caller's own."""

    @flowprov.task
    def fetch(host: Any, **credentials: Any) -> None:
        """Take secrets without a parameter that is positional only."""

    with flowprov.workflow("w"):
        connect("h", "hunter2", x="hunter2", y=["hunter2"], z=None, host="hunter2")
        fetch("h", x="hunter2")
        fetch([1], x="hunter2")
        fetch("h")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in buffer.rglob("*.jsonl"))
    hidden = {"$redacted": True}
    assert [row["used"] for row in flowprov.read_buffer(buffer, return_df=False)[1:]] == [
        {"host": "h", "passwords": hidden, "x": hidden, "y": hidden, "z": None, "**secrets": hidden},
        {"host": "h", "x": hidden},
        {"host": [1], "x": hidden},
        {"host": "h"},
    ]


def test_end_iter_behind_its_loop_belongs_to_the_iteration_that_ended_last(buffer: Path) -> None:
    loop = flowprov.Loop(2)
    with flowprov.workflow("w"):
        for i in loop:
            loop.end_iter(i=i)
        loop.end_iter(behind=True)
        for _ in loop:
            break
        loop.end_iter(behind_break=True)
        for _ in flowprov.Loop(1):
            loop.end_iter(in_another=True)
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["task_id"]]
    assert [row["generated"] for row in rows] == [
        {"i": 0},
        {"i": 1, "behind": True},
        {"behind_break": True, "in_another": True},
        None,
    ]


def test_end_iter_before_any_iteration_is_said_once(buffer: Path, caplog: pytest.LogCaptureFixture) -> None:
    loops = [flowprov.Loop(1), flowprov.Loop([]), flowprov.BatchLoop(0)]
    with caplog.at_level(logging.WARNING, "flowprov"), flowprov.workflow("w"):
        for loop in loops:
            loop.end_iter(a=1)
            loop.end_iter(a=1)
            for _ in loop:
                pass
    assert len([r for r in caplog.records if "before the first iteration" in r.getMessage()]) == 2
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["task_id"]]
    assert [row["generated"] for row in rows] == [None]


def test_end_iter_behind_an_iteration_that_is_not_recorded_belongs_to_none(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"torch": {"capture_batches_at_every": 2}}
    )
    loop = flowprov.BatchLoop(2)
    with flowprov.workflow("w"):
        for i in loop:
            loop.end_iter(i=i)
        loop.end_iter(behind=True)
    rows = [row for row in flowprov.read_buffer(buffer, return_df=False) if row["task_id"]]
    assert [row["generated"] for row in rows] == [{"i": 0}]


def test_an_iteration_with_a_large_item_and_large_outputs_keeps_within_the_budget_of_a_record(
    buffer: Path,
) -> None:
    flowprov.configure(journal={"path": str(buffer)}, values={"max_time": 60})  # bytes are looked at here
    large = {f"key{number}": ["x" * 900] * 10 for number in range(100)}
    with flowprov.workflow("w"):
        loop = flowprov.Loop([large])
        for _ in loop:
            loop.end_iter(large)
            loop.end_iter(more=large)
    sizes = [len(line) for path in buffer.rglob("*.jsonl") for line in path.read_bytes().split(b"\n")]
    assert 40_000 < max(sizes) < 70_000
