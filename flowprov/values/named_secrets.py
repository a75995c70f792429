"""Secrets that have their names beside them in a text: `password='x'`, `--token x`, `("Cookie", "x")`.

Flows in: text (messages, reprs, command lines, lines of source). Flows out: the same text without the values
of what is named like a secret. In doubt more is concealed: what begins with a quote or a bracket is concealed
to its other end, and to the end of the text if that is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from flowprov.values.secret_names import NOT_SECRET, SECRET, SERVICE, TOKEN_LIKE, looks_like_service_key
from flowprov.values.url_credentials import REDACTED

_NAME = r"[A-Za-z_][\w.-]{0,63}"
_CANDIDATE = re.compile(
    rf"(?<![\w-])(?:--?(?P<option>{_NAME})(?:=|\s{{1,3}}|\\*['\"],\s{{0,3}})"
    rf"|(?P<assigned>{_NAME})\\*['\"]?\s{{0,2}}\]?\s{{0,2}}(?P<sign>[:=])=?>?\s{{0,2}}"
    rf"|(?<=['\"])(?P<first>{_NAME})\\*['\"],\s{{0,2}})"
)
_PAIR_START = re.compile(r"[(\[]\s{0,2}b?\\*['\"]\Z")
_PAIR_END = re.compile(r",?\s{0,2}[)\]]")
_NAMES_WITH_OWNERS = frozenset({"key", "keys", "string"})
_OWNER_OF_KEY = re.compile(r"(access|account|api|connection|private|secret|signing)\s\Z", re.IGNORECASE)

_WORD = re.compile(r"['\"]?([A-Za-z0-9]{32,64})(?![\w-])")
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|negotiate)\s+", re.IGNORECASE)
_QUOTE = re.compile(r"[bBrRuUfF]{0,2}(\\*)('''|\"\"\"|'|\")")
_OPENING = re.compile(r"(?:[A-Za-z_][\w.]{0,99})?[\[({]")
_BRACKET = re.compile(r"[\[({]|[\])}]|'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?", re.DOTALL)
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_IN_QUERY = re.compile(r"[^&#\s'\"<>]*")
# Behind a separator another name may begin; if none does, the separator is a part of the value.
_BARE = re.compile(r"(?:[^\s,;)}\]]|[,;](?![\w. -]{1,64}[=:])(?=[^\s'\"])|[)}\]](?=\w))*")
_DEFAULT = re.compile(r"\s{1,2}=\s{1,2}(?=['\"])")
_HEADER = re.compile(r"cookie|authorization", re.IGNORECASE)

# A field, and in the line below what pydantic says of its value. The text may be cut there, and a group of
# exceptions has a margin.
_FIELD_INPUT = re.compile(
    r"^(?P<margin>[ |]{0,20})(?P<name>[^\s\[\]=|]{1,200})\n"
    r"(?P=margin) {2}(?=\S)[^\n]*?\binput_value=(?P<value>[^\n]*(?=, input_type=[\w.]+\]$)|[^\n]*)",
    re.MULTILINE,
)
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z_][\w.-]{0,63})(?:\s[^<>]{0,200})?>(?P<value>[^<]+)</(?P=name)\s*>")

_REVEALS_NOTHING = frozenset(
    {"None", "True", "False", "null", "true", "false", "''", '""', REDACTED, f"'{REDACTED}'", f'"{REDACTED}"'}
)
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?")


def may_hold_named(text: str) -> bool:
    """Whether a text has what stands between a name and its value."""
    return (
        "=" in text
        or ":" in text
        or "," in text
        or "--" in text
        or " -" in text
        or "</" in text
        or text.startswith("-")
    )


def conceal_named(text: str, secrecy: Callable[[str], int]) -> str:
    """Return a text with the values of what is named like a secret concealed.

    Parameters
    ----------
    text
        Any text. The time is linear in its length.
    secrecy
        How far a name means a secret.
    """
    if not may_hold_named(text):
        return text
    if "</" in text:
        text = _conceal_matches(_ELEMENT, text, secrecy)
    if "input_value=" in text:
        text = _conceal_matches(_FIELD_INPUT, text, secrecy)
    pieces: list[str] = []
    copied_to = 0
    for start, end in _spans_of_named(text, secrecy):
        pieces += (text[copied_to:start], REDACTED)
        copied_to = end
    if not pieces:
        return text
    pieces.append(text[copied_to:])
    return "".join(pieces)


def _spans_of_named(text: str, secrecy: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    """Yield where the values start and end that stand behind names of secrets."""
    harmless: set[str] = set()  # names that mean no secret wherever they stand: most recur
    position: int | None = 0
    while position is not None:
        candidates = _CANDIDATE.finditer(text, position)
        position = None
        for candidate in candidates:
            option, assigned, _, first = candidate.groups()
            name = option or assigned or first
            if name in harmless:
                continue
            level = secrecy(name)
            if level == NOT_SECRET:
                if name.lower() not in _NAMES_WITH_OWNERS:
                    harmless.add(name)
                    continue
                level = _secrecy_with_owner(text, candidate.start(), name, secrecy)
            start = candidate.end()
            end = 0 if level == NOT_SECRET else _end_of_secret(text, candidate, name, level)
            if end > start:
                yield start, end
                position = end  # the next name begins behind it
                break


def _conceal_matches(pattern: re.Pattern[str], text: str, secrecy: Callable[[str], int]) -> str:
    """Return a text with the ``value`` of each match concealed whose ``name`` means a secret."""

    def conceal(match: re.Match[str]) -> str:
        value = match["value"].strip()
        level = max(map(secrecy, match["name"].split(".")))
        if level not in (TOKEN_LIKE, SECRET) or not value or value in _REVEALS_NOTHING:
            return match.group()
        if level == TOKEN_LIKE and _NUMBER.fullmatch(value):
            return match.group()
        start, end = (place - match.start() for place in match.span("value"))
        return match.group()[:start] + REDACTED + match.group()[end:]

    return pattern.sub(conceal, text)


def _secrecy_with_owner(text: str, name_start: int, name: str, secrecy: Callable[[str], int]) -> int:
    """Return how far a name means a secret with the word before it, as in ``API key``."""
    owner = _OWNER_OF_KEY.search(text, max(0, name_start - 11), name_start)
    return secrecy(owner[1] + name) if owner else NOT_SECRET


def _end_of_secret(text: str, candidate: re.Match[str], name: str, level: int) -> int:
    """Return where the value behind the name of a secret ends that is to be concealed; 0 if none is."""
    name_start, start = candidate.start(), candidate.end()
    if text.startswith("://", max(0, name_start - 3)):
        return 0
    if candidate["option"] and text.startswith("-", start):
        return 0  # the next option: this one is a flag
    if level == SERVICE:
        word = _WORD.match(text, start)
        return word.end(1) if word and looks_like_service_key(word[1]) else 0
    if candidate["first"]:
        return _end_of_pair(text, name_start, start)
    if candidate["assigned"] and text[max(0, name_start - 1) : name_start] in ("?", "&"):
        end = _end_at(_IN_QUERY, text, start)
    else:
        is_header = candidate["sign"] == ":" and _HEADER.search(name) is not None
        end = _value_end(text, start, is_header=is_header)
        if default := _DEFAULT.match(text, end):  # of a parameter with a type: `password: str = "x"`
            end = _value_end(text, default.end(), is_header=False)
    value = text[start:end]
    return 0 if value in _REVEALS_NOTHING or (level == TOKEN_LIKE and _NUMBER.fullmatch(value)) else end


def _end_of_pair(text: str, name_start: int, start: int) -> int:
    """Return where the quoted text of a pair ends, as in ``("Cookie", "x")``; 0 if it is no pair."""
    quote = _QUOTE.match(text, start)
    if quote is None or not _PAIR_START.search(text[max(0, name_start - 8) : name_start]):
        return 0
    end = _quote_end(text, quote)
    return end if end == len(text) or _PAIR_END.match(text, end) else 0


def _end_at(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _value_end(text: str, start: int, *, is_header: bool) -> int:
    """Return where the value that begins at ``start`` ends."""
    scheme = _SCHEME.match(text, start)
    quote = _QUOTE.match(text, start)
    if quote:
        return _quote_end(text, quote)
    opening = _OPENING.match(text, start)
    if opening:
        return _bracket_end(text, opening.end() - 1)
    if scheme:
        return _end_at(_BARE, text, scheme.end())
    return _end_at(_REST_OF_LINE if is_header else _BARE, text, start)


def _quote_end(text: str, quote: re.Match[str]) -> int:
    """Return where a quoted value ends; the end of the text if its quote is not closed."""
    escape, mark = quote.groups()
    position = quote.end()
    while (position := text.find(escape + mark, position)) >= 0:
        first = position
        while not escape and text[first - 1] == "\\":
            first -= 1
        is_escaped = (position - first) % 2 == 1
        position += len(escape) + len(mark)
        if not is_escaped:
            return position
    return len(text)


def _bracket_end(text: str, start: int) -> int:
    """Return where a value in brackets ends; the end of the text if they are not closed."""
    depth = 0
    for match in _BRACKET.finditer(text, start):
        if match.group() in "[({":
            depth += 1
        elif match.group() in "])}":
            depth -= 1
            if depth <= 0:
                return match.end()
    return len(text)


def conceal_literals(line: str, secrecy: Callable[[str], int]) -> str:
    """Return a line of source without its string literals, if any name in it means a secret."""
    if "'" not in line and '"' not in line:
        return line
    if all(secrecy(name) == NOT_SECRET for name in _IDENTIFIER.findall(line)):
        return line
    return _LITERAL.sub(f"'{REDACTED}'", line)
