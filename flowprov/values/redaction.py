"""Redaction: the one door through which text passes before it is recorded.

Flows in: names of values, and text: values, names, messages, reprs, tracebacks. Flows out: how far a name
means a secret, and the same text without secrets. What is cut is redacted first, so that no cut leaves half
of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flowprov.values.named_secrets import conceal_literals, conceal_named, may_hold_named
from flowprov.values.patterns import compile_pattern
from flowprov.values.secret_forms import MIN_LENGTH, Forms
from flowprov.values.secret_names import NOT_SECRET, SECRET, TOKEN_LIKE, rate_name
from flowprov.values.url_credentials import REDACTED, conceal_in_paths, conceal_in_urls

_MAX_CACHED = 4096
_MAX_CACHED_LENGTH = 200
_MAX_CACHED_FRAME = 400  # its file and its line of source
_LOOKAHEAD = 4_096  # characters that are read beyond a cut, for a secret that begins before it
_MARGIN = 64  # so many at least, and then to the end of a word
_WHITE_SPACE = re.compile(r"\s")
_LOOKBACK = 16_384  # and before one, for a private key of many lines
_SOURCE_LINE = re.compile(r"^[ |]* {4}\S.*$", re.MULTILINE)


class Redactor:
    """Conceals secrets, by the rules of this package and by those of the settings.

    Parameters
    ----------
    enabled
        Whether anything is concealed.
    names
        Further names that mean a secret; case and separators do not matter.
    patterns
        Further regular expressions: what they match is concealed.
    allow
        Names that mean no secret, and names of forms that are not looked for.

    Attributes
    ----------
    plain_texts
        Texts without a secret, as far as they were seen.
    has_own_rules
        Whether ``names`` or ``patterns`` add to the rules of this package.
    """

    __slots__ = (
        "_allowed",
        "_forms",
        "_names",
        "_patterns",
        "_plain_frames",
        "_secrecy",
        "enabled",
        "has_own_rules",
        "plain_texts",
    )

    def __init__(
        self,
        *,
        enabled: bool = True,
        names: Iterable[str] = (),
        patterns: Iterable[str] = (),
        allow: Iterable[str] = (),
    ) -> None:
        allow = frozenset(allow)
        self.enabled = enabled
        self._names = frozenset(map(_bare, names))
        self._patterns = tuple(map(compile_pattern, patterns))
        self._allowed = frozenset(map(_bare, allow))
        self._forms = Forms(allow)
        self._secrecy: dict[str, int] = {}
        self._plain_frames: set[str] = set()
        self.plain_texts: set[str] = set()
        self.has_own_rules = enabled and bool(self._names or self._patterns)

    def secrecy(self, name: str) -> int:
        """Return how far a name means a secret, as :mod:`flowprov.values.secret_names` says."""
        secrecy = self._secrecy.get(name)
        if secrecy is None:
            secrecy = self._rate(name)
            if len(self._secrecy) >= _MAX_CACHED:
                self._secrecy.clear()
            self._secrecy[name] = secrecy
        return secrecy

    def _rate(self, name: str) -> int:
        if not self.enabled:
            return NOT_SECRET
        if self._names or self._allowed:
            bare = _bare(name)
            if bare in self._names:
                return SECRET
            if bare in self._allowed:
                return NOT_SECRET
        return rate_name(name)

    def is_plain(self, text: str) -> bool:
        """Whether a text holds no secret; if it is short, it enters `plain_texts`."""
        if (
            "=" in text
            or ":" in text
            or "," in text
            or " " in text
            or "--" in text
            or "</" in text
            or self._patterns
        ):
            if self._holds_secret(text):
                return False
        elif len(text) >= MIN_LENGTH and self.enabled and self._forms.may_be(text):
            return False
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self.plain_texts) >= _MAX_CACHED:  # a program may make new texts without end
                self.plain_texts.clear()
            self.plain_texts.add(text)
        return True

    def _holds_secret(self, text: str) -> bool:
        if not self.enabled:
            return False
        if len(text) < MIN_LENGTH and not (":/" in text or " " in text or self._patterns):
            return conceal_named(text, self.secrecy) != text
        return self._may_hold_secret(text) and self._conceal(text) != text

    def _may_hold_secret(self, text: str) -> bool:
        """Whether it is worth while to look for secrets in a text."""
        return self.enabled and bool(self._patterns or may_hold_named(text) or self._forms.may_occur_in(text))

    def text(self, text: str) -> str:
        """Return a whole text without secrets; the same object if it holds none."""
        if len(text) > _MAX_CACHED_LENGTH:  # it is read only once
            concealed = self._conceal(text) if self._may_hold_secret(text) else text
            return text if concealed == text else concealed
        if text in self.plain_texts or self.is_plain(text):
            return text
        return self._conceal(text)

    def start(self, text: str, limit: int) -> str:
        """Return the first `limit` characters of a text without secrets, even of one that is cut there."""
        if not self.enabled or len(text) <= limit:
            return self.text(text)[:limit]
        farthest = limit + _LOOKAHEAD
        word_end = None if self._patterns else _WHITE_SPACE.search(text, limit + _MARGIN, farthest)
        if word_end or len(text) <= farthest:
            # What begins with a quote or a bracket is concealed to the end of the window: no more is read.
            return self._conceal(text[: word_end.start()] if word_end else text)[:limit]
        # The "@" ends the user information of a URL that goes on beyond the window.
        concealed = self._conceal(text[:farthest] + "@")
        if len(concealed) <= limit:  # so much is concealed that the end of the window is in sight
            concealed = concealed[: max(concealed.rfind(" "), 0)]  # without the word that it halves
        return concealed[:limit]

    def traceback(self, text: str, limit: int) -> str:
        """Return the last `limit` characters of a traceback without secrets.

        In lines of source with a name that means a secret, every string literal is concealed.
        """
        longest = limit + _LOOKBACK
        window = text[-longest:]
        if len(window) < len(text):
            window = window[window.find("\n") + 1 :]  # from a whole line on
        return self._conceal_in_traceback(window)[-limit:]

    def _conceal_in_traceback(self, text: str) -> str:
        if not self.enabled:
            return text
        text = _SOURCE_LINE.sub(lambda line: conceal_literals(line.group(), self.secrecy), text)
        return self._conceal(text) if self._may_hold_secret(text) else text

    def is_plain_frame(self, text: str) -> bool:
        """Whether the text of a frame holds no secret; if so, it is remembered."""
        if text in self._plain_frames:
            return True
        if not self.is_plain_part(text):
            return False
        if len(text) <= _MAX_CACHED_FRAME:
            if len(self._plain_frames) >= _MAX_CACHED:
                self._plain_frames.clear()
            self._plain_frames.add(text)
        return True

    def is_plain_part(self, text: str) -> bool:
        """Whether a part of a traceback holds no secret: whole lines, from a frame to what follows it.

        If all of its parts are plain, so is a traceback.
        """
        # A pattern of the settings may match over several parts.
        return not self._patterns and self._conceal_in_traceback(text) == text

    def _conceal(self, text: str) -> str:
        text = self._forms.conceal(text, REDACTED)
        text = conceal_in_urls(conceal_in_paths(text), self._is_secret)
        text = conceal_named(text, self.secrecy)
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text

    def _is_secret(self, name: str) -> bool:
        return self.secrecy(name) != NOT_SECRET


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


DEFAULT = Redactor()
"""The rules of this package alone. Ids pass through them: readers find these whatever their settings."""

_in_force = DEFAULT


def set_redactor(redactor: Redactor) -> None:
    """Set the redactor of this process, which the settings describe."""
    global _in_force  # noqa: PLW0603 - one slot per process, as names are given before and beside a runtime
    _in_force = redactor


def redactor() -> Redactor:
    """Return the redactor of this process, by its settings; until they load, the one of this package."""
    return _in_force


def is_secret_key(name: str) -> bool:
    """Whether a value of this name is taken for a secret, by the rules of this package.

    Case and separators do not matter: `api_key`, `API-KEY`, `apiKey` and `apikey` are the same name. Names of
    text models (`pad_token`, `max_tokens`, `token_ids`, `tokenizer`) and of attention (`key`,
    `key_padding_mask`) are no secrets.
    """
    return DEFAULT.secrecy(name) in (TOKEN_LIKE, SECRET)


def redact_urls(text: str) -> str:
    """Return a text with the credentials of everything in it that looks like a URL concealed."""
    return conceal_in_urls(text, is_secret_key)
