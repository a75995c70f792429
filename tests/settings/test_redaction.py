"""Credentials of URIs are never shown or recorded; settings reach another process complete."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from flowprov.errors import SettingsError
from flowprov.settings import (
    JournalSettings,
    Settings,
    parse_assignment,
    redact_uri,
    settings_from_json,
    settings_to_json,
)
from tests.settings.support import error_report, load, write

SECRET = "hunter2"  # noqa: S105  a word that must not appear anywhere


@pytest.mark.parametrize(
    ("uri", "redacted"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:hunter2@h:6379/0", "redis://***@h:6379/0"),
        ("redis://u:hunter2@h", "redis://***@h"),
        ("redis://u:a@hunter2/#?b@h/0", "redis://***@h/0"),
        ("mongodb://u:hunter2@a:1,b:2/x?replicaSet=rs0", "mongodb://***@a:1,b:2/x?replicaSet=rs0"),
        ("mongodb://[::1]:27017,h/", "mongodb://[::1]:27017,h/"),
        ("unix:///run/redis.sock?db=1&password=hunter2", "unix:///run/redis.sock?db=1&password=***"),
        ("redis://h?a=1;password=hunter2", "redis://h?a=***"),
        ("redis://h?p%61ssword=hunter2", "redis://h?p%61ssword=***"),
        ("redis://u:hunter2", "redis://***"),
        ("u:hunter2@h", "***@h"),
        ("", ""),
    ],
)
def test_a_uri_loses_its_credentials_and_keeps_its_hosts_and_path(uri: str, redacted: str) -> None:
    assert redact_uri(uri) == redacted


def test_a_repr_shows_no_credentials() -> None:
    settings = load({"sinks": {"redis": {"uri": f"redis://u:{SECRET}@h"}}})
    for text in (repr(settings), str(settings), repr(settings.sinks.redis), f"{settings.__rich_repr__()}"):
        assert SECRET not in text
        assert "redis://***@h" in text


@pytest.mark.parametrize(
    "sinks",
    [
        {"redis": {"uri": f"mongodb://u:{SECRET}@h"}},
        {"redis": {"uri": SECRET}},
        {"redis": {"uri": [f"redis://:{SECRET}@h"]}},
        {"redis": {"uri": {SECRET: 1}}},
        {"redis": f"redis://:{SECRET}@h"},
        {"redis": f"u:{SECRET}@h"},
        {"redis": {"password": SECRET}},
        {"redis": {f"uri:redis://:{SECRET}@h": None}},
        {"redis": {f"u:{SECRET}@h": None}},
        {"mongodb": {"uri": "redis://" + "x" * 100 + SECRET + "@h"}},
        {f"redis://:{SECRET} {SECRET}@h": 1},
        [f"redis://:{SECRET}@h"],
    ],
)
def test_a_report_shows_no_credentials(tmp_path: Path, sinks: Any) -> None:
    path = write(tmp_path, json.dumps({"sinks": sinks}))
    for report in (error_report(path), error_report({"sinks": sinks}), error_report(None, {"sinks": sinks})):
        assert SECRET not in report


@pytest.mark.parametrize(
    "value", [f"*{SECRET}", f"!{SECRET}! x", f"@{SECRET}", f"'{SECRET}", f"redis://:{SECRET}@h: x"]
)
def test_a_report_of_broken_yaml_quotes_nothing_from_the_file(tmp_path: Path, value: str) -> None:
    report = error_report(write(tmp_path, f"sinks:\n  redis:\n    uri: {value}\n"))
    assert SECRET not in report


def test_a_report_of_a_variable_or_an_assignment_shows_no_credentials() -> None:
    report = error_report(environ={"FLOWPROV__SINKS__REDIS__URI": f"http://u:{SECRET}@h"})
    assert SECRET not in report
    assert 'FLOWPROV__SINKS__REDIS__URI: sinks.redis.uri: found "http://***@h"' in report
    with pytest.raises(SettingsError) as raised:
        parse_assignment(f"sinks.redis.uri redis://:{SECRET}@h")
    assert SECRET not in str(raised.value)


def test_a_hint_shows_no_control_characters() -> None:
    report = error_report({"a\x1b[31m\nb": 1})
    assert "\x1b" not in report
    assert len(report.splitlines()) == 2


def test_the_public_form_is_json_without_credentials() -> None:
    settings = load({"sinks": {"mongodb": {"uri": f"mongodb://u:{SECRET}@h/x"}}})
    public = settings.to_public_dict()
    assert json.loads(json.dumps(public)) == public
    assert public["sinks"]["mongodb"]["uri"] == "mongodb://***@h/x"
    assert public["instrumentation"]["torch"]["include"] == []


def test_the_digest_follows_the_settings_but_not_the_credentials() -> None:
    def digest(password: str, heartbeat: float) -> str:
        return load(
            {"sinks": {"redis": {"uri": f"redis://:{password}@h"}}, "journal": {"heartbeat": heartbeat}}
        ).digest()

    assert digest("a", 1) == digest("b", 1)
    assert digest("a", 1) != digest("a", 2)
    assert len(digest("a", 1)) == 16


def test_the_digest_is_the_same_for_10_and_10_0() -> None:
    assert Settings(journal=JournalSettings(heartbeat=10)).digest() == Settings().digest()


def test_settings_reach_another_process_unchanged() -> None:
    settings = load(
        {
            "sinks": {"redis": {"uri": f"redis://:{SECRET}@h"}},
            "instrumentation": {"torch": {"include": ["a"]}},
        }
    )
    assert settings_from_json(settings_to_json(settings)) == settings
    assert settings_from_json(settings_to_json(settings).decode()) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"zebra": 1}',
        b'{"journal": {"writer": "x"}}',
        b'{"journal": {"heartbeat": 1e999}}',
    ],
)
def test_json_that_is_no_settings_is_reported(encoded: bytes) -> None:
    with pytest.raises(SettingsError, match="not valid"):
        settings_from_json(encoded)
