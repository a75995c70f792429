"""The settings in force in this process, for the reading side, which may not import the runtime.

Flows in: the settings that the runtime uses. Flows out: the same settings; None if nothing was recorded yet.
"""

from __future__ import annotations

from flowprov.settings.schema import Settings

_active: Settings | None = None


def set_active_settings(settings: Settings | None) -> None:
    """Set the settings in force; None: there are none any more."""
    global _active  # noqa: PLW0603 - one slot per process
    _active = settings


def active_settings() -> Settings | None:
    """Return the settings with which this process records, None if it does not record yet."""
    return _active
