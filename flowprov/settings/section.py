"""Sections of the settings, and what a person is told of their keys.

Flows in: nothing. Flows out: ``Section``, the base of all structs of the tree, and ``Key``, which stands in
the annotation of each field. What is said of a key is said there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from flowprov.settings.redaction import redact_text, redact_uri


class Key(NamedTuple):
    """What a person is told of a key, besides its type and its default.

    Attributes
    ----------
    meaning
        One sentence.
    details
        What else is worth knowing.
    choices
        What each value means, where there are a few.
    expert
        Whether most people never need it.
    off_in_words
        Whether it is switched off only by an explicit ``false``: a null is no more than an empty line, and
        an empty line must not lose records or show secrets.
    example
        A value for an example, where the default says nothing.
    """

    meaning: str
    details: str = ""
    choices: Mapping[str, str] = {}
    expert: bool = False
    off_in_words: bool = False
    example: Any = None


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections of the tree: immutable, strict, and without credentials in their repr."""

    when_null: ClassVar[Mapping[str, Any] | None] = {}
    """The values that a null instead of this section stands for; None if a null is a mistake."""

    @classmethod
    def key_names(cls) -> tuple[str, ...]:
        """Return the names of the keys of the section."""
        return cls.__struct_fields__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields for a repr, with credentials concealed."""
        return [(name, public_value(name, getattr(self, name))) for name in self.key_names()]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"


def changed_keys(section: Section, usual: Section, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a section, without sections, whose values differ from those of another one."""
    for name in section.key_names():
        value, usual_value = getattr(section, name), getattr(usual, name)
        if isinstance(value, Section):
            inner = usual_value if isinstance(usual_value, Section) else type(value)()
            yield from changed_keys(value, inner, f"{prefix}{name}.")
        elif value != usual_value:
            yield prefix + name


def public_value(name: str, value: Any) -> Any:
    """Return a value without credentials: somebody may have put an address where none belongs."""
    if isinstance(value, str):
        return redact_uri(value) if name == "uri" else redact_text(value)
    if isinstance(value, dict):
        return {key: public_value(key, one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(public_value(name, one) for one in value)
    return value
