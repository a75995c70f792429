"""The line of a task or workflow in a printed tree.

Flows in: the rows that stand beside each other under one parent. Flows out: one line for each, made so that
they can be told apart: with what they used and generated, above all the values in which they differ, and with
their rank, their error, and how they ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from flowprov.display import printable
from flowprov.read.value_paths import describes_object

Fields: TypeAlias = Mapping[str, Any]

LABEL_FIELDS = (
    "workflow_id",
    "parent_workflow_id",
    "task_id",
    "parent_task_id",
    "name",
    "activity_id",
    "subtype",
    "status",
    "attempt",
    "started_at",
    "ended_at",
    "duration",
    "used",
    "generated",
    "custom_metadata",
    "error",
    "rank",
)
"""The fields of a row of which a line is made."""

ITERATION, CHILD_FORWARD = "iteration", "child_forward"
FORWARDS = frozenset(("parent_forward", CHILD_FORWARD))
_VALUES = ("used", "generated", "metrics")  # the last of them only in trees of campaigns
_KINDS = {"torch_model": "model", **dict.fromkeys(FORWARDS, "forward")}
_MAX_VALUES = 4  # values of a kind that are shown on one line
_MAX_VALUE_LENGTH = 40  # characters
_MAX_NAME_LENGTH = 200  # of a task, a workflow, a value
_MAX_ERROR_LENGTH = 160
_MAX_DEPTH = 4  # levels of nested parameters that are looked at
_MAX_SCALARS = 200
_MAX_ITEMS = 8  # of a list that is shown
_SCALARS = (bool, int, float, str, type(None))
_UNITS = ((1e6, "µs"), (1e3, "ms"), (1.0, "s"))


def labels_of(rows: Sequence[Fields], parent_rank: int | None = None) -> list[str]:
    """Return the lines of rows that stand beside each other.

    Parameters
    ----------
    rows
        The rows, each with the fields of :data:`LABEL_FIELDS`; others count as None.
    parent_rank
        The rank that the line above them shows: it is not repeated.
    """
    values: dict[tuple[str, str], _Values] = {}
    by_title: dict[str, list[Fields]] = {}
    for row in rows:
        by_title.setdefault(title_of(row), []).append(row)
    for title, alike in by_title.items():
        for field in _VALUES:
            values[title, field] = _Values([row.get(field) for row in alike])
    return [_label(row, values, parent_rank) for row in rows]


def title_of(row: Fields) -> str:
    """Return the name of a row; that of a model's workflow says so, and so does that of a forward."""
    name = row.get("activity_id") if row.get("task_id") is not None else row.get("name")
    return titled(name, row.get("subtype"))


def titled(name: Any, subtype: Any) -> str:
    """Return a name as it is shown, with the kind of thing that has it where that could be mistaken."""
    kind = _KINDS.get(subtype) if isinstance(subtype, str) else None
    return _name(str(name or "(unnamed)")) + (f" ({kind})" if kind else "")


def _name(text: str) -> str:
    """Return a recorded name as it is shown, of a very long one the beginning."""
    return printable(text if len(text) <= _MAX_NAME_LENGTH else f"{text[: _MAX_NAME_LENGTH - 3]}...")


def shown_rank(row: Fields) -> int | None:
    """Return the rank that a line shows: that of a task. A workflow may be of many ranks."""
    rank = row.get("rank")
    return int(rank) if row.get("task_id") is not None and _is_known(rank) else None


def _label(row: Fields, values: Mapping[tuple[str, str], _Values], parent_rank: int | None) -> str:
    title = title_of(row)
    parts = [title, _later_attempt(row), _name(str(row.get("status") or "")), _duration(row)]
    rank = shown_rank(row)
    if rank is not None and rank != parent_rank:
        parts.append(f"rank {rank}")
    used, generated, metrics = (values[title, field].text(row.get(field)) for field in _VALUES)
    parts += [used, f"-> {generated}" if generated else "", f"metrics {metrics}" if metrics else ""]
    parts += _endings(row)
    return "  ".join(part for part in parts if part)


def _later_attempt(row: Fields) -> str:
    """Return which attempt of a workflow a row is, if it is not the first."""
    attempt = row.get("attempt")
    later = row.get("task_id") is None and _is_known(attempt) and attempt > 1
    return f"attempt {int(attempt)}" if later else ""  # type: ignore[arg-type]


