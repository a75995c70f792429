"""The settings of privacy hold everywhere: for values, names and messages, whenever they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from tests.support import lines, of_type, only, tasks

REDACTED = {"$redacted": True}


@flowprov.task
def hire(employee_number: object, note: str = "x", session_key: str = "s") -> str:
    """Be decorated before the settings load."""
    if note == "fail":
        raise ValueError("no EMP-123456")
    return note


def configure(buffer: Path, privacy: dict[str, Any]) -> None:
    flowprov.configure(journal={"path": str(buffer)}, privacy=privacy)


OWN_RULES = {"names": ["employee_number"], "patterns": ["EMP-[0-9]{6}"], "allow": ["session_key"]}


@pytest.mark.parametrize("number", [7, "7", 7.5, ["7"]])
def test_a_parameter_that_the_settings_call_a_secret_is_concealed(buffer: Path, number: object) -> None:
    configure(buffer, OWN_RULES)
    hire(number, "a note")
    used = only(tasks(buffer)).used
    assert used == {"employee_number": REDACTED, "note": "a note", "session_key": "s"}


def test_without_these_settings_it_is_recorded(buffer: Path) -> None:
    hire(7, "for EMP-123456")
    used = only(tasks(buffer)).used
    assert used == {"employee_number": 7, "note": "for EMP-123456", "session_key": REDACTED}


def test_a_pattern_of_the_settings_holds_for_names_messages_tags_and_values(buffer: Path) -> None:
    configure(buffer, OWN_RULES)
    with flowprov.workflow("of EMP-123456", used={"x": ["EMP-123456"]}):
        with pytest.raises(ValueError, match="no EMP"):
            hire(1, "fail")
        with flowprov.task_scope("EMP-123456", tags=["EMP-123456"]):
            pass
        for number in flowprov.Loop([1], name="EMP-123456", item_name="employee_number"):
            assert number == 1
    text = "".join(path.read_text() for path in buffer.rglob("*.jsonl"))
    assert "EMP-123456" not in text.replace("'EMP-123456'", "")
    assert text.count("***") >= 6
    looped = [task for task in tasks(buffer) if task.subtype == "iteration"]
    assert only(looped).used["employee_number"] == REDACTED


def test_nothing_is_concealed_where_redaction_is_off(buffer: Path) -> None:
    configure(buffer, {"redact": False})
    url = "https://bob:hunter2@host"
    with flowprov.workflow(url, used={"password": "x", "url": url}):
        hire("password=x", session_key="y")
    workflow = of_type(lines(buffer), records.Workflow)[0]
    assert workflow.name == url
    assert workflow.used == {"password": "x", "url": url}
    assert only(tasks(buffer)).used["employee_number"] == "password=x"


def test_an_id_is_the_same_for_writers_and_readers_whatever_the_settings(buffer: Path) -> None:
    url = "https://bob:hunter2@host/run/5"
    configure(buffer, {"redact": False})
    with flowprov.workflow("W", workflow_id=url):
        pass
    configure(buffer, {"redact": True})
    found = flowprov.Buffer(buffer).records(workflow_id=url)
    assert {row.workflow_id for row in found} == {"https://***@host/run/5"}


@pytest.mark.parametrize("pattern", ["(", "a*", "", "x|"])
def test_a_pattern_that_cannot_be_used_is_a_mistake_in_the_settings(pattern: str) -> None:
    with pytest.raises(
        flowprov.SettingsError, match="a list of regular expressions that match no empty text"
    ):
        flowprov.configure(privacy={"patterns": [pattern]})
