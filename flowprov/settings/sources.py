"""The nodes of settings: unchecked values, with the lines on which they stand.

Flows in: mappings and overrides (those of files come from ``yaml_text``). Flows out: ``SourceNode`` values,
each with its entries or its Python value. The reader of a node goes down one level at a time, and only as
deep as the tree of settings, so that cycles and piles of aliases cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from flowprov.settings.section import Section

VERSION_KEY = "flowprov"
PROFILE_KEY = "profile"


class SourceNode(Protocol):
    """One value of a source, unchecked."""

    @property
    def line(self) -> int | None:
        """The line on which it begins, from 1; None outside files."""

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries of a mapping, duplicates included; None if it is no mapping."""

    def to_python(self) -> Any:
        """Return the Python value. In a list, a mapping or list may be returned empty."""


class MappingEntry(NamedTuple):
    """One key with its value."""

    key: Any
    line: int | None
    value: SourceNode


class Layer(NamedTuple):
    """One source of settings; a later layer goes above an earlier one.

    Attributes
    ----------
    node
        A mapping with the keys of the top level.
    source
        Its name in reports.
    is_file
        Whether it is a file, or is read like one: variables in its values are replaced, it may have the
        version key ``flowprov: 1``, and it may be empty.
    is_profile
        Whether it is a profile, or a part of one.
    """

    node: SourceNode
    source: str
    is_file: bool = False
    is_profile: bool = False


class PythonNode:
    """A Python value: a mapping, a section of the tree, or anything else."""

    def __init__(self, value: Any, line: int | None = None) -> None:
        self._value = value
        self.line = line

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries of a mapping or the fields of a section."""
        if isinstance(self._value, Section):
            names = self._value.key_names()
            return [self._entry(name, getattr(self._value, name)) for name in names]
        if isinstance(self._value, Mapping):
            return [self._entry(key, value) for key, value in self._value.items()]
        return None

    def to_python(self) -> Any:
        """Return the value as it is."""
        return self._value

    def _entry(self, key: Any, value: Any) -> MappingEntry:
        # All stand on one line: that of the mapping, if it has one. A second key of that name is no mistake.
        return MappingEntry(key, None, PythonNode(value, self.line))


class OverrideNode(PythonNode):
    """A mapping of overrides. At every level, its keys may be dotted or joined by double underscores."""

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries under the first part of each key; the other parts are nested below it."""
        if not isinstance(self._value, Mapping):
            return super().entries()
        entries = []
        for key, value in self._value.items():
            first, *rest = re.split(r"\.|__", key) if isinstance(key, str) else [key]
            entries.append(MappingEntry(first, None, OverrideNode(nest(rest, value))))
        return entries


def nest(path: Sequence[Any], value: Any) -> Any:
    """Return a value wrapped into mappings, one for each key of its path."""
    for key in reversed(path):
        value = {key: value}
    return value
