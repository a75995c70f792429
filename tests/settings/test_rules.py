"""Rules across keys, and all that ``settings validate`` finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.settings import load_settings
from flowprov.settings.inspection import Inspection, inspect_settings
from flowprov.settings.key_tree import all_keys
from tests.settings.support import NOWHERE, load, write


def inspect(source: Any, **environ: str) -> Inspection:
    return inspect_settings(source, environ=environ, cwd=NOWHERE)


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no optional package be found."""
    extras = {"redis", "stamina", "pymongo", "pynvml", "amdsmi", "psutil"}
    monkeypatch.setattr("flowprov.settings.rules.find_spec", lambda name: None if name in extras else name)


PROBLEMS = [
    # settings, key, parts of the report
    (
        {"instrumentation": {"torch": {"what": "parent_and_children", "children_mode": "telemetry"}}},
        "instrumentation.torch.children_mode",
        ["found telemetry, which needs telemetry", "children_mode: lightweight"],
    ),
    (
        {"instrumentation": {"torch": {"children_mode": "telemetry_and_tensor_inspection"}}},
        "instrumentation.torch.children_mode",
        ["children_mode: tensor_inspection"],
    ),
    ({"telemetry_capture": {}}, "telemetry_capture", ["no kind that is on", "telemetry_capture: ~"]),
    ({"telemetry_capture": {"gpu": True}}, "telemetry_capture.gpu", ["flowprov[nvidia]", "gpu: ~"]),
    ({"sinks": {"redis": {"uri": "redis://h"}}}, "sinks.redis.uri", ["flowprov[redis]", "redis: ~"]),
    ({"sinks": {"mongodb": {"uri": "mongodb://h"}}}, "sinks.mongodb.uri", ["needs pymongo and stamina"]),
]


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize(("settings", "key", "parts"), PROBLEMS)
def test_settings_that_do_not_fit_together_are_reported_and_load(
    settings: dict[str, Any], key: str, parts: list[str]
) -> None:
    inspection = inspect(settings)
    assert inspection.settings == load(settings)
    (line,) = inspection.problems.lines()
    assert line.startswith(f"the given mapping: {key}: found ")
    for part in parts:
        assert part in line


def test_a_profile_of_which_no_key_holds_is_never_silent(tmp_path: Path) -> None:
    path = write(tmp_path, "telemetry_capture: ~\nprofile: single_gpu\n")
    (line,) = inspect(path).problems.lines()
    assert line.startswith(f"{path}:2: profile: found single_gpu, of which no key holds")
    (line,) = inspect({"telemetry_capture": None}, FLOWPROV_PROFILE="single_gpu").problems.lines()
    assert line.startswith("FLOWPROV_PROFILE: profile: found single_gpu")
    assert not inspect({"telemetry_capture": None}, FLOWPROV_PROFILE="cluster").problems


NOTES = [
    ({"instrumentation": {"torch": {"what": "parent_and_children"}}}, "are recorded as lightweight"),
    ({"sinks": {"redis": {"maxlen": 3}}}, "without sinks.redis.uri: it has no effect"),
    (
        {"instrumentation": {"torch": {"what": None, "batch_loop": None, "capture_batches_at_every": 2}}},
        "no eff",
    ),
]


@pytest.mark.parametrize(("settings", "part"), NOTES)
def test_what_has_no_effect_or_says_less_than_it_seems_is_a_note(settings: dict[str, Any], part: str) -> None:
    inspection = inspect(settings)
    assert not inspection.problems
    (note,) = inspection.notes
    assert part in note


@pytest.mark.usefixtures("without_extras")
def test_all_problems_are_in_one_report_each_with_its_line(tmp_path: Path) -> None:
    text = """
profile: singel_gpu
instrumentation:
  torch:
    children_mode: telemetry
sinks:
  redis:
    uri: redis://host
journal:
  hartbeat: 3
"""
    path = write(tmp_path, text)
    inspection = inspect(path, FLOWPROV__JOURNAL__SYNC="maybe")
    assert inspection.settings is None
    report = "\n".join(inspection.problems.lines())
    for beginning in (
        f"{path}:2: profile: found",
        f"{path}:5: instrumentation.torch.children_mode: found telemetry",
        f"{path}:8: sinks.redis.uri: found a server",
        f"{path}:10: journal.hartbeat: unknown key",
        "FLOWPROV__JOURNAL__SYNC: journal.sync: found",
    ):
        assert beginning in report
    assert len(inspection.problems.lines()) == 5


