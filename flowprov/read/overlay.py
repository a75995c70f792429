"""Put records of one task or workflow on top of each other.

Flows in: a record, and others with what became known of the same item. Flows out: one record with the fields
of all. Each further record costs as much as it holds, however many came before it.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

MERGED_FIELDS = ("used", "generated", "custom_metadata")
"""The fields with mappings, which are merged name by name."""

R = TypeVar("R", bound=msgspec.Struct)


class Overlay(Generic[R]):
    """One record, with the fields of others above it or below it.

    Parameters
    ----------
    record
        The record that is there already.
    """

    def __init__(self, record: R) -> None:
        self._record = record
        self._changed: dict[str, Any] = {}
        self._mappings: dict[str, dict[str, Any]] = {}  # those of _changed that are nobody else's
        self._tags: list[str] | None = None
        self._known_tags: set[str] = set()

    def get(self, name: str) -> Any:
        """Return the present value of a field."""
        return self._changed[name] if name in self._changed else getattr(self._record, name)

    def set(self, name: str, value: object) -> None:
        """Replace the value of a field."""
        self._changed[name] = value
        self._mappings.pop(name, None)

    def add(self, above: msgspec.Struct, *, join_tags: bool = False) -> None:
        """Put the fields of another record above those that are there.

        Parameters
        ----------
        above
            The other record. What is None in it is not known there; names in mappings go above earlier ones.
        join_tags
            Whether its tags come to those that are there, and do not replace them.
        """
        for name in above.__struct_fields__:
            value = getattr(above, name)
            if value is None or name == "task_id":  # both have the same full id
                continue
            if name in MERGED_FIELDS and self.get(name):
                self._mapping(name).update(value)
            elif name == "tags" and join_tags:
                self._join_tags(value)
            else:
                self.set(name, value)

    def add_below(self, below: msgspec.Struct) -> None:
        """Put the fields of another record below those that are there: they fill what is not known."""
        for name in below.__struct_fields__:
            value = getattr(below, name)
            if value is None:
                continue
            if name in MERGED_FIELDS and self.get(name):
                mapping = self._mapping(name)
                for key, content in value.items():
                    mapping.setdefault(key, content)
            elif self.get(name) is None:
                self.set(name, value)

    def _join_tags(self, tags: list[str]) -> None:
        if self._tags is None:
            self._tags = list(self.get("tags") or ())
            self._known_tags.update(self._tags)
        self._tags += [tag for tag in dict.fromkeys(tags) if tag not in self._known_tags]
        self._known_tags.update(tags)

    def _mapping(self, name: str) -> dict[str, Any]:
        if name not in self._mappings:
            self._changed[name] = self._mappings[name] = dict(self.get(name))
        return self._mappings[name]

    def result(self) -> R:
        """Return the record; further additions do not change it."""
        self._mappings.clear()
        tags = {} if self._tags is None else {"tags": [*self._tags]}
        return msgspec.structs.replace(self._record, **self._changed, **tags)


def fill_missing(below: Any, above: Any) -> Any:
    """Return ``above`` with the keys that only ``below`` has, in nested mappings too.

    A model's profile grows in this way.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return below if above is None else above
    return {**below, **{key: fill_missing(below.get(key), value) for key, value in above.items()}}
