"""The columns of runs for which a terminal has room.

Flows in: columns with their texts, and a width. Flows out: the columns to show, those that tell most first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

from flowprov.cli.tables import COLUMN_GAP, shown_width

_FIRST = ("name", "status")
_REFERENCE = re.compile(r"(?:.*[._])?(?:id|path|dir|folder|file)s?")


def columns_that_fit(texts: Mapping[str, Sequence[str]], width: int, *, sort: str | None = None) -> list[str]:
    """Return the columns for which there is room: name, status, what sorts, metrics, parameters, the rest.

    A column is shown whole or not at all. The first three are always among them. Metrics and parameters get
    room by turns, so that many of one kind leave some for the other.

    Parameters
    ----------
    texts
        All columns, each with its texts and its head as they are shown.
    width
        How many columns of text the terminal has.
    sort
        The column by which the lines are sorted.
    """
    widths = {name: max(map(shown_width, shown)) for name, shown in texts.items()}
    wanted = _FIRST if sort is None else (*_FIRST, sort)
    first = list(dict.fromkeys(name for name in wanted if name in texts))
    rest = [name for name in sorted(texts, key=lambda name: widths[name]) if name not in first]
    metrics = [name for name in texts if name not in first and name.startswith("metrics.")]
    others = [name for name in rest if not name.startswith("metrics.")]
    is_reference = {name: _is_reference(name, texts[name]) for name in others}
    references = [name for name in others if is_reference[name]]
    params = [name for name in others if name.startswith("params.") and not is_reference[name]]
    own = [name for name in others if not (name.startswith("params.") or is_reference[name])]
    by_turns = [name for name in chain.from_iterable(zip_longest(metrics, params)) if name is not None]
    references.sort(key=lambda name: name.startswith("params."))  # a run's own id serves best
    taken = sum(widths[name] + COLUMN_GAP for name in first) - COLUMN_GAP
    fitting = set(first)
    for name in (*by_turns, *own, *references):
        if taken + COLUMN_GAP + widths[name] <= width:
            taken += COLUMN_GAP + widths[name]
            fitting.add(name)
    return [name for name in (*first, *metrics, *params, *own, *references) if name in fitting]


def _is_reference(name: str, texts: Sequence[str]) -> bool:
    """Whether a column names a file or a record: it tells runs apart, and says little of them."""
    return bool(_REFERENCE.fullmatch(name)) or any("/" in text for text in texts[1:])
