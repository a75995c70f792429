"""Credentials in URLs.

Flows in: any text. Flows out: the same text, with the credentials of everything concealed that looks like a
URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable

REDACTED = "***"

_URL_RUN = re.compile(r"[^\s\"'<>]*")
_PARAMETER = re.compile(r"([?&;#])([^=&;#?\s]{1,64})=([^&;#\s]+)")
_SCHEME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-"
_PARAMETER_NAMES = frozenset({"auth", "key", "sig"})  # secrets in a query (`?key=`), but ordinary elsewhere
_AUTHORITY_END = re.compile(r"[/?#]")  # or the end of the text
# A path with one slash of the two, as `pathlib` writes a URL. A digest behind "@" is that of an image.
_ONE_SLASH = re.compile(
    r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{1,20}:/)(?!/)"
    r"[^\s/:@\"'<>]{0,100}:[^\s/@\"'<>]{1,200}@(?!sha\d+:)"
)


def conceal_in_urls(text: str, is_secret: Callable[[str], bool]) -> str:
    """Return a text with the credentials of everything in it that looks like a URL concealed.

    Concealed are `user:password` before the host, and the values of parameters that are named like secrets:
    `?password=`, `&token=`, `;sig=`. For http and https a user without a password is concealed too, because
    it may be a token.

    Parameters
    ----------
    text
        Any text. The time is linear in its length.
    is_secret
        Whether a parameter of this name holds a secret.
    """
    separator = text.find("://")
    if separator < 0:
        return text

    def conceal_parameter(match: re.Match[str]) -> str:
        delimiter, name, _ = match.groups()
        lowered = name.lower()
        if lowered in _PARAMETER_NAMES or lowered.endswith("signature") or is_secret(name):
            return f"{delimiter}{name}={REDACTED}"
        return match.group()

    pieces: list[str] = []
    copied_to = run_end = 0
    while separator >= 0:
        start = separator + 3
        if start >= run_end:
            run = _URL_RUN.match(text, start)
            run_end = run.end() if run else start
        end = run_end
        next_separator = text.find("://", start, end)
        if next_separator >= 0:  # a second URL right behind: in a list, or as a parameter of the first
            end = start + len(text[start:next_separator].rstrip(_SCHEME_CHARACTERS))
        after_scheme = text[start:end]
        if "@" in after_scheme or ":" in after_scheme:
            after_scheme = _conceal_user(after_scheme, text[max(0, separator - 5) : separator])
        if "=" in after_scheme:
            after_scheme = _PARAMETER.sub(conceal_parameter, after_scheme)
        pieces += (text[copied_to:start], after_scheme)
        copied_to = end
        separator = next_separator if next_separator >= 0 else text.find("://", end)
    pieces.append(text[copied_to:])
    return "".join(pieces)


def conceal_in_paths(text: str) -> str:
    """Return a text with `user:password` concealed in URLs of which a path has left one slash, `http:/`."""
    return _ONE_SLASH.sub(rf"\1{REDACTED}@", text) if ":/" in text and "@" in text else text


def _conceal_user(text: str, scheme: str) -> str:
    """Return what follows `scheme://` in a URL, without user and password.

    Parameters
    ----------
    text
        What follows.
    scheme
        The scheme, or its last five characters.
    """
    authority_end = _AUTHORITY_END.search(text)
    end = authority_end.start() if authority_end else len(text)
    at_sign = text.rfind("@", 0, end)
    if at_sign >= 0:
        user = text[:at_sign]
        if not (":" in user or scheme.lower().endswith(("http", "https")) or "%3a" in user.lower()):
            at_sign = -1
    elif _password_holds_delimiter(text[:end]):
        at_sign = text.rfind("@")
        if at_sign < 0 and text.startswith(":"):  # a password without a host
            return REDACTED + text[end:]
    return REDACTED + text[at_sign:] if at_sign >= 0 else text


def _password_holds_delimiter(authority: str) -> bool:
    # redis://:pa/ss@host is not a valid URL, but people write it. host:8080/a@b must stay as it is.
    host, colon, port = authority.partition(":")
    return bool(colon) and not authority.startswith("[") and (not host or bool(port and not port.isdigit()))
