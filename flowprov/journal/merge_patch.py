"""What changed between two samples of telemetry: most numbers stand still from one to the next.

Flows in: nested readings. Flows out: a JSON Merge Patch (RFC 7396): nested names are merged, null takes a
name away, anything else takes the place of what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Give the patch that makes ``after`` of ``before``; a null inside ``after`` would read as missing."""
    patch: dict[str, Any] = {}
    for name, value in after.items():
        known = before.get(name)
        if value.__class__ is dict and known.__class__ is dict:
            if inner := diff(known, value):
                patch[name] = inner
        elif value != known or name not in before:
            patch[name] = value
    for name in before.keys() - after.keys():
        patch[name] = None
    return patch


def apply(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a patch makes of readings, which stay as they are."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, Mapping):
            known = after.get(name)
            after[name] = apply(known if isinstance(known, Mapping) else {}, value)
        else:
            after[name] = value
    return after
