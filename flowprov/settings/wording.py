"""What is said to a person about types and wrong values: what was expected, and what was probably meant.

Flows in: types of keys, values, wrong keys. Flows out: parts of sentences.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from flowprov.settings.key_tree import KeyPath, all_paths, literal_choices
from flowprov.settings.report import closest, describe_value, join_path
from flowprov.settings.section import Section


def describe_type(type_hint: Any) -> str:
    """Return a description of a type for a person who writes settings, to be put behind "expected"."""
    origin = get_origin(type_hint)
    if origin is Annotated:
        metas = (meta for meta in type_hint.__metadata__ if isinstance(meta, msgspec.Meta))
        description = next((meta.description for meta in metas if meta.description), None)
        return description or describe_type(get_args(type_hint)[0])
    if origin is Literal:
        choices = [str(choice) for choice in get_args(type_hint)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in get_args(type_hint))
    if origin is tuple:
        return "a list of strings, as in [first, second]"
    return {bool: "true or false", types.NoneType: "~", str: "a string"}.get(type_hint, str(type_hint))


def value_hint(type_hint: Any, value: Any) -> str:
    """Return how to mend a value of a wrong type; empty if nothing is known."""
    if isinstance(value, str):
        choice = closest(value, literal_choices(type_hint))
        return f'did you mean "{choice}"?' if choice else ""
    if get_origin(type_hint) is tuple and isinstance(value, (list, tuple)):
        item = next((item for item in value if not isinstance(item, str)), "")
        return "; ".join(filter(None, (f"{describe_value(item)} in it is no string", quotes_hint(item))))
    return quotes_hint(value) if "string" in describe_type(type_hint) else ""


def quotes_hint(value: Any) -> str:
    """Return that a word should stand in quotes, if that is what is missing."""
    if isinstance(value, bool):
        return "YAML reads on, off, yes and no as true and false: put the word in quotes"
    return "put it in quotes" if isinstance(value, (int, float)) else ""


def unknown_key_hint(section: type[Section], path: KeyPath, key: str) -> str:
    """Return which key a wrong one in a section probably means, or which keys there are."""
    names = section.key_names()
    name, colon, _ = key.partition(":")
    if colon and name in names:
        return f'put a space after "{name}:"'
    sibling = closest(key, names)
    if sibling is not None:
        return f'did you mean "{join_path((*path, sibling))}"?'
    path_of: Mapping[str, KeyPath] = {other[-1]: other for other in reversed(all_paths())}
    key_elsewhere = closest(key, path_of, cutoff=0.8)
    if key_elsewhere is not None:
        return f'did you mean "{join_path(path_of[key_elsewhere])}"?'
    if key == "<<":
        return "merge keys are not supported here: write the keys out"
    return f"the keys here are {', '.join(names)}"
