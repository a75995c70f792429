"""The settings: one tree of frozen structs, loaded once and passed as an argument.

Flows in: ``settings.yaml``, the environment, overrides. Flows out: ``Settings``. Importing reads nothing.
"""

from __future__ import annotations

from flowprov.settings.loading import load_settings, parse_assignment
from flowprov.settings.redaction import redact_text, redact_uri
from flowprov.settings.tree import (
    DaskSettings,
    InstrumentationSettings,
    JournalSettings,
    MongoDBSettings,
    PrivacySettings,
    RedisSettings,
    Settings,
    SinkSettings,
    TelemetrySettings,
    TorchSettings,
    settings_from_json,
    settings_to_json,
)

__all__ = [
    "DaskSettings",
    "InstrumentationSettings",
    "JournalSettings",
    "MongoDBSettings",
    "PrivacySettings",
    "RedisSettings",
    "Settings",
    "SinkSettings",
    "TelemetrySettings",
    "TorchSettings",
    "load_settings",
    "parse_assignment",
    "redact_text",
    "redact_uri",
    "settings_from_json",
    "settings_to_json",
]
