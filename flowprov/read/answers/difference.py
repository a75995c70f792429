"""What differs between two items.

Flows in: two items. Flows out: a :class:`Difference`, to print, as a dictionary, or as HTML.
"""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowprov.display import cut_apart, printable
from flowprov.errors import UsageError
from flowprov.read.answers.changed_files import changed_files
from flowprov.read.answers.compared_artifacts import inputs_that_differ, weights_that_differ
from flowprov.read.answers.forwards import first_difference
from flowprov.read.answers.items import Item
from flowprov.read.answers.kept_versions import KeptVersion, version_at_start
from flowprov.read.answers.phases import phases_that_differ
from flowprov.read.answers.series import Value, summary_of
from flowprov.read.artifacts.catalog import Catalog
from flowprov.read.labels import format_duration
from flowprov.read.value_paths import value_paths

_MAX_SHOWN = 60  # characters of a value in a table
_NOTHING = "-"
_CODE = ("commit", "dirty", "changed", "diff_sha256", "submodules")
_PARTS = (
    *("outcome", "params", "settings", "code", "environment", "data", "metrics", "weights"),
    *("phases", "durations", "forwards"),
)


class Difference:
    """What differs between two runs, tasks, workflows or campaigns.

    Printed, it is a table; in a notebook it is one, too. What is equal is left out.

    Raises
    ------
    JournalError
        If the forwards are to be compared, and of one of the two none is recorded with statistics.
    """

    def __init__(
        self,
        a: Item,
        b: Item,
        *,
        forwards: bool = False,
        artifacts: Catalog | None = None,
        read_whole: Callable[[], Sequence[Item]] | None = None,
    ) -> None:
        self._items = a, b
        self._read_whole = read_whole
        self._parts: dict[str, dict[str, Any]] = {
            "outcome": _pairs(a.outcome, b.outcome),
            "params": _pairs(dict(value_paths(a.used)), dict(value_paths(b.used))),
            "settings": _pairs(_settings(a), _settings(b)),
            "code": _code(_repository(a), _repository(b)),
            "environment": _pairs(_environment(a), _environment(b)) | _packages(a, b),
            "data": _pairs(_declared(a), _declared(b)) | _used(a, b, artifacts),
            "metrics": _metrics(a.values, b.values),
            "weights": {} if artifacts is None else weights_that_differ(a, b, artifacts),
            "durations": _pairs({"duration": a.seconds}, {"duration": b.seconds}),
            "forwards": (first_difference(a, b) if forwards else None) or {},
        }

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return what differs.

        Returns
        -------
        dict
            ``outcome``, ``params``, ``settings``, ``code``, ``environment``, ``data``, ``metrics``,
            ``weights``, ``phases``, ``durations`` (seconds) and ``forwards``. A leaf is ``[a, b]``, None for
            what only the other one has; nested names are joined by dots. ``outcome`` is ``status``,
            ``error``, ``ended_by`` and ``attempts``. Each of the ``data`` is two digests: those that DVC
            declared when the workflows began, and the beginnings of those of artifacts that were used; or
            what became of the digest, as in ``missing``. Each metric is ``{last, min, max, parts_at}``: the
            last values, the smallest, the largest, and the first step at which the two differ. ``weights``
            are those that were logged last: ``last``, where they are (or their digests, if that is the same
            place), and ``equal tensors``, how many of them are the same. Each of the ``phases``, which
            :meth:`with_phases` adds, is ``{count, seconds}``. ``forwards`` is the first module call whose
            inputs agree and whose outputs differ: ``{module_path, ordinal, step, epoch}``.
        """
        return {name: self._parts[name] for name in _PARTS if self._parts.get(name)}

    def with_phases(self) -> Difference:
        """Return the same difference, with the phases of which one has more; all tasks are read."""
        whole = self._items if self._read_whole is None else self._read_whole()
        found = copy.copy(self)
        found._parts = {**self._parts, "phases": phases_that_differ(*whole)}  # noqa: SLF001 - a copy of this one
        return found

    def beyond(self, tolerance: float) -> Difference:
        """Return the same difference, without metrics that differ by less than a tolerance.

        Parameters
        ----------
        tolerance
            By how much two values of a metric may differ and still count as equal, relative to the larger
            one. ``parts_at`` is then the first step at which they differ by more.

        Raises
        ------
        UsageError
            If it is no number from 0 to 1.
        """
        if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
            raise UsageError(f"a tolerance is a number from 0 to 1, as 1e-5; it was given {tolerance!r}")
        a, b = self._items
        found = copy.copy(self)
        found._parts = {**self._parts, "metrics": _metrics(a.values, b.values, tolerance)}  # noqa: SLF001 - a copy of this one
        return found

    def __bool__(self) -> bool:
        return any(self._parts.values())

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def lines(self) -> list[str]:
        """Return two lines that name the items whole, and the table, in which they are ``A`` and ``B``."""
        titles = [f"{letter}  {_title(item)}" for letter, item in zip("AB", self._items, strict=True)]
        if not self:
            return [*titles, "nothing that is recorded of them differs"]
        rows = [("", "A", "B"), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [*titles, *table]

    def _repr_html_(self) -> str:
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        heads = "".join(f"<th>{html.escape(text)}</th>" for text in ("", *map(_title, self._items)))
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"

    def _rows(self) -> Iterable[tuple[str, str, str]]:
        for part, differences in self.to_dict().items():
            if part == "forwards":
                yield "first call that differs", _call(differences), ""
                continue
            for name, pair in differences.items():
                label = printable(f"{part}.{name}")
                if isinstance(pair, list):
                    yield label, *_texts(pair, _duration if part == "durations" else _text)
                    continue
                if isinstance(pair, str):
                    yield label, pair, ""
                    continue
                for kind, values in pair.items():
                    if kind == "parts_at":
                        yield f"{label} parts at step", str(values), ""
                    elif not _same(*values):
                        yield f"{label} {kind}", *_texts(values, _text)


def _call(forward: Mapping[str, Any]) -> str:
    """Return what tells a module call, in words."""
    path = printable(forward["module_path"]) or "the model itself"
    loops = [f"{name} {forward[name]}" for name in ("epoch", "step") if forward[name] is not None]
    return ", ".join([path, f"call {forward['ordinal']}", *loops])


def _title(item: Item) -> str:
    return printable(" ".join(filter(None, [item.kind, item.name, item.id])))


def _texts(pair: Sequence[Any], shown: Callable[[Any], str]) -> tuple[str, str]:
    """Return two values that differ as texts in which that is seen."""
    a, b = map(shown, pair)
    if a == b:  # rounded, or a text and a number
        a, b = (_NOTHING if one is None else repr(one) for one in pair)
    first, second = cut_apart(a, b, _MAX_SHOWN)
    return printable(first), printable(second)


def _duration(seconds: float | None) -> str:
    return _NOTHING if seconds is None else format_duration(seconds)


def _text(value: object) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _of_workflow(item: Item, field: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for workflow in item.workflows:
        found.update(value_paths(getattr(workflow, field) or {}))
    return found


def _settings(item: Item) -> dict[str, Any]:
    """Return the settings without the origins of their values: what holds is compared, not who set it."""
    found = _of_workflow(item, "settings")
    return {name: value for name, value in found.items() if not name.startswith("origins.")}


def _code(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    files = {f"files.{path}": contents for path, contents in changed_files(a, b).items()}
    return {**_pairs(a, b), **files}


def _repository(item: Item) -> dict[str, Any]:
    """Return what was recorded of the repository: that of its files, and what git said of changes."""
    found = _of_workflow(item, "code_repository")
    for version in _versions(item):
        code = version.record.code or {}
        found |= {name: code[name] for name in _CODE if code.get(name) is not None}
    return found


def _declared(item: Item) -> dict[str, Any]:
    """Return the digests of the data that DVC declared when the workflows of an item began."""
    entries = [entry for version in _versions(item) for entry in version.record.data or ()]
    return {str(entry["path"]): entry["md5"] for entry in entries if entry.get("path") and entry.get("md5")}


def _used(a: Item, b: Item, artifacts: Catalog | None) -> dict[str, Any]:
    return {} if artifacts is None else inputs_that_differ(a, b, artifacts)


def _packages(a: Item, b: Item) -> dict[str, Any]:
    """Return the packages that differ, with their versions."""
    both = [
        {name: rest for version in _versions(item) for name, rest in _named(version.packages() or ())}
        for item in (a, b)
    ]
    if not all(both):  # of one of them nothing is known
        return {}
    return {f"packages.{name}": pair for name, pair in _pairs(*both).items()}


def _named(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((name, rest) for name, _, rest in (package.partition("==") for package in packages))


def _versions(item: Item) -> list[KeptVersion]:
    """Return the versions on which the workflows of an item began."""
    found = item.contents.versions
    kept = (version_at_start(found, one.workflow_id, one.attempt) for one in item.workflows)
    return [one for one in kept if one is not None]


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


def _metrics(a: Iterable[Value], b: Iterable[Value], tolerance: float = 0.0) -> dict[str, Any]:
    ours, theirs = _by_name(a), _by_name(b)
    found: dict[str, Any] = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        first, second = ours.get(name, {}), theirs.get(name, {})
        steps = sorted({*first, *second})
        parts_at = next(
            (step for step in steps if not _is_close(first.get(step), second.get(step), tolerance)), None
        )
        if parts_at is not None:
            summaries = _summary(first), _summary(second)
            found[name] = {kind: [one[kind] for one in summaries] for kind in ("last", "min", "max")}
            found[name]["parts_at"] = parts_at
    return found


def _is_close(a: float | None, b: float | None, tolerance: float) -> bool:
    is_close = tolerance > 0 and a is not None and b is not None and math.isclose(a, b, rel_tol=tolerance)
    return is_close or _same(a, b)


def _by_name(values: Iterable[Value]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for value in values:
        found.setdefault(value.name, {})[value.step] = value.value
    return found


def _summary(series: Mapping[int, float]) -> Mapping[str, float | None]:
    if not series:
        return dict.fromkeys(("last", "min", "max"))
    return summary_of([series[step] for step in sorted(series)])
