"""Say what somebody may have meant who asked for an id that is not there.

Flows in: the id that was asked for, and the ids that are there, with their names. Flows out: the message of
an :class:`UnknownIdError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

_MAX_NAMED = 8
_MAX_NEAREST = 3
_MAX_COMPARED = 2_000  # the latest ones: to compare with all of many thousands takes seconds
_MAX_LENGTH = 200  # of what is compared: comparing takes the square of it
_MIN_PREFIX = 3
_CUTOFF, _GENERATED_CUTOFF = 0.6, 0.9  # of difflib: 1 for equal texts
_GENERATED = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?.*")


def describe_unknown(
    kind: str,
    unknown: str,
    where: str,
    names: Mapping[str, str | None],
    *further: Mapping[str, str | None],
) -> str:
    """Return the message for an id that is not there.

    Parameters
    ----------
    kind
        "campaign", "workflow" or "task".
    unknown
        The id that was asked for.
    where
        What was searched.
    names
        The ids that are there, the latest last, each with the name of what it identifies.
    further
        Less likely ones: they are named where the others leave room.
    """
    message = f"{where} holds no {kind} {unknown!r}"
    groups = names, *further
    known = {key: name for group in reversed(groups) for key, name in group.items()}  # the likeliest last
    if not known:
        return f"{message}; it holds none."
    if nearest := nearest_ids(unknown, known):
        return f"{message}. Did you mean {' or '.join(_with_name(key, known) for key in nearest)}?"
    listed: list[str] = []
    for group in groups:
        if len(listed) < _MAX_NAMED:
            listed += list(group)[len(listed) - _MAX_NAMED :]
    more = f" and {len(known) - len(listed)} more" if len(known) > len(listed) else ""
    return f"{message}; it holds {', '.join(_with_name(key, known) for key in listed)}{more}."


def nearest_ids(unknown: str, names: Mapping[str, str | None]) -> list[str]:
    """Return the ids that are likely meant, the likeliest first: by name, by beginning, by similarity."""
    wanted = unknown.casefold()
    latest_first = list(names)[: -_MAX_COMPARED - 1 : -1]
    named = [key for key in latest_first if (names[key] or "").casefold() == wanted]
    if len(wanted) >= _MIN_PREFIX:
        named += [key for key in latest_first if (names[key] or "").casefold().startswith(wanted)]
    beginning = [key for key in latest_first if _begins(wanted, key.casefold())]
    words = {word.casefold(): key for key in reversed(latest_first) for word in (names[key], key) if word}
    # Generated ids of about the same time are alike without being meant: only a slip or two makes one meant.
    cutoff = _GENERATED_CUTOFF if _GENERATED.fullmatch(wanted) else _CUTOFF
    similar = []
    if len(wanted) <= _MAX_LENGTH:
        candidates = [word for word in words if len(word) <= _MAX_LENGTH]
        similar = [words[word] for word in get_close_matches(wanted, candidates, _MAX_NEAREST, cutoff)]
    return list(dict.fromkeys([*named, *beginning, *similar]))[:_MAX_NEAREST]


def _begins(first: str, second: str) -> bool:
    """Whether one text is the beginning of the other, and long enough to mean it."""
    return min(len(first), len(second)) >= _MIN_PREFIX and (
        first.startswith(second) or second.startswith(first)
    )


def _with_name(key: str, names: Mapping[str, str | None]) -> str:
    return f"{key} ({names[key]})" if names[key] else key
