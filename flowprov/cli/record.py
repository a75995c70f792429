"""One record in full, as text.

Flows in: a run, a task or a workflow. Flows out: its fields, one below the other, and its traceback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flowprov.read.answers.items import Item
from flowprov.read.frames import to_dicts
from flowprov.read.labels import format_duration

_LAST = ("machine_info", "settings", "telemetry_at_start", "telemetry_at_end")  # the long ones


def record_lines(item: Item) -> list[str]:
    """Return the lines."""
    record = item.task if item.task is not None else item.workflows[-1] if item.workflows else None
    lines = [f"{item.kind}  {item.name or ''}  {item.id}"]
    if record is None:
        return lines
    (fields,) = to_dicts([record])
    error = fields.pop("error")
    names = [*(name for name in fields if name not in _LAST), *_LAST]
    for name in names:
        lines += _field(name, fields[name])
    metrics = {value.name: value.value for value in item.values}  # the last of each
    lines += _field("metrics", metrics)
    return [*lines, *_error(error)]


def _field(name: str, value: Any) -> list[str]:
    if value is None or value in ({}, []):
        return []
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
