"""The source of captured functions, by its digest.

Flows in: functions, when they are decorated. Flows out: file, line and digest of the source of each, found
out once for each function, and not where it is decorated.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

from flowprov.source_lines import source_lines
from flowprov.values import as_name

_MAX_FUNCTIONS = 1_000
_new: deque[tuple[str, CodeType]] = deque(maxlen=_MAX_FUNCTIONS)
_known: dict[str, dict[str, Any]] = {}


def note_function(function: object) -> None:
    """Remember a function whose source is to be looked at later."""
    if type(function) is FunctionType and len(_known) < _MAX_FUNCTIONS:
        _new.append((f"{function.__module__}.{function.__qualname__}", function.__code__))


def function_sources() -> dict[str, dict[str, Any]]:
    """Return ``file``, ``line`` and ``sha256`` of the source of each function, by its qualified name."""
    while _new:
        name, code = _new.popleft()
        lines = source_lines(code.co_filename)
        if lines:
            source = "".join(lines[code.co_firstlineno - 1 : _last_line(code, lines)])
            _known[as_name(name, "")] = {
                "file": as_name(code.co_filename),
                "line": code.co_firstlineno,
                "sha256": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
            }
    return dict(_known)


def _last_line(code: CodeType, lines: Sequence[str]) -> int:
    """Return the number of the last line of a function: its last code, and what is indented behind it."""
    last = max(_code_lines(code), default=code.co_firstlineno)
    indent = _indent(lines[code.co_firstlineno - 1])
    for number in range(last + 1, len(lines) + 1):
        line = lines[number - 1]
        is_closing = line.lstrip()[:1] in (")", "]", "}")
        if line.strip() and not (_indent(line) > indent or (is_closing and _indent(line) == indent)):
            break
        if line.strip():
            last = number
    return last


def _code_lines(code: CodeType) -> Iterator[int]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    own = (line for _, _, line in code.co_lines() if line is not None)
    return itertools.chain(own, *map(_code_lines, inner))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
