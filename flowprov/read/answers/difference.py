"""What differs between two items.

Flows in: two items. Flows out: a :class:`Difference`, to print, as a dictionary, or as HTML.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

from flowprov.display import printable
from flowprov.read.answers.items import Item
from flowprov.read.answers.series import Value, summary_of
from flowprov.read.labels import format_duration
from flowprov.read.value_paths import value_paths

_MAX_SHOWN = 60  # characters of a value in a table
_PARTS = ("params", "settings", "code", "environment", "metrics", "durations")


class Difference:
    """What differs between two runs, tasks, workflows or campaigns.

    Printed, it is a table; in a notebook it is one, too. What is equal is left out.
    """

    def __init__(self, a: Item, b: Item) -> None:
        self._items = a, b
        self._parts: dict[str, dict[str, Any]] = {
            "params": _pairs(dict(value_paths(a.used)), dict(value_paths(b.used))),
            "settings": _pairs(_settings(a), _settings(b)),
            "code": _pairs(_of_workflow(a, "code_repository"), _of_workflow(b, "code_repository")),
            "environment": _pairs(_environment(a), _environment(b)),
            "metrics": _metrics(a.values, b.values),
            "durations": _pairs({"duration": a.seconds}, {"duration": b.seconds}),
        }

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return what differs.

        Returns
        -------
        dict
            ``params``, ``settings``, ``code``, ``environment``, ``metrics`` and ``durations`` (seconds). A
            leaf is ``[a, b]``, None for what only the other one has; nested names are joined by dots. Each
            metric is ``{last, min, max, parts_at}``: the last values, the smallest, the largest, and the
            first step at which the two differ.
        """
        return {name: self._parts[name] for name in _PARTS if self._parts[name]}

    def __bool__(self) -> bool:
        return any(self._parts.values())

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def lines(self) -> list[str]:
        """Return the table as lines of text."""
        rows = [("", *map(_title, self._items)), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return lines if self else [*lines, "nothing that is recorded of them differs"]

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        heads = "".join(f"<th>{html.escape(text)}</th>" for text in ("", *map(_title, self._items)))
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        for part, differences in self.to_dict().items():
            for name, pair in differences.items():
                label = printable(f"{part}.{name}")
                if isinstance(pair, list):
                    shown = format_duration if part == "durations" else _text
                    first, second = ("-" if one is None else shown(one) for one in pair)
                    yield label, first, second
                    continue
                for kind, values in pair.items():
                    if kind == "parts_at":
                        yield f"{label} parts at step", str(values), ""
                    else:
                        yield f"{label} {kind}", _text(values[0]), _text(values[1])


def _title(item: Item) -> str:
    return printable(" ".join(filter(None, [item.kind, item.name, item.id])))


def _text(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return printable(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…")


def _of_workflow(item: Item, field: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for workflow in item.workflows:
        found.update(value_paths(getattr(workflow, field) or {}))
    return found


def _settings(item: Item) -> dict[str, Any]:
    """Return the settings of an item; where they come from is no difference."""
    found = _of_workflow(item, "settings")
    return {name: value for name, value in found.items() if not name.startswith("origins.")}


def _environment(item: Item) -> dict[str, Any]:
    found = _of_workflow(item, "machine_info")
    for workflow in item.workflows:
        found |= {
            "environment_id": workflow.environment_id,
            "user": workflow.user,
            "hostname": workflow.hostname,
        }
    return found


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    names = [*a, *(name for name in b if name not in a)]
    return {name: [a.get(name), b.get(name)] for name in names if not _same(a.get(name), b.get(name))}


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else a == b


def _metrics(a: Iterable[Value], b: Iterable[Value]) -> dict[str, Any]:
    ours, theirs = _by_name(a), _by_name(b)
    found: dict[str, Any] = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        first, second = ours.get(name, {}), theirs.get(name, {})
        steps = sorted({*first, *second})
        parts_at = next((step for step in steps if not _same(first.get(step), second.get(step))), None)
        if parts_at is not None:
            summaries = _summary(first), _summary(second)
            found[name] = {kind: [one[kind] for one in summaries] for kind in ("last", "min", "max")}
            found[name]["parts_at"] = parts_at
    return found


def _by_name(values: Iterable[Value]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for value in values:
        found.setdefault(value.name, {})[value.step] = value.value
    return found


def _summary(series: Mapping[int, float]) -> Mapping[str, float | None]:
    if not series:
        return dict.fromkeys(("last", "min", "max"))
    return summary_of([series[step] for step in sorted(series)])
