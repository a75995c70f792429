"""Durations as people write them.

Flows in: text, as in 30d or 1.5h. Flows out: seconds.
"""

from __future__ import annotations

import re

from flowprov.cli.output import Failure

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str, what: str) -> float:
    """Return seconds.

    Parameters
    ----------
    text
        The duration.
    what
        What it is, for the message: "age", "time".

    Raises
    ------
    Failure
        If the text is no duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise Failure(f"{text} is no {what}: give a number and s, m, h, d or w, as in 30d")
    return float(match[1]) * _SECONDS[match[2]]
