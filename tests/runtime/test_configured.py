"""Settings that hold for a block of code."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.errors import SettingsError
from flowprov.read.verify import verify
from flowprov.runtime import runtime


@flowprov.task
def step(values: dict[str, Any]) -> None:
    """Take something."""


def used(buffer: Path) -> list[Any]:
    rows = flowprov.read_buffer(buffer, return_df=False)
    return [
        row["used"]["values"] for row in rows if row["activity_id"] and row["activity_id"].endswith("step")
    ]


def test_settings_hold_in_the_block_alone(buffer: Path) -> None:
    with flowprov.workflow("w"):
        step({"internal": "visible"})
        with flowprov.configured(privacy={"names": ["internal"]}):
            step({"internal": "hidden"})
        step({"internal": "visible"})
    assert used(buffer) == [
        {"internal": "visible"},
        {"internal": {"$redacted": True}},
        {"internal": "visible"},
    ]
    runtime.reset()
    assert verify(buffer).verdict == "COMPLETE"


def test_blocks_may_be_nested_and_left_by_exceptions(buffer: Path) -> None:
    def heartbeat() -> float:
        return runtime.get().settings.journal.heartbeat

    before = heartbeat()
    with pytest.raises(KeyError), flowprov.configured(journal__heartbeat=5.0):
        with flowprov.configured(**{"journal.heartbeat": 7.0}):
            assert heartbeat() == 7.0
        assert heartbeat() == 5.0
        raise KeyError("x")
    assert heartbeat() == before


def test_wrong_settings_begin_no_block(buffer: Path) -> None:
    before = runtime.get().settings
    with pytest.raises(SettingsError, match="hartbeat"), flowprov.configured(journal={"hartbeat": 1}):
        raise AssertionError("the block began")
    assert runtime.get().settings == before


def private_names() -> Any:
    """Return what the process was handed."""
    return runtime.get().settings.privacy.names


def test_children_of_the_block_follow_it(buffer: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with flowprov.configured(privacy={"names": ["internal"]}), flowprov.workflow("w"), spawn.Pool(1) as pool:
        inside = pool.apply(private_names)
    assert "internal" in inside


def open_workflow() -> None:
    """Open a workflow, which records the settings."""
    with flowprov.workflow("child"):
        pass


def recorded_settings(buffer: Path, name: str) -> Any:
    rows = flowprov.read_buffer(buffer, return_df=False)
    (settings,) = [row["settings"] for row in rows if row["name"] == name]
    return settings


def test_a_profile_for_a_block_leaves_what_was_set_by_hand_and_goes_to_children(buffer: Path) -> None:
    before = runtime.get().settings
    spawn = multiprocessing.get_context("spawn")
    with (
        flowprov.configured(profile="cluster", dask__close_timeout=3.0),
        flowprov.workflow("parent"),
        spawn.Pool(1) as pool,
    ):
        pool.apply(open_workflow)
    assert runtime.get().settings == before
    parent, child = recorded_settings(buffer, "parent"), recorded_settings(buffer, "child")
    assert child == parent
    assert parent["journal"]["path"] == str(buffer)
    assert parent["profile"] == "cluster"
    assert parent["origins"]["dask.close_timeout"] == "override"
    assert parent["origins"]["telemetry_capture.gpu"] == "profile single_gpu"
    assert before.origins.profile == "cpu_only"
