"""The settings in force in this process, for readers: they do not know the runtime.

Flows in: the settings that the runtime took. Flows out: the same settings; None where nothing was recorded.
"""

from __future__ import annotations

from flowprov.settings.schema import Settings

_active: Settings | None = None


def set_active_settings(settings: Settings | None) -> None:
    """Note the settings in force; None: there are none any more."""
    global _active  # noqa: PLW0603 - one note of this process
    _active = settings


def active_settings() -> Settings | None:
    """Return the settings with which this process records, None if it has not begun to."""
    return _active
