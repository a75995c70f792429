"""All problems of the settings in one report.

Flows in: problems with their locations, one by one. Flows out: one ``SettingsError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flowprov.errors import SettingsError
from flowprov.settings.redaction import redact_text, redact_uri

# A report of thousands of lines helps nobody, and it takes time to find the closest key for each.
_MAX_PROBLEMS = 100
_MAX_TEXT = 60
_MAX_NUMBER = 2**64


class SourceLocation(NamedTuple):
    """Where a value comes from: a file with the line, an environment variable, or an override."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        source = escape(self.source)
        return source if self.line is None else f"{source}:{self.line}"


class InvalidYamlValue:
    """Stands for a value that YAML cannot read. ``reason`` describes it, to be put behind "found"."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Problems:
    """Collects problems and raises them together."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._omitted = 0
        self._paths: set[tuple[str, ...]] = set()

    def add(
        self,
        location: SourceLocation,
        path: Sequence[str],
        message: str,
        *,
        hint: Callable[[], str] | None = None,
    ) -> None:
        """Add one problem.

        Parameters
        ----------
        location
            Where it is.
        path
            The keys that lead to it; empty for a problem of the whole source.
        message
            What was found and what was expected.
        hint
            Returns how to fix it, or an empty string. It is called only for problems that are in the report.
        """
        self._paths.add(tuple(path))
        if len(self._lines) >= _MAX_PROBLEMS:
            self._omitted += 1
            return
        subject = f"{location}: {join_path(path)}" if path else str(location)
        fix = hint() if hint is not None else ""
        self._lines.append(f"{subject}: {message}" + (f"; {fix}" if fix else ""))

    def touch(self, path: Sequence[str]) -> bool:
        """Whether one of the problems is of this key, of a section around it, or of a key in it."""
        return any(other[: len(path)] == tuple(path[: len(other)]) for other in self._paths)

    def raise_if_any(self) -> None:
        """Raise all problems as one ``SettingsError``, if there are any."""
        if self._lines:
            raise self.error()

    def error(self) -> SettingsError:
        """Return all problems as one error."""
        count = len(self._lines) + self._omitted
        lines = [f"{count} problem{'s' if count > 1 else ''} in the settings:"]
        lines += [f"  {line}" for line in self._lines]
        if self._omitted:
            lines.append(f"  and {self._omitted} more")
        return SettingsError("\n".join(lines))

    def __bool__(self) -> bool:
        return bool(self._lines)

    def lines(self) -> list[str]:
        """Return the problems, without those beyond the largest number."""
        return list(self._lines)


def join_path(path: Iterable[str]) -> str:
    """Return the keys of a path joined by dots, for a message."""
    # To YAML, a URI without the space after "uri:" is a key. No key of the settings has an "@".
    return ".".join(shorten(redact_uri(key)) for key in path)


def escape(text: str) -> str:
    """Return a text that any terminal can print on one line, with credentials concealed."""
    text = redact_text(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str) -> str:
    """Return a text of the user's, made fit for a message."""
    # Credentials first, then the cut: a cut URI could lose the "@" that shows where its password ends.
    text = escape(text)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def describe_value(value: Any, *, secret: bool = False) -> str:
    """Return a description of a value, to be put behind "found".

    Parameters
    ----------
    value
        The value. Of lists and mappings only the type is described.
    secret
        Whether a URI was expected. A value that is no URI may be a password, and is not shown.
    """
    if isinstance(value, InvalidYamlValue):
        return value.reason
    if isinstance(value, str):
        return "a string without a scheme" if secret and "://" not in value else f'"{shorten(value)}"'
    if value is None or isinstance(value, bool):
        return {None: "~ (nothing)", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return "a number" if secret else _describe_number(value)
    descriptions: dict[type, str] = {list: "a list", tuple: "a list", Mapping: "a mapping"}
    description = next((text for cls, text in descriptions.items() if isinstance(value, cls)), None)
    return description or f"a value of type {type(value).__name__}"


def _describe_number(value: float) -> str:
    if isinstance(value, int) and abs(value) >= _MAX_NUMBER:  # Python refuses to print very long ones
        return "a very large whole number"
    return str(int(value)) if isinstance(value, int) else repr(float(value))


def closest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the choice that a mistyped word most likely means, None if none is close."""
    matches = difflib.get_close_matches(word[:_MAX_TEXT].lower(), list(choices), n=1, cutoff=cutoff)
    return matches[0] if matches else None
