"""Variables of the environment in the values of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowprov.errors import SettingsError
from flowprov.settings import Settings
from flowprov.settings.key_tree import fields
from tests.settings.support import error_report, load, write

SECRET = "CorrectHorse"  # noqa: S105 - it must never be shown


def value_of(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


@pytest.mark.parametrize(
    ("key", "written", "expected"),
    [
        ("journal.heartbeat", "${SECONDS}", 30.0),
        ("journal.heartbeat", "'${SECONDS}'", 30.0),
        ("journal.heartbeat", "${NOTHING:-7}", 7.0),
        ("journal.heartbeat", "${EMPTY:-1e-1}", 0.1),
        ("journal.heartbeat", "${SECONDS:-7}", 30.0),
        ("journal.max_bytes", "${NOTHING:-}", None),
        ("journal.max_bytes", "${NOTHING:-~}", None),
        ("journal.writer", "${WRITER}", "write"),
        ("journal.sync", "${OFF}", "off"),
        ("journal.path", "${FOLDER:-/data}/x", "/data/x"),
        ("journal.path", "/data/$WRITER/${SECONDS}", "/data/write/30"),
        ("instrumentation.torch.what", "${OFF}", None),
        ("instrumentation.torch.depth", "${NOTHING:-all}", "all"),
        ("instrumentation.torch.depth", "${SECONDS}", 30),
        ("instrumentation.torch.include", "['${WRITER}.*', head]", ("write.*", "head")),
        ("instrumentation.torch.include", "'${LIST}'", ("a", "b")),
        ("instrumentation.torch.backward", "${YES}", True),
        ("privacy.names", "['$${WRITER}', 'costs$', '$WRITER']", ("${WRITER}", "costs$", "$WRITER")),
        ("sinks.redis.uri", "redis://${HOST:-localhost}:${PORT}/0", "redis://localhost:6379/0"),
        ("sinks.redis.uri", "${REDIS_URI:-}", None),
        ("telemetry_capture", "${OFF}", None),
    ],
)
def test_a_variable_is_replaced_and_takes_the_type_of_its_key(
    tmp_path: Path, key: str, written: str, expected: Any
) -> None:
    *sections, name = key.split(".")
    text = "".join(f"{'  ' * level}{section}:\n" for level, section in enumerate(sections))
    path = write(tmp_path, f"{text}{'  ' * len(sections)}{name}: {written}\n")
    environ = {
        "SECONDS": "30", "EMPTY": "", "WRITER": "write", "OFF": "off", "YES": "yes", "LIST": "[a, b]",
        "PORT": "6379",
    }  # fmt: skip
    assert value_of(load(path, environ=environ), key) == expected


def test_a_variable_may_hold_a_whole_section_in_yaml() -> None:
    settings = load({"telemetry_capture": "${KINDS}"}, environ={"KINDS": "{cpu: true, interval: 3}"})
    assert settings.telemetry_capture is not None
    assert (settings.telemetry_capture.cpu, settings.telemetry_capture.interval) == (True, 3)
    report = error_report({"journal": "${KINDS}"}, environ={"KINDS": "{hartbeat: 3}"})
    assert 'did you mean "journal.heartbeat"?' in report


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("${GONE}", ["the variable ${GONE} is not set", "${GONE:-default}"]),
        ("${EMPTY}", ["the variable ${EMPTY} is not set in this environment, or it is empty"]),
        ("a${GONE}b", ["${GONE} is not set"]),
        ("${GONE-x}", ['found "${GONE-x}", expected ${NAME} or ${NAME:-default}', "write $${"]),
        ("${}", ['found "${}"']),
        ("${1A}", ['found "${1A}"']),
        ("${GONE", ['found "${GONE"']),
        ("${GONE:-${EMPTY}}", ['found "${GONE:-${EMPTY}"']),
    ],
)
def test_a_variable_without_a_value_or_of_another_form_is_an_error_with_its_line(
    tmp_path: Path, written: str, parts: list[str]
) -> None:
    path = write(tmp_path, f"privacy:\n  names:\n    - a\n    - '{written}'\njournal:\n  sync: '{written}'\n")
    report = error_report(path, environ={"EMPTY": ""})
    assert f"{path}:6: journal.sync: " in report
    assert f"{path}:3: privacy.names: " in report
    for part in parts:
        assert report.count(part) == 2


def test_between_braces_a_variable_needs_quotes_and_the_report_says_so(tmp_path: Path) -> None:
    report = error_report(write(tmp_path, "flowprov: 1\njournal: {path: ${FOLDER}/x}\n"))
    assert ":2: not valid YAML" in report
    assert 'put "${…}" in quotes' in report


def test_what_a_variable_holds_is_never_quoted_and_is_concealed_in_records(tmp_path: Path) -> None:
    text = "journal:\n  heartbeat: ${A}\n  writer: ${A}\nsinks:\n  redis: ${A}\n  mongodb:\n    uri: ${A}\n"
    report = error_report(write(tmp_path, text), environ={"A": SECRET})
    assert report.startswith("4 problems")
    assert 'journal.heartbeat: found the value of "${A}", expected seconds' in report
    assert SECRET not in report
    uri = {"sinks": {"redis": {"uri": "redis://:${PASSWORD}@host"}}, "privacy": {"names": ["${URI}"]}}
    environ = {"PASSWORD": SECRET, "URI": f"redis://:{SECRET}@other"}
    settings = load(uri, environ=environ)
    assert settings.sinks.redis.uri == f"redis://:{SECRET}@host"
    assert SECRET not in str(settings.to_public_dict()) + repr(settings)


def report_if_any(source: Any, environ: dict[str, str]) -> str:
    try:
        load(source, environ=environ)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("section", [*fields(Settings), "profile"])
@pytest.mark.parametrize(
    "held",
    [
        "{%(key)s: SECRET}",
        "{%(key)s: {SECRET: 1}}",
        "{%(key)s: {uri: SECRET, path: SECRET}}",
        "{%(key)s: [SECRET, {SECRET: SECRET}]}",
        "{%(key)s: '${SECRET'}",
        "{%(key)s: ~SECRET/x, other: $SECRET}",
        "{%(key)s: $SECRET}",
        "{SECRET: 1}",
        "{[SECRET]: 1}",
        "{%(key)s: SECRET",
    ],
)
def test_what_stands_in_a_section_that_a_variable_holds_is_never_quoted(section: str, held: str) -> None:
    spec = fields(Settings).get(section)
    for key in ["extends"] if spec is None or spec.section is None else fields(spec.section):
        held_now = held % {"key": key}
        report = report_if_any({section: "${HELD}"}, {"HELD": held_now.replace("SECRET", SECRET)})
        assert SECRET not in report
        assert not report or "${HELD}" in report


def test_a_variable_that_holds_a_section_is_replaced_once() -> None:
    held = {"HELD": "{writer: write, path: '$HOME/x', heartbeat: 5}", "HOME": "/home"}
    journal = load({"journal": "${HELD}"}, environ=held).journal
    assert (journal.writer, journal.path, journal.heartbeat) == ("write", "/home/x", 5)
    report = error_report({"journal": "${HELD}"}, environ={"HELD": "{writer: '${OTHER}'}", "OTHER": "write"})
    assert 'journal.writer: found the value of "${HELD}", expected one of auto' in report
    report = error_report({"journal": "${HELD}"}, environ={"HELD": "{wrong: 1}"})
    assert (
        'journal: the value of "${HELD}" has a key that is unknown here; the keys here are path, ' in report
    )


def test_a_variable_in_a_list_in_a_list_is_reported_as_what_it_is() -> None:
    report = error_report({"privacy": {"names": ["${A:-x}", ["${A:-x}"]]}})
    assert 'privacy.names: found the value of "${A:-x}", expected a list of strings' in report
    assert "found a list" not in error_report({"privacy": {"patterns": ["${A:-(}"]}})


def test_a_variable_may_name_the_profile(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: ${KIND:-single_gpu}\n")
    assert load(path).origins.profile == "single_gpu"
    assert load(path, environ={"KIND": "off"}).origins.profile == "off"
    assert load({"profile": {"extends": "${KIND}"}}, environ={"KIND": "full"}).dask.internal_tasks
    report = error_report(path, environ={"KIND": SECRET})
    assert f'{path}:1: profile: found the value of "${{KIND:-single_gpu}}", expected one of' in report
    assert SECRET not in report
    assert "the variable ${KIND} is not set" in error_report({"profile": {"extends": "${KIND}"}})


def test_only_files_are_interpolated() -> None:
    """A shell has done it before, and code has ``os.environ``."""
    environ = {"FLOWPROV__PRIVACY__NAMES": "['${A}']", "A": "x"}
    assert load(environ=environ).privacy.names == ("${A}",)
    assert load(None, {"privacy.names": ["${A}"]}, environ=environ).privacy.names == ("${A}",)


def test_an_unset_variable_in_the_file_of_another_program_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "journal:\n  heartbeat: ${GONE}\n")
    assert load(cwd=tmp_path).journal.heartbeat == 10
    assert "${GONE} is not set" in caplog.text