def _endings(row: Fields) -> Iterator[str]:
    """Yield how a row ended, if it was not as expected."""
    metadata = row.get("custom_metadata")
    if isinstance(metadata, dict):
        if metadata.get("left_early") is True:
            yield "left early"
        if isinstance(metadata.get("ended_by"), str):
            yield f"ended by {_name(metadata['ended_by'])}"
    error = row.get("error")
    if error is not None and (kind := _field(error, "type")):
        message = str(_field(error, "message") or "").strip()
        first_line = message.partition("\n")[0][:_MAX_ERROR_LENGTH]
        kind = str(kind)[:_MAX_ERROR_LENGTH]
        text = printable(f"{kind}: {first_line}" if first_line else kind)
        yield text if len(text) <= _MAX_ERROR_LENGTH else f"{text[: _MAX_ERROR_LENGTH - 3]}..."


def _field(error: Any, name: str) -> Any:
    return error.get(name) if isinstance(error, dict) else getattr(error, name, None)


def _duration(row: Fields) -> str:
    duration, started, ended = row.get("duration"), row.get("started_at"), row.get("ended_at")
    if duration is None and isinstance(started, int) and isinstance(ended, int):
        duration = (ended - started) / 1e9
    return format_duration(duration) if _is_known(duration) else ""


def _is_known(number: Any) -> TypeGuard[float]:
    return number is not None and number == number  # noqa: PLR0124 - NaN means unknown in a DataFrame


def format_duration(seconds: float) -> str:
    """Return a duration with its unit."""
    factor, unit = next(((f, u) for f, u in _UNITS if seconds * f < 1000), _UNITS[-1])
    return f"{seconds * factor:.3g} {unit}" if unit != "s" else f"{seconds:.1f} s"


class _Values:
    """What rows of one name used, or what they generated: how to write it so that they can be told apart."""

    def __init__(self, mappings: Iterable[Any]) -> None:
        different: dict[str, dict[str, Any]] = {}
        for mapping in mappings:
            for name, value in _scalars(mapping).items():
                different.setdefault(name, {})[repr(value)] = value
        self._forms = {
            name: next((form for form in _FORMS if _are_apart(form, values.values())), _FORMS[-1])
            for name, values in different.items()
            if len(values) > 1
        }

    def text(self, mapping: Any) -> str:
        """Return the first values as text, each as ``name=value``; those that differ come first."""
        scalars = _without_position(_scalars(mapping))
        scalars = {name: v for name, v in scalars.items() if v is not None or name in self._forms}
        names = sorted(scalars, key=lambda name: name not in self._forms)  # the order is kept otherwise
        shown = [f"{name}={self._forms.get(name, _short)(scalars[name])}" for name in names[:_MAX_VALUES]]
        return " ".join([*shown, *(["..."] if len(names) > _MAX_VALUES else [])])


def _are_apart(form: Callable[[Any], str], values: Collection[Any]) -> bool:
    return len({form(value) for value in values}) == len(values)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else _text(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 3] + "..."


def _precise(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else _end(value)


def _end(value: Any) -> str:
    """Return the end of a long text: paths often differ there alone."""
    text = _text(value, slice(-_MAX_VALUE_LENGTH - 1, None))
    return text if len(text) <= _MAX_VALUE_LENGTH else "..." + text[3 - _MAX_VALUE_LENGTH :]


def _text(value: Any, part: slice = slice(_MAX_VALUE_LENGTH + 1)) -> str:
    return printable(str(value)[part])


_FORMS: tuple[Callable[[Any], str], ...] = (_short, _precise, _end)


def _scalars(values: Any) -> dict[str, Any]:
    """Return the scalars of a mapping by their path, ``optimizer.lr``; not what describes a tensor."""
    scalars: dict[str, Any] = {}
    if isinstance(values, dict):
        _add_scalars(values, "", scalars, _MAX_DEPTH)
    return scalars


def _add_scalars(values: dict[Any, Any], prefix: str, scalars: dict[str, Any], depth: int) -> None:
    for name, value in values.items():
        if len(scalars) >= _MAX_SCALARS:
            return
        path = f"{prefix}{_name(str(name))}"
        if isinstance(value, _SCALARS) or (isinstance(value, list) and _is_short_list(value)):
            scalars[path] = value
        elif isinstance(value, dict) and depth > 1 and not describes_object(value):
            _add_scalars(value, f"{path}.", scalars, depth - 1)


def _is_short_list(values: list[Any]) -> bool:
    return 0 < len(values) <= _MAX_ITEMS and all(isinstance(value, _SCALARS) for value in values)


def _without_position(scalars: dict[str, Any]) -> dict[str, Any]:
    """Return what an iteration used without its position, if the item is the same number."""
    position = scalars.get("i")
    if any(name != "i" and value == position for name, value in scalars.items()):
        return {name: value for name, value in scalars.items() if name != "i"}
    return scalars
