"""The rules for keys: how they are written, and which of them name a secret.

Flows in: the keys of mappings. Flows out: the same text, or one that JSON and its readers can bear.
"""

from __future__ import annotations

from collections.abc import Container

from flowprov.values.markers import escape_surrogates
from flowprov.values.redaction import NOT_SECRET, redact_start, redact_urls, secrecy_of

_MAX_SAFE_KEYS = 4096


class KeyRules:
    """The rules for keys, and a cache of those keys that are written as they are.

    Parameters
    ----------
    max_length
        Characters of a key that are kept.
    redact
        Whether secrets are concealed.

    Attributes
    ----------
    safe_keys
        The keys that are written as they are and never name a secret, as far as they were seen.
    """

    __slots__ = ("_max_length", "_redact", "safe_keys")

    def __init__(self, max_length: int, *, redact: bool) -> None:
        self._max_length = max_length
        self._redact = redact
        self.safe_keys: set[object] = set()

    def is_safe(self, key: object) -> bool:
        """Whether a key is written as it is and never names a secret; if so, it enters `safe_keys`."""
        if type(key) is not str or self.escaped_key(key) is not key or self.secrecy(key) != NOT_SECRET:
            return False
        if len(self.safe_keys) >= _MAX_SAFE_KEYS:  # a program may make new keys without end
            self.safe_keys.clear()
        self.safe_keys.add(key)
        return True

    def secrecy(self, name: str) -> int:
        """Return how far a name means a secret: `NOT_SECRET` for every name if nothing is concealed."""
        return secrecy_of(name) if self._redact else NOT_SECRET

    def escaped_key(self, name: str) -> str:
        """Return a key as it is written: cut, without credentials, a leading "$" doubled.

        A key that needs none of this is returned as the same object.
        """
        limit = self._max_length
        if len(name) > limit:
            name = (redact_start(name, limit) if self._redact else name[:limit]) + "…"
        elif self._redact and "://" in name:
            name = redact_urls(name)
        name = escape_surrogates(name)
        return "$" + name if name.startswith("$") else name


def unique_key(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken, so that of two keys with one text (1 and "1") no value is lost."""
    if name not in taken:
        return name
    ordinal = 2
    while f"{name}#{ordinal}" in taken:
        ordinal += 1
    return f"{name}#{ordinal}"
