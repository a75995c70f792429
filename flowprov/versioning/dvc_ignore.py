"""What DVC leaves out of a folder: the patterns of the ``.dvcignore`` files above it.

Flows in: a folder in a repository of DVC. Flows out: whether a path in it is left out. The patterns are those
of ``.gitignore``, read as DVC 3.67 reads them (``dvc.ignore``, ``GitIgnoreSpecPattern`` of pathspec 1.1): the
last one that matches decides, those of an inner folder come after those of an outer one, and of what is left
out nothing can be taken back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flowprov.environment.small_files import read_file
from flowprov.values.patterns import compile_pattern

FILE = ".dvcignore"
_MARK = ".dvc"  # a folder that makes of the one around it a repository of DVC
_MAX_BYTES = 1 << 20
_MAX_LEVELS = 100
_NAME_AND_SLASH = 2  # parts of "name/"


class InvalidPatternError(Exception):
    """A pattern such as ``[z-a]``, which stops DVC itself."""


class _Rule(NamedTuple):
    """A pattern, below the folder of its file; for folders only; and whether what matches is left out."""

    prefix: str
    pattern: re.Pattern[str]
    folders_only: bool
    leaves_out: bool


class Ignored:
    """What is left out of one folder.

    Parameters
    ----------
    top
        The folder.

    Raises
    ------
    InvalidPatternError
        If DVC would not take one of the patterns.
    """

    def __init__(self, top: Path) -> None:
        self._prefix = ""
        self._rules: list[_Rule] = []
        self._all = False
        above = _folders_above(top)
        for folder in above:
            prefix = _slashed(os.path.relpath(folder, above[0]))
            if not self._matches(prefix + FILE, is_folder=False):
                self._rules += _rules_of(folder, prefix)
        if self._rules:
            self._prefix = _slashed(os.path.relpath(top, above[0]))
            parts = self._prefix.split("/")[:-1]
            around = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
            self._all = any(self._matches(path, is_folder=True) for path in around)

    def has(self, relative: str, *, is_folder: bool) -> bool:
        """Whether a path in the folder is left out, if the folders around it are not."""
        return self._all or (
            bool(self._rules) and self._matches(self._prefix + relative, is_folder=is_folder)
        )

    def _matches(self, path: str, *, is_folder: bool) -> bool:
        for rule in reversed(self._rules):
            if path.startswith(rule.prefix) and (is_folder or not rule.folders_only):
                below = path[len(rule.prefix) :]
                if rule.pattern.match(below) or (is_folder and rule.pattern.match(f"{below}/")):
                    return rule.leaves_out
        return False


def _slashed(relative: str) -> str:
    return "" if relative == os.curdir else f"{relative}/"


def _folders_above(top: Path) -> list[Path]:
    """Return the folders from the top of the repository of DVC down to the one around; none outside."""
    top = Path(os.path.abspath(top))  # noqa: PTH100 - links are not followed, as in DVC
    for level, folder in enumerate(top.parents):
        if level > _MAX_LEVELS:
            break
        if (folder / _MARK).is_dir():
            return list(reversed(top.parents[: level + 1]))
    return []


def _rules_of(folder: Path, prefix: str) -> Iterator[_Rule]:
    for line in read_file(folder / FILE, _MAX_BYTES).splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        leaves_out = not text.startswith("!")
        text = text if leaves_out else text[1:]
        expression = _expression(text, at_root=not prefix)
        if expression is not None:
            try:
                pattern = compile_pattern(expression)
            except re.error as error:
                raise InvalidPatternError(f"{prefix}{FILE}: DVC does not take the pattern {text}") from error
            yield _Rule(prefix, pattern, text.endswith("/"), leaves_out)


def _expression(text: str, *, at_root: bool) -> str | None:
    """Return the regular expression of a pattern; None if nothing matches it."""
    if not at_root:
        text = text.removeprefix("\\")  # DVC puts the folder before it, and takes the backslash for needless
    parts = text.split("/")
    if not parts[0]:
        del parts[0]  # it begins at the folder of its file
    elif len(parts) == 1 or (len(parts) == _NAME_AND_SLASH and not parts[1]):
        parts.insert(0, "**")  # it is a name, at any depth
    if not any(parts):
        return None
    if not parts[-1]:
        parts[-1] = "**"
    parts = [part for n, part in enumerate(parts) if part != "**" or parts[n - 1 : n] != ["**"]]
    if parts in (["**"], ["**", "*"], ["**", "*", "**"]) and (at_root or not text.endswith("/")):
        return None if text.endswith("/") else "."  # at the root, nothing matches "*/" in DVC
    return _join(parts)


def _join(parts: list[str]) -> str:
    expression, needs_slash = "", False
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            # At the beginning any folders, else any in between, or all that is inside.
            expression += "(?:.+/)?" if not number else "/" if is_last else "(?:/.+)?"
            needs_slash = number > 0
            continue
        expression += ("/" if needs_slash else "") + ("[^/]+" if part == "*" else _translate(part))
        expression += "(?:/|$)" if is_last else ""
        needs_slash = True
    return f"(?s:{expression})"


def _translate(part: str) -> str:
    """Return the regular expression of a part between two slashes."""
    found, position = "", 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "\\" and position < len(part):
            found += re.escape(part[position])
            position += 1
        elif character == "*":
            found += "[^/]*"
        elif character == "?":
            found += "[^/]"
        elif character == "[" and (end := _end_of_set(part, position)):
            inner = part[position:end]
            sign = "^" if inner[0] in "!^" else ""
            found += f"[{sign}{inner[len(sign) :].replace(chr(92), chr(92) * 2)}]"
            position = end + 1
        else:
            found += re.escape(character)
    return found


def _end_of_set(part: str, start: int) -> int:
    """Return where a set of characters ends; 0 if it has no end."""
    first = start + (part[start : start + 1] in ("!", "^"))
    return max(part.find("]", first + 1), 0)
