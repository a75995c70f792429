"""JSON Merge Patch (RFC 7396) between two samples of telemetry: most numbers do not change between them.

Flows in: nested readings. Flows out: a patch. A patch merges nested objects, removes a name by null, and
replaces every other value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that turns ``before`` into ``after``; a null in ``after`` would read as missing."""
    patch: dict[str, Any] = {}
    for name, value in after.items():
        earlier = before.get(name)
        if value.__class__ is dict and earlier.__class__ is dict:
            if inner := diff(earlier, value):
                patch[name] = inner
        elif value != earlier or name not in before:
            patch[name] = value
    for name in before.keys() - after.keys():
        patch[name] = None
    return patch


def apply(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return readings with a patch applied; the input is not changed."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, Mapping):
            earlier = after.get(name)
            after[name] = apply(earlier if isinstance(earlier, Mapping) else {}, value)
        else:
            after[name] = value
    return after


def names_copied(before: Mapping[str, Any], patch: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many names :func:`apply` copies from the readings, and how many the patch has."""
    copied, own = len(before), len(patch)
    for name, value in patch.items():
        if isinstance(value, Mapping):
            earlier = before.get(name)
            inner = names_copied(earlier if isinstance(earlier, Mapping) else {}, value)
            copied, own = copied + inner[0], own + inner[1]
    return copied, own
