"""The keys of the settings, read from the structs: the one place from which everything about them is made.

Flows in: the structs. Flows out: a ``FieldSpec`` for each key. ``validation`` checks values by it;
``settings.yaml``, the reference, the JSON Schema and ``flowprov settings explain`` are made from it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

from flowprov.settings.schema import Settings
from flowprov.settings.section import Key, Section

KeyPath: TypeAlias = tuple[str, ...]
NOT_OFF: Final = object()
"""Stands for the value that switches a key off, where none does."""
_OFF = "off"


class FieldSpec(NamedTuple):
    """One key of a section.

    Attributes
    ----------
    type_hint
        The type of its value.
    section
        The class of the section that is its value; None if the value is no section.
    optional
        Whether the value may be None.
    key
        What a person is told of it.
    default
        Its value where nothing sets it.
    """

    type_hint: Any
    section: type[Section] | None
    optional: bool
    key: Key
    default: Any

    def off_value(self) -> Any:
        """Return the value that a null stands for; ``NOT_OFF`` if a null is a mistake."""
        if self.optional:
            return None
        if self.key.off_in_words or self.section is not None:
            return NOT_OFF
        if self.type_hint is bool:
            return False
        if isinstance(self.default, tuple):
            return ()
        return _OFF if _OFF in literal_choices(self.type_hint) else NOT_OFF

    def can_be_off(self) -> bool:
        """Whether a null switches the key off."""
        if self.section is not None and not self.optional:
            return bool(self.section.when_null)
        return self.off_value() is not NOT_OFF


@functools.cache
def fields(section: type[Section]) -> dict[str, FieldSpec]:
    """Return the keys of a section, from its class."""
    defaults = section()
    specs = {}
    for name in section.key_names():
        annotation = section.__annotations__[name]
        key = next(part for part in reversed(annotation.__metadata__) if isinstance(part, Key))
        type_hint = _without_key(annotation)
        options = get_args(type_hint) or (type_hint,)
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        specs[name] = FieldSpec(type_hint, inner, types.NoneType in options, key, getattr(defaults, name))
    return specs


def _without_key(annotation: Any) -> Any:
    """Return the type of a field. What is left of its metadata describes the type."""
    type_hint = annotation.__origin__
    for part in annotation.__metadata__:
        if not isinstance(part, Key):
            type_hint = Annotated[type_hint, part]
    return type_hint


@functools.cache
def all_paths() -> tuple[KeyPath, ...]:
    """Return the path of every key of the tree, sections included."""
    return tuple(path for path, _ in all_keys())


@functools.cache
def all_keys() -> tuple[tuple[KeyPath, FieldSpec], ...]:
    """Return every key of the tree with its path, a section before what is in it."""

    def walk(section: type[Section], prefix: KeyPath) -> Iterator[tuple[KeyPath, FieldSpec]]:
        for name, spec in fields(section).items():
            yield (*prefix, name), spec
            if spec.section is not None:
                yield from walk(spec.section, (*prefix, name))

    return tuple(walk(Settings, ()))


def literal_choices(type_hint: Any) -> list[str]:
    """Return the words that a type allows, as text."""
    if get_origin(type_hint) is Literal:
        return [str(choice) for choice in get_args(type_hint)]
    if get_origin(type_hint) in (Union, types.UnionType):
        return [choice for option in get_args(type_hint) for choice in literal_choices(option)]
    return []
