"""The settings: one tree of frozen structs, loaded once and passed as an argument.

Flows in: ``settings.yaml``, the environment, overrides. Flows out: ``Settings``. The import reads none of
them.
"""

from __future__ import annotations

from flowprov.settings.active import active_settings, set_active_settings
from flowprov.settings.inspection import warn_of_findings
from flowprov.settings.loader import load_settings, parse_assignment
from flowprov.settings.paths import expand_existing, fallback_folder
from flowprov.settings.redaction import (
    is_ambiguous_uri,
    leads_elsewhere,
    redact_source,
    redact_text,
    redact_uri,
)
from flowprov.settings.schema import (
    ArtifactsSettings,
    DaskSettings,
    InstrumentationSettings,
    JournalSettings,
    MLflowSettings,
    MongoDBSettings,
    PrivacySettings,
    RedisSettings,
    Settings,
    SinkSettings,
    TelemetrySettings,
    TorchSettings,
    ValuesSettings,
    VersionSettings,
    settings_from_json,
    settings_to_json,
)
from flowprov.settings.switch import disabled_by_environment

__all__ = [
    "ArtifactsSettings",
    "DaskSettings",
    "InstrumentationSettings",
    "JournalSettings",
    "MLflowSettings",
    "MongoDBSettings",
    "PrivacySettings",
    "RedisSettings",
    "Settings",
    "SinkSettings",
    "TelemetrySettings",
    "TorchSettings",
    "ValuesSettings",
    "VersionSettings",
    "active_settings",
    "disabled_by_environment",
    "expand_existing",
    "fallback_folder",
    "is_ambiguous_uri",
    "leads_elsewhere",
    "load_settings",
    "parse_assignment",
    "redact_source",
    "redact_text",
    "redact_uri",
    "set_active_settings",
    "settings_from_json",
    "settings_to_json",
    "warn_of_findings",
]
