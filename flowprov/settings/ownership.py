"""Whose a ``settings.yaml`` in the current folder is: other programs have a file of that name too.

Flows in: its text. Flows out: how sure it is that it is flowprov's. A file that says so has to be right. One
that only looks like it is used if all of it is valid, and left alone otherwise, which is said. That holds for
one with a slip in a key, too: its other keys may be those of another program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, TypeAlias

import yaml

from flowprov.settings.report import closest
from flowprov.settings.schema import Settings
from flowprov.settings.sources import PROFILE_KEY, VERSION_KEY
from flowprov.settings.yaml_text import YAML_ERRORS, parse_within_limits

Ownership: TypeAlias = Literal["marked", "likely", "slip"] | None

_CLOSE = 0.85
# Sections that hardly any other program has.
_CHARACTERISTIC = frozenset({"instrumentation", "telemetry_capture"})
_HAS_CHARACTERISTIC = re.compile(rf"""^['"]?(?:{"|".join(sorted(_CHARACTERISTIC))})['"]?\s*:""", re.MULTILINE)
# A version is a word. A mapping below the key, or nothing, is a section of another program's file.
_BEGINS_WITH_MARK = re.compile(rf"""['"]?{VERSION_KEY}['"]?\s*:\s*[^\s{{\[#&*|>!]""")


def ownership(text: str) -> Ownership:
    """Return whose file this is, by its keys at the top.

    Returns
    -------
    str or None
        ``marked`` if the first key is the version key, with a version. ``likely`` if there are keys, and all
        of them are keys of flowprov's settings. ``slip`` if others are among them, and one of flowprov's is
        characteristic of it, or each of the others is nearly one of flowprov's. None for the file of another
        program, and for what is no YAML and has no mark.
    """
    if begins_with_mark(text):
        return "marked"
    known_keys = {*Settings.key_names(), VERSION_KEY, PROFILE_KEY}
    has_characteristic = _HAS_CHARACTERISTIC.search(text) is not None
    count = unknown = 0
    try:
        for key, value in _top_level_items(text):
            is_version = key == VERSION_KEY
            if is_version and not isinstance(value, yaml.ScalarEvent):
                return None
            if is_version and not count:
                return "marked"
            if key not in known_keys:
                unknown += 1
                if not has_characteristic and (key is None or not closest(key, known_keys, cutoff=_CLOSE)):
                    return None
            count += 1
    except YAML_ERRORS:
        return None
    return "slip" if unknown else "likely" if count else None


def _top_level_items(text: str) -> Iterator[tuple[str | None, yaml.NodeEvent]]:
    """Yield the keys at the top of the first document, None for one that is no scalar, and their values.

    A key comes as soon as its value begins.
    """
    depth = 0
    nodes: list[yaml.NodeEvent] = []
    for event in parse_within_limits(text):
        if isinstance(event, yaml.NodeEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return
            if depth == 1:
                nodes.append(event)
                if len(nodes) == 2:
                    key, value = nodes
                    yield key.value if isinstance(key, yaml.ScalarEvent) else None, value
                    nodes = []
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentEndEvent):
            return


def begins_with_mark(text: str) -> bool:
    """Whether the first line that is no comment begins with the version key and a version."""
    for line in text.lstrip("\ufeff").splitlines():
        content = line.strip()
        if content and not content.startswith(("#", "%", "---")):
            return _BEGINS_WITH_MARK.match(content) is not None
    return False
