"""One record in full.

Flows in: a run, a task or a workflow. Flows out: its fields, as JSON, or one below the other with its
traceback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flowprov.read.answers.items import Item
from flowprov.read.frames import to_dicts
from flowprov.read.labels import format_duration

_CODE = ("commit", "branch", "describe", "dirty", "changed", "untracked", "state", "reason")
_DATA = ("path", "md5", "state", "reason")
_LAST = ("machine_info", "settings", "telemetry_at_start", "telemetry_at_end")  # the long ones


def record_fields(item: Item) -> dict[str, Any]:
    """Return what is known of an item: what it is, the columns of its row, its last metrics."""
    record = item.task if item.task is not None else item.workflows[-1] if item.workflows else None
    row = {} if record is None else to_dicts([record])[0]
    long = {name: row.pop(name) for name in _LAST if name in row}
    metrics = {value.name: value.value for value in item.values}  # the last of each
    own = {"kind": item.kind, "id": item.id, **row, "name": item.name, "version": _version(item)}
    fields = {**own, **long, "metrics": metrics}
    return {name: value for name, value in fields.items() if not _is_empty(value)}


def _version(item: Item) -> dict[str, Any]:
    """Return on which code and data a workflow began, and what had moved at its end."""
    if item.task is not None or not item.workflows:
        return {}
    found = {}
    for kept in item.contents.versions.get(item.workflows[-1].workflow_id, ()):
        record, code = kept.record, kept.record.code or {}
        told = {name: code.get(name) for name in _CODE if code.get(name) is not None}
        if code and code.get("dirty") is None:
            told["dirty"] = "unknown"
        data = [{name: one[name] for name in _DATA if one.get(name) is not None} for one in record.data or ()]
        found[record.moment] = {**told, **({"data": data} if data else {})}
    return found


def record_lines(item: Item) -> list[str]:
    """Return the lines for people."""
    fields = record_fields(item)
    error = fields.pop("error", None)
    kind, key, name = fields.pop("kind"), fields.pop("id"), fields.pop("name", "")
    lines = [f"{kind}  {name}  {key}"]
    for field, value in fields.items():
        lines += _field(field, value)
    return [*lines, *_error(error)]


def _is_empty(value: Any) -> bool:
    return value is None or value in ({}, [])


def _field(name: str, value: Any) -> list[str]:
    if name == "duration":
        value = format_duration(value)
    if isinstance(value, (dict, list)):
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        return [f"  {name}", *(f"    {line}" for line in text.splitlines())]
    return [f"  {name}  {value}"]


def _error(error: dict[str, Any] | None) -> Iterator[str]:
    if error is not None:
        yield f"  error  {error['type']}: {error['message']}"
        for line in (error["traceback"] or "").splitlines():
            yield f"    {line}"
