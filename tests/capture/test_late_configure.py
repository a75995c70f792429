"""A ``configure`` that comes after the process has recorded: a campaign stays in one buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.runtime import runtime
from tests.support import tasks

LATE = "holds from the next campaign on"


@flowprov.task
def step(number: int) -> int:
    """Return the next number."""
    return number + 1


def activities(folder: Path) -> list[int]:
    """Return the numbers that the steps in a buffer used."""
    return [task.used["number"] for task in tasks(folder) if task.used]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return two buffers; this process records into the first one."""
    flowprov.configure(journal={"path": str(tmp_path / "first")})
    return tmp_path / "first", tmp_path / "second"


def configure(folder: Path, **settings: Any) -> None:
    flowprov.configure(journal={"path": str(folder)}, **settings)


def test_a_folder_that_comes_after_a_workflow_holds_from_the_next_campaign_on(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = folders
    with flowprov.workflow("one"):
        step(1)
    configure(second)
    assert caplog.text.count(LATE) == 1
    with flowprov.workflow("two"):
        step(2)
    with flowprov.campaign("next"), flowprov.workflow("three"):
        step(3)
    with flowprov.workflow("four", campaign_id="another"):
        step(4)
    with flowprov.workflow("five"):
        step(5)
    runtime.shutdown()
    assert sorted(activities(first)) == [1, 2, 5]
    assert sorted(activities(second)) == [3, 4]
    assert caplog.text.count(LATE) == 1


def test_a_folder_that_comes_inside_a_workflow_holds_from_the_next_campaign_on(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = folders
    with flowprov.workflow("one"):
        step(1)
        configure(second)
        step(2)
        with flowprov.workflow("two"):
            step(3)
        with flowprov.workflow("three", campaign_id="another"):
            step(4)
        step(5)
    runtime.shutdown()
    assert sorted(activities(first)) == [1, 2, 3, 5]
    assert activities(second) == [4]
    assert caplog.text.count(LATE) == 1


def test_a_folder_that_comes_after_the_implicit_workflow_holds_from_the_next_campaign_on(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = folders
    step(1)
    configure(second)
    step(2)
    with flowprov.workflow("W", campaign_id="next"):
        step(3)
    runtime.shutdown()
    assert sorted(activities(first)) == [1, 2]
    assert activities(second) == [3]
    assert caplog.text.count(LATE) == 1


def test_a_folder_that_comes_in_time_holds_at_once_and_nothing_is_said(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = folders
    assert flowprov.current_task() is None
    configure(second)
    step(1)
    runtime.shutdown()
    assert not first.exists()
    assert activities(second) == [1]
    assert LATE not in caplog.text


def test_other_settings_hold_at_once_and_nothing_is_said_of_the_same_folder(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = folders
    with flowprov.workflow("one"):
        step(1)
    configure(first, instrumentation={"enabled": False})
    with flowprov.workflow("two"):
        step(2)
    configure(first)
    with flowprov.workflow("three"):
        step(3)
    runtime.shutdown()
    assert sorted(activities(first)) == [1, 3]
    assert LATE not in caplog.text


def test_campaigns_of_their_own_go_each_into_the_folder_that_was_configured_for_them(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = folders
    for number, folder in enumerate((first, second, first)):
        configure(folder)
        with flowprov.workflow("W", campaign_id=f"campaign-{number}"):
            step(number)
    runtime.shutdown()
    assert sorted(activities(first)) == [0, 2]
    assert activities(second) == [1]
    assert LATE not in caplog.text
