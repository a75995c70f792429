"""The report of a mistake has its key, its line, what was found, what was expected, and the fix."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.errors import SettingsError
from flowprov.settings import load_settings, parse_assignment
from flowprov.settings.yaml_text import MAX_TEXT
from tests.settings.support import error_report, load, write

WRONG_CONTENT = [
    # text, line, parts of the report of that line
    ("jurnal: {}", 1, ["jurnal: unknown key", 'did you mean "journal"?']),
    ("journal:\n  wrter: auto", 2, ["journal.wrter: unknown key", 'did you mean "journal.writer"?']),
    ("instrumentation:\n\n  what: ~", 3, ["instrumentation.what:", '"instrumentation.torch.what"?']),
    ("journal:\n  zzz: 1", 2, ["the keys here are path, writer, max_bytes, sync, heartbeat"]),
    ("sinks:\n  redis: {maxlen:3}", 2, ['put a space after "maxlen:"']),
    (
        "journal:\n  writer: maped",
        2,
        ['found "maped"', "one of auto, mapped, write, queued", 'did you mean "mapped"?'],
    ),
    ("journal:\n  sync: on", 2, ["journal.sync: found true", "one of off, interval, record"]),
    ("journal:\n  path: off", 2, ["found false, expected the path of a folder", "put the word in quotes"]),
    ("journal:\n  path: 12", 2, ["journal.path: found 12", "put it in quotes"]),
    ("journal:\n  path: ''", 2, ['journal.path: found ""']),
    ("journal:\n  path: ~no_such_user_of_this/x", 2, ["home folder of ~no_such_user_of_this is not known"]),
    ('journal:\n  path: "~a\\0b"', 2, ["journal.path: found a NUL character"]),
    ("journal:\n  path: redis://u:pw@host/0", 2, ["journal.path: found an address", "sinks.redis.uri"]),
    ('journal:\n  path: "a\\0"', 2, ["journal.path: found a NUL character"]),
    ("journal:\n  heartbeat: 0", 2, ["journal.heartbeat: found 0, expected seconds"]),
    ("journal:\n  heartbeat: .nan", 2, ["journal.heartbeat: found nan"]),
    ("journal:\n  heartbeat: .inf", 2, ["journal.heartbeat: found inf"]),
    ("journal:\n  heartbeat: true", 2, ["journal.heartbeat: found true"]),
    ("journal:\n  heartbeat: {a: 1}", 2, ["journal.heartbeat: found a mapping"]),
    ("journal:\n  max_bytes: 0", 2, ["journal.max_bytes: found 0, expected a whole number from 1"]),
    ("journal:\n  max_bytes: 1.5", 2, ["journal.max_bytes: found 1.5"]),
    (f"journal:\n  max_bytes: 1{'0' * 30}", 2, ["found a very large whole number"]),
    (f"journal:\n  max_bytes: 1{'0' * 5000}", 2, ["journal.max_bytes: found a "]),
    ("journal:\n  max_bytes: !!int many", 2, ["found a value that YAML cannot convert to its type"]),
    ("journal:\n  writer: !mine auto", 2, ["found a value with a YAML tag"]),
    ("journal: {writer: auto,\n writer: write}", 2, ["journal.writer: given a second time", "on line 1"]),
    ("journal: {writer: auto, writer: auto}", 1, ["journal.writer: given a second time"]),
    ("journal:\n  - path", 2, ["journal: found a list, expected a mapping of path, writer"]),
    ("journal:\n  <<: {writer: auto}", 2, ["merge keys are not supported here"]),
    ("journal:\n  on: 1", 2, ["journal: found true as a key, expected a string", "put the word in quotes"]),
    ("journal:\n  [a]: 1", 2, ["journal: found a list or mapping as a key"]),
    (
        "values:\n  max_bytes: 100",
        2,
        ["values.max_bytes: found 100, expected a whole number of bytes from 4096"],
    ),
    ("values:\n  max_time: 0", 2, ["values.max_time: found 0, expected seconds"]),
    ("values:\n  object_repr: true", 2, ["values.object_repr: unknown", 'mean "values.object_reprs"?']),
    ("privacy: off", 1, ["privacy: found false, expected a mapping of redact, names, patterns, allow"]),
    ("instrumentation: ~", 1, ["instrumentation: found ~", "instrumentation.enabled: false"]),
    ("telemetry_capture: yes", 1, ["telemetry_capture: found true, expected a mapping of cpu", "or ~"]),
    ("telemetry_capture:\n  interval: -1", 2, ["telemetry_capture.interval: found -1, expected seconds"]),
    ("instrumentation:\n  torch:\n    depth: 0", 3, ["found 0", "a whole number from 1", "or all"]),
    ("instrumentation:\n  torch:\n    depth: al", 3, ['found "al"', 'did you mean "all"?']),
    ("instrumentation:\n  torch:\n    include: head", 3, ['found "head", expected a list of strings']),
    ("instrumentation:\n  torch:\n    include: [a, no]", 3, ["false in it is no string", "in quotes"]),
    ("instrumentation:\n  torch:\n    include: [a, [b]]", 3, ["a list in it is no string"]),
    ("instrumentation:\n  torch:\n    what: all", 3, ["one of parent_only, parent_and_children or ~"]),
    ("sinks:\n  redis:\n    uri: mongodb://h", 3, ['found "mongodb://h"', "redis://"]),
    ("sinks:\n  stop_timeout: -1", 2, ["sinks.stop_timeout: found -1", "from 0"]),
    ("flowprov: 2", 1, ["flowprov: found 2, expected 1", "version"]),
    ("flowprov: true", 1, ["flowprov: found true, expected 1"]),
    ("flowprov: {a: 1}", 1, ["flowprov: found a mapping, expected 1"]),
    ("- a", 1, ["found a list at the top, expected a mapping of instrumentation"]),
    ("\n\njust words", 3, ['found "just words" at the top']),
    ("journal:\n  a: [", 2, ["not valid YAML"]),
    ("journal:\n\tpath: x", 2, ["not valid YAML", r"'\t' that cannot start any token"]),
    ("journal: {}\n---\njournal: {}", 2, ["not valid YAML", "another document"]),
    ("journal: {}\n\x07", 2, ["a control character"]),
    ("journal:\n  path: *folder", 2, ["not valid YAML"]),
]


@pytest.mark.parametrize(("text", "line", "parts"), WRONG_CONTENT)
def test_a_mistake_in_a_file_is_reported_with_its_line(
    tmp_path: Path, text: str, line: int, parts: list[str]
) -> None:
    path = write(tmp_path, text)
    report = error_report(path)
    reported = [entry for entry in report.splitlines() if f"{path}:{line}: " in entry]
    assert reported, report
    for part in parts:
        assert part in reported[0]


def test_all_problems_of_all_sources_are_in_one_report(tmp_path: Path) -> None:
    path = write(tmp_path, "journal:\n  writer: x\n  sync: y\nzebra: 1\n")
    report = error_report(
        path, {"privacy.redact": 3}, environ={"FLOWPROV__SINKS__STOP_TIMEOUT": "soon", "FLOWPROV__NO": "1"}
    )
    assert report.splitlines()[0] == "6 problems in the settings:"
    for part in (
        f"{path}:2: journal.writer",
        f"{path}:3: journal.sync",
        f"{path}:4: zebra",
        'FLOWPROV__SINKS__STOP_TIMEOUT: sinks.stop_timeout: found "soon"',
        "FLOWPROV__NO: no: unknown key",
        "override: privacy.redact: found 3, expected true or false",
    ):
        assert part in report


def test_a_broken_file_does_not_hide_the_problems_of_the_environment(tmp_path: Path) -> None:
    report = error_report(write(tmp_path, "a: ["), environ={"FLOWPROV__NO": "1"})
    assert "not valid YAML" in report
    assert "FLOWPROV__NO" in report


def test_a_flood_of_problems_is_counted_and_cut(tmp_path: Path) -> None:
    report = error_report(write(tmp_path, "".join(f"k{i}: 1\n" for i in range(5000))))
    assert report.startswith("5000 problems")
    assert report.endswith("and 4900 more")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _path: None, "no such file"),
        (lambda path: path.mkdir(), "found a folder, expected a file"),
        (lambda path: path.write_bytes(b"# x\n\xff\xfe"), ":2: not UTF-8"),
        (lambda path: path.write_bytes(b"#" * (MAX_TEXT + 1)), "too large"),
        (lambda path: path.write_bytes(b'journal: {path: "\\UFFFFFFFF"}'), "cannot be read as YAML"),
        (lambda path: path.write_bytes(b"[" * 5000), "nested too deeply"),
        (lambda path: path.write_bytes(b'journal: {path: "\\ud800"}'), r'journal.path: found "\ud800"'),
    ],
)
def test_a_named_file_that_cannot_be_used_is_reported(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "named.yaml"
    make(path)
    for report in (error_report(str(path)), error_report(environ={"FLOWPROV_SETTINGS_PATH": str(path)})):
        assert str(path) in report
        assert message in report


def test_a_missing_file_that_the_environment_names_is_reported_with_the_variable(tmp_path: Path) -> None:
    report = error_report(environ={"FLOWPROV_SETTINGS_PATH": "gone.yaml"}, cwd=tmp_path)
    assert f"{tmp_path / 'gone.yaml'}: no such file (named by FLOWPROV_SETTINGS_PATH)" in report


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, "{}")
    path.chmod(0)
    assert "permission to read it is denied" in error_report(path)


@pytest.mark.parametrize("source", [3, b"settings.yaml", ["a"], object()])
def test_a_source_of_a_wrong_type_is_reported(source: object) -> None:
    assert "expected a path, a mapping or Settings" in error_report(source)


def test_a_path_with_nul_is_reported() -> None:
    assert "not a valid path" in error_report("a\0b")
    assert "not a valid path" in error_report("~a\0b")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({3: 4}, "found 3 as a key"),
        ({"journal": {"path": {"x": 1}}}, "journal.path: found a mapping"),
        ({"journal.wrter": "auto"}, 'did you mean "journal.writer"?'),
        ({"a..b": 1}, "override: a: unknown key"),
        ({"flowprov": 1}, "flowprov: unknown key"),
        ({"journal.path": {"a", "b"}}, "a value of type set"),
        ({"instrumentation.torch.include": {"a", "b"}}, "a value of type set"),
        ([("a", 1)], "override: found a list at the top"),
    ],
)
def test_a_wrong_override_is_reported(overrides: Any, message: str) -> None:
    assert message in error_report(None, overrides)


@pytest.mark.parametrize("assignment", ["journal.path", "=3", "  =3", ""])
def test_a_text_that_is_no_assignment_is_reported(assignment: str) -> None:
    with pytest.raises(SettingsError, match="expected key=value"):
        parse_assignment(assignment)


def test_a_pile_of_aliases_is_reported_quickly(tmp_path: Path) -> None:
    lines = ["journal: &a0 {path: [x]}"]
    lines += [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert "journal.path: found a list" in error_report(write(tmp_path, "\n".join(lines)))


def test_a_node_that_contains_itself_is_reported(tmp_path: Path) -> None:
    assert "journal.journal: unknown key" in error_report(write(tmp_path, "journal: &j\n  journal: *j"))
    cyclic: dict[str, object] = {}
    cyclic["journal"] = cyclic
    assert "journal.journal: unknown key" in error_report(cyclic)
    assert "journal.journal: unknown key" in error_report(None, cyclic)


def test_settings_built_by_hand_are_checked_too() -> None:
    settings = load({})
    bad = type(settings)(journal=type(settings.journal)(writer="x"))  # type: ignore[arg-type]
    assert 'the given Settings: journal.writer: found "x"' in error_report(bad)


@pytest.mark.parametrize(
    ("path", "held", "message"),
    [
        ("~x$HELD/y", "battery", "the home folder of ~x$HELD is not known"),
        ("~x${HELD}", "battery", "the home folder of ~x${HELD} is not known"),
        ("/x$HELD", "battery\udcff", "the folder /x$HELD has a name that is not UTF-8"),
    ],
)
def test_a_path_is_quoted_as_it_is_written(tmp_path: Path, path: str, held: str, message: str) -> None:
    """What a variable holds may be a secret."""
    with pytest.raises(SettingsError, match=re.escape(message)) as raised:
        load_settings(environ={"HELD": held, "FLOWPROV__JOURNAL__PATH": path}, cwd=tmp_path)
    assert "battery" not in str(raised.value)
