"""Where the values of settings come from.

Flows in: the sources of values, while settings are loaded. Flows out: ``Origins``, which travel with the
settings to child processes and into the record of a workflow.
"""

from __future__ import annotations

import msgspec

DEFAULT_PROFILE = "cpu_only"
DEFAULT = "default"
_PROFILE = "profile "


class Origins(msgspec.Struct, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """The profile of settings, and the origin of each value that is set. All are equal, as only values count.

    Attributes
    ----------
    profile
        The name of the profile.
    by_key
        By dotted key: a file with the line, a variable, ``override``, or ``profile`` and its name. What is
        not in it is a default.
    """

    profile: str = DEFAULT_PROFILE
    by_key: dict[str, str] = {}

    def __eq__(self, other: object) -> bool:
        return other is msgspec.UNSET or isinstance(other, Origins)

    def __hash__(self) -> int:
        return hash(msgspec.UNSET)

    def of(self, key: str) -> str:
        """Return the origin of a dotted key, or of the section that was set as a whole."""
        while key:
            if key in self.by_key:
                return self.by_key[key]
            key = key.rpartition(".")[0]
        return DEFAULT


def origin_in_profile(location: object) -> str:
    """Return the origin of a value that stands somewhere in a profile."""
    return f"{_PROFILE}{location}"


def is_of_profile(origin: str) -> bool:
    """Whether an origin is a profile."""
    return origin.startswith(_PROFILE)
