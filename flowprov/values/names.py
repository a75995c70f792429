"""The names of values: how a key is written into a record, and whether it means a secret.

Flows in: keys of mappings, fields of objects. Flows out: the text of the key. Names that need no care at all,
which is nearly every one, are remembered, so that the hot path asks one set.
"""

from __future__ import annotations

from collections.abc import Container

from flowprov.values.marks import encodable
from flowprov.values.redaction import NOT_SECRET, redact_start, redact_urls, secret_level

_MAX_PLAIN = 4096


class Names:
    """Rules for names, and the names that were found to need none.

    Parameters
    ----------
    max_length
        Characters of a name that are kept.
    redact
        Whether secrets are concealed.
    """

    __slots__ = ("_max_length", "_redact", "plain")

    def __init__(self, max_length: int, *, redact: bool) -> None:
        self._max_length = max_length
        self._redact = redact
        self.plain: set[object] = set()

    def is_plain(self, key: object) -> bool:
        """Say whether a key is written as it is and never means a secret; if so it is remembered."""
        if type(key) is not str or self.written(key) is not key or self.level(key) != NOT_SECRET:
            return False
        if len(self.plain) >= _MAX_PLAIN:  # names made without end
            self.plain.clear()
        self.plain.add(key)
        return True

    def level(self, name: str) -> int:
        """Say how far a name means a secret; never, where nothing is concealed."""
        return secret_level(name) if self._redact else NOT_SECRET

    def written(self, name: str) -> str:
        """Write a name: cut, without credentials, a leading "$" doubled; the same object where it stays."""
        limit = self._max_length
        if len(name) > limit:
            name = (redact_start(name, limit) if self._redact else name[:limit]) + "…"
        elif self._redact and "://" in name:
            name = redact_urls(name)
        name = encodable(name)
        return "$" + name if name.startswith("$") else name


def free(name: str, taken: Container[str]) -> str:
    """Give a name that is not taken, so that of two keys with one text (1 and "1") both values are kept."""
    if name not in taken:
        return name
    ordinal = 2
    while f"{name}#{ordinal}" in taken:
        ordinal += 1
    return f"{name}#{ordinal}"
