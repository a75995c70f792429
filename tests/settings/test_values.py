"""The forms that a value may have: YAML's words, nulls for sections, small conversions."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowprov.settings import MongoDBSettings, RedisSettings, Settings, TelemetrySettings, TorchSettings
from tests.settings.support import load, write

TORCH_OFF = TorchSettings(
    what=None, children_mode=None, epoch_loop=None, batch_loop=None, register_workflow=False
)


@pytest.mark.parametrize("null", ["~", "null", "", "off", "no", "false"])
def test_null_and_the_words_that_yaml_reads_as_false_switch_a_key_off(tmp_path: Path, null: str) -> None:
    text = f"""
instrumentation:
  torch: {null}
telemetry_capture: {null}
journal:
  max_bytes: {null}
sinks:
  redis: {null}
  mongodb: {null}
"""
    settings = load(write(tmp_path, text))
    assert settings.instrumentation.torch == TORCH_OFF
    assert settings.telemetry_capture is None
    assert settings.journal.max_bytes is None
    assert settings.sinks.redis == RedisSettings()
    assert settings.sinks.mongodb == MongoDBSettings()


@pytest.mark.parametrize("word", ["off", "'off'", "false", "Off", "no"])
def test_sync_off_is_off_although_yaml_reads_it_as_false(tmp_path: Path, word: str) -> None:
    assert load(write(tmp_path, f"journal: {{sync: {word}}}")).journal.sync == "off"


@pytest.mark.parametrize("key", ["what", "children_mode", "epoch_loop", "batch_loop"])
def test_a_torch_key_is_switched_off_by_null_and_by_off(tmp_path: Path, key: str) -> None:
    for word in ("~", "off"):
        path = write(tmp_path, f"instrumentation: {{torch: {{{key}: {word}}}}}")
        assert getattr(load(path).instrumentation.torch, key) is None


def test_a_section_with_everything_commented_out_keeps_its_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "journal:\n  # path: x\nprivacy:\nsinks:\n")) == load()


def test_a_key_in_a_layer_above_a_null_section_switches_only_that_key_on() -> None:
    settings = load({"instrumentation": {"torch": None}}, {"instrumentation.torch.what": "parent_only"})
    assert settings.instrumentation.torch.what == "parent_only"
    assert settings.instrumentation.torch.epoch_loop is None


def test_a_null_in_a_layer_above_a_section_switches_it_off() -> None:
    source = {"sinks": {"redis": {"uri": "redis://h"}}, "telemetry_capture": {"cpu": True}}
    environ = {"FLOWPROV__SINKS": "~", "FLOWPROV__TELEMETRY_CAPTURE": "~"}
    settings = load(source, environ=environ)
    assert settings.sinks.redis.uri is None
    assert settings.telemetry_capture is None


def test_an_empty_telemetry_section_has_no_kind_on() -> None:
    assert load({"telemetry_capture": {}}).telemetry_capture == TelemetrySettings()


class _Writer(str, Enum):
    MAPPED = "mapped"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("journal.heartbeat", 3, 3.0),
        ("journal.heartbeat", "1e-3", 0.001),
        ("journal.heartbeat", np.float64(2.5), 2.5),
        ("journal.max_bytes", "1e9", 10**9),
        ("journal.path", "2024-01-01", "/nowhere/2024-01-01"),
        ("journal.writer", _Writer.MAPPED, "mapped"),
        ("instrumentation.torch.include", ["a"], ("a",)),
        ("instrumentation.torch.include", ("a", "b"), ("a", "b")),
        ("sinks.redis.uri", "", None),
        ("sinks.stop_timeout", 0, 0.0),
    ],
)
def test_small_conversions_are_made(path: str, value: Any, expected: Any) -> None:
    loaded: Any = load(None, {path: value})
    for key in path.split("."):
        loaded = getattr(loaded, key)
    assert loaded == expected
    assert type(loaded) is type(expected)


def test_a_date_and_a_lone_equals_sign_are_strings_in_a_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, "journal: {path: 2024-01-01}")).journal.path == "/nowhere/2024-01-01"
    assert load(write(tmp_path, "journal: {path: =}")).journal.path == "/nowhere/="


def test_an_alias_stands_for_the_value_of_its_anchor(tmp_path: Path) -> None:
    text = "journal: {heartbeat: &seconds 4}\nsinks: {stop_timeout: *seconds}"
    assert load(write(tmp_path, text)).sinks.stop_timeout == 4


def test_settings_cannot_be_changed_and_can_be_hashed() -> None:
    settings = load()
    with pytest.raises(AttributeError):
        settings.journal = settings.journal  # type: ignore[misc]
    assert hash(settings) == hash(load())
    assert hash(Settings()) == hash(Settings())
