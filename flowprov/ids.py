"""Ids: new ones of campaigns, workflows and journals; full ones of tasks; their short ends.

Flows in: the time, or the number of a task in its journal. Flows out: an id; new ones sort by their time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import uuid_utils

MIN_END = 6
"""How many characters of the end of an id mean it. Reports name runs by such ends, as ``6747-0``."""


def new_id() -> str:
    """Return a new id. Ids sort by the time of their creation (uuid7)."""
    text = new_journal_id()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_journal_id() -> str:
    """Return a new id of a journal: as :func:`new_id`, without hyphens."""
    if time.clock_gettime(time.CLOCK_REALTIME) >= 0:
        return uuid_utils.uuid7().hex
    # The library panics where the clock stands before 1970. RFC 9562: time 0, version 7, variant 2.
    return "0" * 12 + "7" + os.urandom(2).hex()[:3] + "8" + os.urandom(8).hex()[:15]


def full_id(
    local: int | str, journal_id: str, ancestors: Sequence[tuple[str, int]] = (), first_number: int = 0
) -> str:
    """Return the full form of an id, which may be a number inside a journal."""
    if isinstance(local, str):
        return local
    if local < first_number:
        for ancestor, first in reversed(ancestors):
            if local >= first:
                return f"{ancestor}-{local}"
    return f"{journal_id}-{local}"


def is_end_of(text: str, identifier: str) -> bool:
    """Whether a text is the end of an id, and long enough to mean it."""
    return len(text) >= MIN_END and identifier.endswith(text)
