"""How deeply JSON is nested: functions that walk values call themselves once for each level.

Flows in: the bytes of valid JSON. Flows out: yes or no, in time that their length bounds.
"""

from __future__ import annotations

import re

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def depth_exceeds(text: bytes, limit: int) -> bool:
    """Whether the brackets of valid JSON are nested more deeply."""
    # Each level takes two brackets. Most lines are shorter, and counting takes as long as decoding them.
    if len(text) <= 2 * limit or text.count(b"{") + text.count(b"[") <= limit:
        return False
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True
