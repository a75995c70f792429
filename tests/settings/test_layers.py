"""Which file is loaded, and which layer goes above which."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowprov.settings import (
    JournalSettings,
    Settings,
    TelemetrySettings,
    fallback_folder,
    load_settings,
    parse_assignment,
)
from tests.settings.support import NOWHERE, error_report, load, write


def test_without_any_source_the_defaults_hold_with_an_absolute_journal_path(tmp_path: Path) -> None:
    expected = Settings(journal=JournalSettings(path=str(tmp_path / "flowprov_buffer")))
    assert load(cwd=tmp_path) == expected


def test_a_named_path_goes_above_the_variable_above_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path, "flowprov: 1\njournal: {heartbeat: 1}")
    by_variable = {"FLOWPROV_SETTINGS_PATH": str(write(tmp_path, "journal: {heartbeat: 2}", "two.yaml"))}
    by_name = write(tmp_path, "journal: {heartbeat: 3}", "three.yaml")
    assert load(cwd=tmp_path).journal.heartbeat == 1
    assert load(cwd=tmp_path, environ=by_variable).journal.heartbeat == 2
    assert load(by_name, cwd=tmp_path, environ=by_variable).journal.heartbeat == 3
    assert load("three.yaml", cwd=tmp_path, environ=by_variable).journal.heartbeat == 3


def test_an_empty_path_variable_counts_as_unset(tmp_path: Path) -> None:
    assert load(environ={"FLOWPROV_SETTINGS_PATH": ""}, cwd=tmp_path).journal.heartbeat == 10


def test_overrides_go_above_the_environment_above_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "journal: {heartbeat: 1, writer: write, max_bytes: 5}")
    environ = {"FLOWPROV__JOURNAL__HEARTBEAT": "2", "FLOWPROV__JOURNAL__WRITER": "mapped"}
    journal = load(path, {"journal.heartbeat": 3}, environ=environ).journal
    assert (journal.heartbeat, journal.writer, journal.max_bytes) == (3, "mapped", 5)


def test_loaded_settings_go_above_the_environment_and_below_overrides() -> None:
    loaded = load({"journal": {"heartbeat": 1, "writer": "write"}})
    environ = {"FLOWPROV__JOURNAL__HEARTBEAT": "2", "FLOWPROV_SETTINGS_PATH": "/nowhere/at/all"}
    journal = load(loaded, {"journal.writer": "mapped"}, environ=environ).journal
    assert (journal.heartbeat, journal.writer) == (1, "mapped")
    assert load(loaded) == loaded


FLOWPROV_FILES = [
    "flowprov: 1\njournal: {heartbeat: 1}",
    "# words\n---\n'flowprov': 1\njournal: {heartbeat: 1}",
    "\ufeff{flowprov: 1, journal: {heartbeat: 1}}",
    "journal: {heartbeat: 1}",
    "journal: {heartbeat: 1}\nprivacy: {redact: true}\nflowprov: 1",
]
FOREIGN_FILES = [
    "",
    "# nothing",
    "debug: true",
    "journal: {heartbeat: 1}\ndebug: true",
    "debug: true\nflowprov: 1",
    "- journal",
    "journal",
    "[a]: 1",
    "debug: [",
    "journal: [",
    "\tdebug",
    "debug: !!python/object:os.system x",
    "--- {}\n--- {}",
    'a: "\\UFFFFFFFF"',
    "#" * 300_000,
]


@pytest.mark.parametrize("text", FLOWPROV_FILES)
def test_a_file_of_flowprov_in_the_current_folder_is_loaded(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert load(cwd=tmp_path).journal.heartbeat == 1


@pytest.mark.parametrize("text", FOREIGN_FILES)
def test_a_file_of_another_program_in_the_current_folder_is_ignored(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert load(cwd=tmp_path) == load(
        cwd=tmp_path / "elsewhere", overrides={"journal.path": str(tmp_path / "flowprov_buffer")}
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instrumentaton: {}\n", ':1: instrumentaton: unknown key; did you mean "instrumentation"?'),
        (
            "instrumentation: {}\ntelemetry_captur: {}\n",
            ':2: telemetry_captur: unknown key; did you mean "telemetry_capture"?',
        ),
        ("journal: {}\nprivcy: {}\n", ':2: privcy: unknown key; did you mean "privacy"?'),
        ("debug: true\n'telemetry_capture': {}\n", ":1: debug: unknown key; the keys here are "),
    ],
)
def test_a_slip_in_a_key_of_a_file_that_looks_like_flowprovs_stops_nothing_and_is_said_once(
    tmp_path: Path, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, text)
    assert load(cwd=tmp_path) == load({}, cwd=tmp_path)
    load(cwd=tmp_path)
    (record,) = caplog.records
    first, second = record.getMessage().splitlines()
    assert first.startswith(f"flowprov does not use {path}. It looks like flowprov's settings")
    assert first.endswith("mend this: 1 problem in the settings:")
    assert second.startswith(f"  {path}{said}")


@pytest.mark.parametrize("text", [*FOREIGN_FILES, "flowprov:\n  a: 1\ninstrumentation: {}", "policy: 1"])
def test_of_a_file_that_looks_like_another_programs_nothing_is_said(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, text)
    load(cwd=tmp_path)
    assert not caplog.records


def test_of_a_file_in_which_much_is_wrong_a_part_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "instrumentation: {}\n" + "".join(f"key_{n}: 1\n" for n in range(50)))
    load(cwd=tmp_path)
    lines = caplog.records[0].getMessage().splitlines()
    assert lines[0].endswith("mend this: 50 problems in the settings:")
    assert lines[1].startswith(f"  {path}:2: key_0: unknown key")
    assert (len(lines), lines[-1]) == (9, "  and more, which flowprov settings validate lists")


@pytest.mark.parametrize(
    "content",
    [
        b"flowprov: 1\njournal: [",
        b"# words\n\nflowprov: 2\n",
        b"flowprov: 1\ndebug: true",
        b"flowprov: 1\n# \xff",
        b"flowprov: 1\n" + b"#" * 300_000,
    ],
)
def test_a_broken_file_of_flowprov_in_the_current_folder_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.yaml").write_bytes(content)
    assert str(tmp_path / "settings.yaml") in error_report(cwd=tmp_path)


def test_a_file_in_another_encoding_a_folder_or_a_pipe_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"journal: {} # \xff")
    assert load(cwd=tmp_path).journal.heartbeat == 10
    path.unlink()
    path.mkdir()
    assert load(cwd=tmp_path).journal.heartbeat == 10
    path.rmdir()
    os.mkfifo(path)
    assert load(cwd=tmp_path).journal.heartbeat == 10


def test_a_named_file_needs_no_version_key_and_may_be_empty(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")) == load()
    assert load(write(tmp_path, "# nothing\n")) == load()
    assert load(write(tmp_path, "privacy: {redact: false}")).privacy.redact is False


def test_a_mapping_is_loaded_like_a_file() -> None:
    assert load({"flowprov": 1, "journal": {"heartbeat": 4}}).journal.heartbeat == 4
    assert "the given mapping: journal.hearbeat" in error_report({"journal": {"hearbeat": 4}})


def test_variables_are_read_as_yaml_scalars_whatever_the_case_of_their_names() -> None:
    settings = load(
        environ={
            "FLOWPROV__INSTRUMENTATION__ENABLED": "false",
            "flowprov__journal__sync": "off",
            "FLOWPROV__JOURNAL__MAX_BYTES": "~",
            "FLOWPROV__JOURNAL__PATH": "/a: b #c",
            "FLOWPROV__INSTRUMENTATION__TORCH__INCLUDE": "['*.attention', head]",
            "FLOWPROV__INSTRUMENTATION__TORCH__DEPTH": "all",
            "FLOWPROV__SINKS__GIVE_UP_AFTER": "1e3",
            "FLOWPROV__SINKS__REDIS__URI": "redis://h/0 #1",
            "FLOWPROV_DISABLED": "1",
        }
    )
    assert settings.instrumentation.enabled is False
    assert settings.journal == JournalSettings(path="/a: b #c")
    assert settings.instrumentation.torch.include == ("*.attention", "head")
    assert settings.instrumentation.torch.depth == "all"
    assert settings.sinks.give_up_after == 1000
    assert settings.sinks.redis.uri == "redis://h/0 #1"


def test_a_variable_for_a_key_goes_above_one_for_its_section() -> None:
    environ = {
        "FLOWPROV__TELEMETRY_CAPTURE__CPU": "true",
        "FLOWPROV__TELEMETRY_CAPTURE": "{mem: true, cpu: false}",
    }
    assert load(environ=environ).telemetry_capture == TelemetrySettings(cpu=True, mem=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FLOWPROV__JOURNAL__HARTBEAT", "3", 'did you mean "journal.heartbeat"?'),
        ("FLOWPROV__", "3", "unknown key"),
        ("FLOWPROV__JOURNAL__HEARTBEAT", "[3", "found a string that is not valid YAML"),
        ("FLOWPROV__JOURNAL__HEARTBEAT", "&a [*a]", 'found "&a [*a]"'),
        ("FLOWPROV__JOURNAL", "{path: &a [*a]}", "journal.path: found a list"),
        ("FLOWPROV__JOURNAL__PATH__X", "3", "journal.path: found a mapping"),
        ("FLOWPROV__FLOWPROV", "1", "unknown key"),
        ("FLOWPROV__JOURNAL__PATH", "\udcff", r'found "\udcff"'),
    ],
)
def test_a_wrong_variable_is_reported_by_its_name(name: str, value: str, message: str) -> None:
    report = error_report(environ={name: value})
    assert f"  {name}: " in report
    assert message in report


@pytest.mark.parametrize(
    "overrides",
    [
        {"instrumentation": {"torch": {"depth": 2, "what": None}}},
        {"instrumentation.torch.depth": 2, "instrumentation__torch__what": None},
        {"instrumentation": {"torch.depth": 2}, "instrumentation.torch": {"what": None}},
    ],
)
def test_overrides_may_be_nested_dotted_or_joined_by_underscores(overrides: dict[str, Any]) -> None:
    torch = load(None, overrides).instrumentation.torch
    assert (torch.depth, torch.what, torch.epoch_loop) == (2, None, "default")


def test_a_section_of_the_tree_may_be_an_override() -> None:
    assert load(
        None, {"telemetry_capture": TelemetrySettings(gpu=True)}
    ).telemetry_capture == TelemetrySettings(gpu=True)


def test_an_assignment_from_the_command_line_becomes_an_override() -> None:
    pairs = [
        "telemetry_capture={cpu: true}",
        " journal.path = /a=b",
        "journal__heartbeat=3",
        "privacy.redact=no",
    ]
    settings = load(None, dict(parse_assignment(pair) for pair in pairs))
    assert settings.telemetry_capture == TelemetrySettings(cpu=True)
    assert settings.journal == JournalSettings(path="/a=b", heartbeat=3.0)
    assert settings.privacy.redact is False


def test_the_environment_and_folder_of_the_process_are_read_when_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("FLOWPROV")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWPROV__JOURNAL__HEARTBEAT", "7")
    assert load_settings().journal == JournalSettings(path=str(tmp_path / "flowprov_buffer"), heartbeat=7.0)


def test_a_deleted_current_folder_gives_way_to_the_folder_of_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_settings({"journal": {"path": "/a"}}, environ={}).journal.path == "/a"
    assert load_settings(environ={}).journal.path == fallback_folder()
    assert "the current folder is gone" in caplog.text


def test_a_home_folder_in_the_journal_path_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of_a_user")
    assert load({"journal": {"path": "~/buffer"}}).journal.path == "/home/of_a_user/buffer"
    assert load({"journal": {"path": Path("buffer")}}).journal.path == str(NOWHERE / "buffer")
