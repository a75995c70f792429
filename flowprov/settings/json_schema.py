"""The JSON Schema of a settings file, with which editors complete and check it.

Flows in: the keys. Flows out: a schema. It is looser than the loader: what may be a variable of the
environment is a text there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.settings.key_tree import FieldSpec, fields
from flowprov.settings.profiles import PROFILES
from flowprov.settings.schema import Settings
from flowprov.settings.section import Section
from flowprov.settings.sources import PROFILE_KEY, VERSION_KEY

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NULL = {"type": "null"}


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of a settings file."""
    tree = _section_schema(Settings)
    own_profile = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "extends": {"type": "string", "description": "The profile that it extends."},
            "name": {"type": "string", "description": "Its name in records."},
            "description": {"type": "string"},
            **{name: {"$ref": f"#/properties/{name}"} for name in tree["properties"]},
        },
    }
    profile = {
        "description": "What the keys that are not set here have.",
        "anyOf": [{"enum": list(PROFILES)}, {"type": "string", "pattern": r"/|\.ya?ml$"}, own_profile],
    }
    mark = {"description": "Marks the file as flowprov's: keep it as the first key.", "const": 1}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The settings of flowprov",
        **tree,
        "properties": {VERSION_KEY: mark, PROFILE_KEY: profile, **tree["properties"]},
    }


def _section_schema(section: type[Section]) -> dict[str, Any]:
    properties = {name: _key_schema(spec) for name, spec in fields(section).items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _key_schema(spec: FieldSpec) -> dict[str, Any]:
    choices = [f"{choice}: {meaning}" for choice, meaning in spec.key.choices.items()]
    description = "\n".join(filter(None, [f"{spec.key.meaning} {spec.key.details}".strip(), *choices]))
    if spec.section is not None:
        kinds = [_section_schema(spec.section)]
        return {"description": description, "anyOf": [*kinds, *([_NULL] if spec.can_be_off() else [])]}
    value = msgspec.json.schema(spec.type_hint)
    value.pop("description", None)
    kinds = [value, *([_NULL] if spec.can_be_off() and not spec.optional else []), _VARIABLE]
    default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return {"description": description, "default": default, "anyOf": kinds}
