"""Numbers of bytes as people write them.

Flows in: text, as in 500kB or 10MB. Flows out: bytes.
"""

from __future__ import annotations

import re

from flowprov.cli.output import Failure

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)b?", re.ASCII | re.IGNORECASE)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "t": 1_000_000_000_000}


def parse_size(text: str) -> int:
    """Return bytes; a kB has 1,000 of them.

    Raises
    ------
    Failure
        If the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Failure(f"{text} is no size: give bytes, or a number and kB, MB, GB or TB, as in 10MB")
    return int(float(match[1]) * _FACTORS[match[2].lower()])
