"""All problems of the settings, gathered and told in one report.

Flows in: problems with their places, as they are met. Flows out: one ``SettingsError``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flowprov.errors import SettingsError
from flowprov.settings.redaction import redact_text, redact_uri

# A report of thousands of lines helps nobody, and finding the nearest key for each takes time.
_MOST = 100
_LONGEST_SHOWN = 60
_LARGEST_SHOWN = 2**64


class SourceLocation(NamedTuple):
    """Where a value was given: a file, a variable or an override, with its line where it has one."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        source = escaped(self.source)
        return source if self.line is None else f"{source}:{self.line}"


class InvalidYamlValue:
    """Stands for a value that could not be read; ``reason`` describes it as in "found …"."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Problems:
    """Gathers problems and raises them together."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left_out = 0

    def add(
        self, origin: SourceLocation, path: Sequence[str], what: str, *, hint: Callable[[], str] | None = None
    ) -> None:
        """Note one problem.

        Parameters
        ----------
        origin
            Where it stands.
        path
            The keys that lead to it; empty for a problem of the whole source.
        what
            What was found and what was expected.
        hint
            Called only for problems that are told; gives the mend, or an empty text.
        """
        if len(self._lines) >= _MOST:
            self._left_out += 1
            return
        place = f"{origin}: {dotted(path)}" if path else str(origin)
        mend = hint() if hint is not None else ""
        self._lines.append(f"{place}: {what}" + (f"; {mend}" if mend else ""))

    def raise_if_any(self) -> None:
        """Raise everything that was gathered as one ``SettingsError``."""
        if not self._lines:
            return
        count = len(self._lines) + self._left_out
        lines = [f"{count} problem{'s' if count > 1 else ''} in the settings:"]
        lines += [f"  {line}" for line in self._lines]
        if self._left_out:
            lines.append(f"  and {self._left_out} more")
        raise SettingsError("\n".join(lines))


def dotted(path: Iterable[str]) -> str:
    """Join keys to a path that can be shown."""
    # A URI that lost the blank after "uri:" is a key to YAML, and no key of ours has an "@".
    return ".".join(shortened(redact_uri(key)) for key in path)


def escaped(text: str) -> str:
    """Make a text printable on one line anywhere, credentials hidden."""
    text = redact_text(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    """Make a text from outside fit into a message."""
    # Hidden first, cut afterwards: a cut URI could lose the "@" that shows where its password ends.
    text = escaped(text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def describe_value(value: Any, *, secret: bool = False) -> str:
    """Describe a value that was given.

    Parameters
    ----------
    value
        The value; of lists and mappings only the kind is told.
    secret
        Whether the place is one for URIs: what is none may be a bare password and is not shown.
    """
    if isinstance(value, InvalidYamlValue):
        return value.reason
    if isinstance(value, str):
        return "a text without a scheme" if secret and "://" not in value else f'"{shortened(value)}"'
    if value is None or isinstance(value, bool):
        return {None: "~ (nothing)", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return "a number" if secret else _found_number(value)
    kinds: dict[type, str] = {list: "a list", tuple: "a list", Mapping: "a mapping"}
    kind = next((told for kind, told in kinds.items() if isinstance(value, kind)), None)
    return kind or f"a value of type {type(value).__name__}"


def _found_number(value: float) -> str:
    if isinstance(value, int) and abs(value) >= _LARGEST_SHOWN:  # Python refuses to print very long ones
        return "a very large whole number"
    return str(int(value)) if isinstance(value, int) else repr(float(value))


def nearest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Find the choice that a mistyped word most likely means."""
    matches = difflib.get_close_matches(word[:_LONGEST_SHOWN].lower(), list(choices), n=1, cutoff=cutoff)
    return matches[0] if matches else None
