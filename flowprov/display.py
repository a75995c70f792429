"""Text for people: recorded values as a terminal, a log or an error may show them.

Flows in: any text. Flows out: the same text, with everything escaped that steers a terminal, breaks a line,
or turns the direction of writing. What was recorded may say anything; it must not pass for our own words.
Commands print by ``cli/output.py`` alone, which uses this module; what is logged under the name "flowprov"
comes through :class:`EscapingFilter`; and errors through :class:`flowprov.errors.FlowprovError`.
"""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import LogRecord

_SIZES = ("B", "kB", "MB", "GB", "TB")
TRACEBACK = "flowprov_traceback"
"""The attribute of a log record with the text of a traceback, in place of the exception itself."""
IN_LINES = "flowprov_in_lines"
"""The attribute of a log record whose line breaks are ours."""


def printable(text: str) -> str:
    """Return a text as one line, with line breaks, control characters and bidi marks escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() and char != "\\" else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of which is escaped: where the line breaks are ours."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return JSON in which strings escape what :func:`printable` escapes; it is the same JSON."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def cut_apart(a: str, b: str, most: int) -> tuple[str, str]:
    """Return two texts of at most so many characters in which their first difference is seen.

    Both begin at the same place, and a mark says where one is cut.
    """
    chars = enumerate(zip(a, b, strict=False))
    differs_at = next((index for index, (one, other) in chars if one != other), min(len(a), len(b)))
    before, behind = most // 3, most // 6  # characters around the difference
    begin = 0 if max(len(a), len(b)) <= most or differs_at + behind < most else differs_at - before
    return _cut(a, begin, most), _cut(b, begin, most)


def _cut(text: str, begin: int, most: int) -> str:
    rest = f"…{text[begin:]}" if begin else text
    return rest if len(rest) <= most else f"{rest[: most - 1]}…"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 run``, ``2,000 runs``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def format_size(number: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in _SIZES[:-1]:
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} {_SIZES[-1]}"


class EscapingFilter:
    """Escapes log messages, which may quote names, paths and messages of others."""

    def filter(self, record: LogRecord) -> bool:
        """Escape a record; it is always logged."""
        try:
            message = record.getMessage()
        except Exception:  # a message that does not fit its arguments: the handler reports that
            return True
        if not message.isprintable():
            shown_lines = printable_lines if getattr(record, IN_LINES, False) else printable
            record.msg, record.args = shown_lines(message), ()
        if (shown := record.__dict__.get(TRACEBACK)) is not None:
            record.exc_text = "\n".join(f"  {printable(line)}" for line in str(shown).split("\n"))
        elif record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            parts = map(_printable_part, traceback.format_exception(*record.exc_info))
            record.exc_text = "\n".join(parts)
        return True


def _printable_part(part: str) -> str:
    """Return a part of a traceback: the lines of a frame, or an exception, whose message is one line then."""
    part = part.rstrip("\n")
    return printable_lines(part) if part.startswith((" ", "\n")) else printable(part)
