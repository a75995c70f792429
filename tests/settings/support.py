"""Helpers that the tests of the settings share: a loader that sees nothing of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowprov.errors import SettingsError
from flowprov.settings import Settings, load_settings

NOWHERE = Path("/nowhere")


def load(
    source: Any = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path = NOWHERE,
) -> Settings:
    """Load with an empty environment and an empty current folder."""
    return load_settings(source, overrides, environ=environ or {}, cwd=cwd)


def error_report(source: Any = None, overrides: Mapping[str, Any] | None = None, **sources: Any) -> str:
    """Load wrong settings and return the report."""
    with pytest.raises(SettingsError) as raised:
        load(source, overrides, **sources)
    return str(raised.value)


def write(folder: Path, text: str, name: str = "settings.yaml") -> Path:
    """Write a file of settings."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
