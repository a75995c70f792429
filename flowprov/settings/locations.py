"""Where each value comes from, while layers are put over each other.

Flows in: the locations of values, layer by layer. Flows out: the location of a value, for reports;
``Origins``, for the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from flowprov.settings.journal_path import JOURNAL_PATH
from flowprov.settings.key_tree import KeyPath
from flowprov.settings.origins import DEFAULT, Origins, origin_in_profile
from flowprov.settings.report import SourceLocation
from flowprov.settings.schema import Settings

GIVEN_SETTINGS = "the given Settings"
"""The name of the layer that is a ``Settings``."""


class Locations:
    """The location of each value that a layer set, and of each section that stands in one.

    Parameters
    ----------
    given
        Where the values of the layer ``GIVEN_SETTINGS`` come from.
    """

    def __init__(self, given: Origins | None) -> None:
        self._given = given or Origins()
        self._values: dict[KeyPath, SourceLocation] = {}
        self._sections: dict[KeyPath, SourceLocation] = {}
        self._of_profile: set[KeyPath] = set()

    def set(self, path: KeyPath, location: SourceLocation, *, of_profile: bool) -> None:
        """Say where a value comes from, and whether that is a profile."""
        self._values[path] = location
        (self._of_profile.add if of_profile else self._of_profile.discard)(path)

    def set_section(self, path: KeyPath, location: SourceLocation) -> None:
        """Say where a section stands. It is no origin of the keys in it, which may be defaults."""
        self._sections[path] = location

    def forget(self, path: KeyPath) -> None:
        """Forget where a section comes from, and everything in it."""
        for other in [other for other in self._values if other[: len(path)] == path]:
            del self._values[other]

    def of(self, path: KeyPath) -> SourceLocation:
        """Return where the value of a key, or the nearest section around it, comes from."""
        while path:
            if location := self._values.get(path) or self._sections.get(path):
                return location
            path = path[:-1]
        return SourceLocation("defaults")

    def is_given(self, path: KeyPath) -> bool:
        """Whether a value comes from a ``Settings``."""
        return path in self._values and self._values[path].source == GIVEN_SETTINGS

    def origins(self, profile: str, values: dict[str, Any]) -> Origins:
        """Return the origins of values.

        Parameters
        ----------
        profile
            The name of the profile.
        values
            The values that were set, nested.
        """
        return Origins(profile=profile, by_key=dict(self._by_key(values)))

    def _by_key(self, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the keys that are set and their origins; the default folder too, as it is made absolute."""
        if JOURNAL_PATH not in self._values:
            yield ".".join(JOURNAL_PATH), DEFAULT
        for path, location in self._values.items():
            key = ".".join(path)
            if not self.is_given(path):
                yield key, origin_in_profile(location) if path in self._of_profile else str(location)
            elif (origin := self._given.of(key)) != DEFAULT or key in self._given.by_key:
                yield key, origin
            elif _value_at(values, path) != _value_at(_DEFAULTS, path):
                yield key, GIVEN_SETTINGS


_DEFAULTS: dict[str, Any] = msgspec.to_builtins(Settings())


def _value_at(values: Any, path: KeyPath) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return list(values) if isinstance(values, tuple) else values