def test_a_variable_that_is_nearly_one_of_flowprovs_is_a_note() -> None:
    environ = {
        "FLOWPROV_PROFIL": "full",
        "FLOWPROV_JOURNAL__PATH": "x",
        "FLOWPROV_HOME": "theirs",
        "FLOWPROV_TEST_REDIS_URI": "theirs",
        "FLOWPROV_DISABLED": "",
        "FLOWPROV_SETTING_PATH": "",
        "FLOWPROV__JOURNAL__SYNC": "off",
    }
    assert inspect({}, **environ).notes == [
        'FLOWPROV_PROFIL: flowprov reads no such variable; did you mean "FLOWPROV_PROFILE"?',
        'FLOWPROV_JOURNAL__PATH: flowprov reads no such variable; did you mean "FLOWPROV__JOURNAL__PATH"?',
    ]


def test_a_program_is_told_once_of_a_variable_that_is_nearly_one_of_flowprovs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLOWPROV_SETTINGS", "nope.yaml")
    monkeypatch.setenv("FLOWPROV_HOME", "theirs")
    for _ in range(2):
        flowprov.configure(journal={"path": str(tmp_path)})
    with flowprov.workflow("W"):
        pass
    (record,) = caplog.records
    assert record.getMessage() == (
        'flowprov: FLOWPROV_SETTINGS: flowprov reads no such variable; did you mean "FLOWPROV_SETTINGS_PATH"?'
    )


def test_a_rule_says_nothing_about_a_key_that_is_wrong_by_itself() -> None:
    settings = {
        "telemetry_capture": {"cpu": "perhaps"},
        "instrumentation": {"torch": {"children_mode": "telemetry"}},
    }
    (line,) = inspect(settings).problems.lines()
    assert "telemetry_capture.cpu" in line


def test_a_program_that_records_is_told_once_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch = {"what": "parent_and_children", "children_mode": "telemetry"}
    settings = {"journal": {"path": str(tmp_path)}, "instrumentation": {"torch": torch}}
    flowprov.configure(settings)
    flowprov.configure(settings)
    with flowprov.workflow("W"):
        pass
    assert len(flowprov.read_buffer(tmp_path)) == 1
    assert caplog.text.count("settings do not fit together. instrumentation.torch.children_mode: ") == 1


def test_a_block_with_other_settings_is_checked_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flowprov.configure(journal={"path": str(tmp_path)})
    with flowprov.configured(telemetry_capture={}):
        pass
    assert caplog.text.count("telemetry_capture: found no kind that is on") == 1


# -- a null is "off" for every key that can be off --------------------------------------------------------

OFF = {
    ".".join(path): spec.off_value() for path, spec in all_keys() if spec.can_be_off() and not spec.section
}
WRITTEN = {"instrumentation.enabled", "dask.enabled", "privacy.redact"}


@pytest.mark.parametrize("key", OFF)
def test_a_null_switches_off_every_key_that_can_be_off(tmp_path: Path, key: str) -> None:
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * level}{section}:\n" for level, section in enumerate(sections))
    for source in (write(tmp_path, f"{text}{'  ' * len(sections)}{name}: ~\n"), None):
        value: Any = load(source, None if source else {key: None})
        for part in key.split("."):
            value = getattr(value, part)
        assert value == OFF[key]


def test_the_keys_that_can_be_off_are_these() -> None:
    switches = {".".join(path) for path, spec in all_keys() if spec.type_hint is bool}
    assert switches - set(OFF) == WRITTEN
    assert {"telemetry_capture.gpu", "journal.sync", "journal.max_bytes", "privacy.names"} <= set(OFF)
    assert not {"journal.path", "journal.heartbeat", "instrumentation.torch.depth"} & set(OFF)


@pytest.mark.parametrize("key", sorted(WRITTEN))
def test_an_empty_line_neither_loses_records_nor_shows_secrets(key: str) -> None:
    with pytest.raises(flowprov.SettingsError, match=r"found ~ \(nothing\), expected true or false"):
        load_settings(None, {key: None}, environ={})
