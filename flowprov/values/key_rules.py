"""The rules for keys: how they are written, and which of them name a secret.

Flows in: the keys of mappings, and lists whose items name each other. Flows out: the same text, or one that
JSON and its readers can bear; and which items are hidden.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import JSONable, escape_surrogates
from flowprov.values.redaction import Redactor
from flowprov.values.secret_forms import MIN_LENGTH
from flowprov.values.secret_names import NOT_SECRET, SECRET, TOKEN_LIKE

MAX_SAFE_KEYS = 4096
_MAX_NAME = 200  # bytes of a name that are looked at
_PAIR = 2  # items: a name and a value
_encode = msgspec.json.Encoder().encode


class KeyRules:
    """The rules for keys, and a cache of those keys that are written as they are.

    Parameters
    ----------
    max_length
        Characters of a key that are kept.
    redactor
        Conceals secrets.

    Attributes
    ----------
    safe_keys
        The keys that are written as they are and never name a secret, as far as they were seen.
    learned
        How many entered it, up to its size: a program that makes new keys without end learns nothing by them.
    """

    __slots__ = ("_max_length", "_redactor", "learned", "safe_keys")

    def __init__(self, max_length: int, redactor: Redactor) -> None:
        self._max_length = max_length
        self._redactor = redactor
        self.safe_keys: set[object] = set()
        self.learned = 0

    def is_safe(self, key: object) -> bool:
        """Whether a short key is written as it is and names no secret; if so, it enters `safe_keys`."""
        if type(key) is not str or len(key) > self._max_length:
            return False
        if self.escaped_key(key) is not key or self.secrecy(key) != NOT_SECRET:
            return False
        if len(_encode(key)) > self._max_length + 2:  # such keys are counted one by one
            return False
        if len(self.safe_keys) >= MAX_SAFE_KEYS:  # a program may make new keys without end
            self.safe_keys.clear()
        self.safe_keys.add(key)
        self.learned = min(self.learned + 1, MAX_SAFE_KEYS)
        return True

    def secrecy(self, name: str) -> int:
        """Return how far a name means a secret: `NOT_SECRET` for every name if nothing is concealed."""
        return self._redactor.secrecy(name)

    def escaped_key(self, name: str) -> str:
        """Return a key as it is written: cut, without secrets in it, a leading "$" doubled.

        A key that needs none of this is returned as the same object.
        """
        limit = self._max_length
        name = self._redactor.start(name, limit) + "…" if len(name) > limit else self._redactor.text(name)
        name = escape_surrogates(name)
        return "$" + name if name.startswith("$") else name

    def hide_in_list(self, items: Sequence[object]) -> Sequence[object]:
        """Return the items of a list, with `HIDDEN` for those that the item before names as a secret.

        These are pairs, as of headers: ``("Authorization", "Bearer x")``; and arguments of commands:
        ``["--password", "x"]``.
        """
        if len(items) == _PAIR:
            is_named = _is_text(items[0]) and self._is_secret_pair(key_name(items[0]), items[1])
            secret = [1] if is_named else []
        else:
            secret = [
                position
                for position, item in enumerate(items[:-1], 1)
                if _begins_with_hyphen(item) and self._is_secret_option(item)
            ]
        if not secret:
            return items
        return [HIDDEN if position in secret else item for position, item in enumerate(items)]

    def hide_named_value(self, entries: dict[str, JSONable]) -> None:
        """Hide a value that the entry beside it names: ``{"name": "Authorization", "value": "Bearer x"}``."""
        if "value" in entries:
            self._hide_value(entries, "name", "key", "value")
        if "Value" in entries:
            self._hide_value(entries, "Name", "Key", "Value")
        if "VALUE" in entries:
            self._hide_value(entries, "NAME", "KEY", "VALUE")

    def _hide_value(self, entries: dict[str, JSONable], name: str, key: str, value: str) -> None:
        if type(label := entries.get(name) or entries.get(key)) is str:
            secrecy, is_number = self.secrecy(label), isinstance(entries[value], (int, float, type(None)))
            if secrecy in (TOKEN_LIKE, SECRET) and not is_number:
                entries[value] = {"$redacted": True}

    def _is_secret_option(self, item: object) -> bool:
        name = key_name(item)
        return name.startswith("-") and "=" not in name and self.secrecy(name) != NOT_SECRET

    def _is_secret_pair(self, name: str, value: object) -> bool:
        secrecy = self.secrecy(name)
        if secrecy == TOKEN_LIKE and type(value) is str and value.isalpha() and len(value) < MIN_LENGTH:
            return False  # ("token", "label") are two columns
        return secrecy in (TOKEN_LIKE, SECRET) and _is_text(value)


def _begins_with_hyphen(value: object) -> bool:
    cls = type(value)
    return (cls is str and value[:1] == "-") or (cls is bytes and value[:1] == b"-")  # type: ignore[index]


def _is_text(value: object) -> bool:
    cls = type(value)  # compared by identity: `==` may be code of its metaclass
    return cls is str or cls is bytes


def key_name(key: object) -> str:
    """Return the text by which a key is rated: bytes are a name too, as the headers of a server are."""
    if type(key) is bytes:
        return key[:_MAX_NAME].decode("latin-1")
    return key if type(key) is str else ""


def unique_key(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken, so that of two keys with one text (1 and "1") no value is lost."""
    if name not in taken:
        return name
    ordinal = 2
    while f"{name}#{ordinal}" in taken:
        ordinal += 1
    return f"{name}#{ordinal}"
