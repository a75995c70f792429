"""The step of Dagster is asked only of a Dagster that is loaded. `make soak` asks the real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flowprov
from flowprov.environment import dagster
from flowprov.records import Workflow
from flowprov.runtime import inheritance, runtime
from tests.support import lines, of_type


class _Step:
    """A context that tells little, as one of another version may."""

    run_id = "b4a9a0a4-0c26-4b5a-9a0a-000000000001"
    job_name = "pipeline"
    run_config = {"ops": {"a": {"config": {"password": "hunter2"}}}}  # noqa: RUF012 - read only
    step: _Step | None = None

    @property
    def retry_number(self) -> int:
        raise RuntimeError

    @classmethod
    def get(cls) -> _Step:
        if cls.step is None:
            raise RuntimeError("no current context")
        return cls.step


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "dagster", SimpleNamespace(OpExecutionContext=_Step))
    _Step.step = _Step()
    yield
    _Step.step = None


def _workflows(buffer: Path) -> list[Any]:
    openings = [one for one in of_type(lines(buffer), Workflow) if one.started_at is not None]
    return sorted(openings, key=lambda one: one.started_at or 0)


def test_without_dagster_there_is_no_step() -> None:
    assert "dagster" not in sys.modules
    assert (dagster.run_id(), dagster.describe_step(), dagster.describe_run()) == (None, None, None)
    assert "dagster" not in sys.modules


@pytest.mark.parametrize("loaded", [None, SimpleNamespace(), SimpleNamespace(OpExecutionContext=object)])
def test_a_dagster_that_is_not_loaded_yet_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, loaded: object
) -> None:
    monkeypatch.setitem(sys.modules, "dagster", loaded)
    assert dagster.describe_step() is None


def test_what_dagster_does_not_tell_is_left_out(step: None, buffer: Path) -> None:
    with flowprov.workflow("W") as workflow:
        pass
    assert workflow.campaign_id == _Step.run_id
    (opening,) = _workflows(buffer)
    redacted = {"ops": {"a": {"config": {"password": {"$redacted": True}}}}}
    assert opening.orchestrator == {
        "name": "dagster",
        "run_id": _Step.run_id,
        "job": "pipeline",
        "run_config": redacted,
    }
    _Step.step = None
    with flowprov.workflow("outside") as outside:
        pass
    assert outside.campaign_id != _Step.run_id
    assert _workflows(buffer)[-1].orchestrator is None


def test_the_campaign_that_the_program_names_goes_first(step: None, buffer: Path) -> None:
    with flowprov.campaign("C", campaign_id="mine"), flowprov.workflow("W") as workflow:
        pass
    assert workflow.campaign_id == "mine"
    with flowprov.workflow("W") as workflow:
        assert flowprov.campaign("D").campaign_id == _Step.run_id
    assert workflow.campaign_id == _Step.run_id


def test_the_setting_switches_it_off(step: None, buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, orchestrators=False)
    with flowprov.workflow("W") as workflow:
        pass
    assert workflow.campaign_id != _Step.run_id
    assert _workflows(buffer)[-1].orchestrator is None


@pytest.mark.parametrize(("heritage", "shared"), [('{"made_up":true}', True), ("{}", False), ("x", False)])
def test_a_campaign_that_a_process_above_made_up_was_given_by_nobody(
    step: None, buffer: Path, monkeypatch: pytest.MonkeyPatch, heritage: str, *, shared: bool
) -> None:
    monkeypatch.setenv("FLOWPROV_CAMPAIGN_ID", "inherited")
    monkeypatch.setenv("FLOWPROV_SCOREBOARDS", heritage)
    with flowprov.workflow("W") as workflow:
        pass
    assert workflow.campaign_id == (_Step.run_id if shared else "inherited")


def test_children_learn_whether_a_campaign_was_made_up(buffer: Path) -> None:
    with flowprov.workflow("W"):
        pass
    active = runtime.get()
    assert inheritance.inherited_heritage(inheritance.variables(active)).made_up
    with flowprov.campaign("C"):
        assert not inheritance.inherited_heritage(inheritance.variables(active)).made_up
