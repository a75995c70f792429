"""Redaction of URIs in settings, messages and reports.

Flows in: any text. Flows out: the same text with user names, passwords and secret-looking query values
replaced. Where a text can be understood in two ways, the larger part is concealed.
"""

from __future__ import annotations

import re

REDACTED = "***"

_USER_INFO = re.compile(r"://.*@", re.DOTALL)
_AUTHORITY_END = re.compile(r"[/?#]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(:|//)")
_BARE_USER_INFO = re.compile(r"\A.*@", re.DOTALL)
_AUTHORITY = re.compile(r"://([^/?#@]*)")
_HOST = r"(?:[\w.\-]*|\[[0-9A-Fa-f:.%]+\])(?::\d*)?"
_HOST_LIST = re.compile(rf"{_HOST}(?:,{_HOST})*")
_QUERY_PAIR = re.compile(r"([?&][^=&]*=)([^&]*)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|auth|cred|user|sig|%", re.IGNORECASE)


def redact_uri(uri: str) -> str:
    """Return a URI without its credentials.

    Parameters
    ----------
    uri
        A URI, valid or not. A password may hold an unescaped ``@``.

    Returns
    -------
    str
        The URI with ``***`` for its user information, and for each query value whose key or value looks like
        a secret.
    """
    if "://" not in uri:
        return _BARE_USER_INFO.sub(f"{REDACTED}@", uri)
    return redact_text(uri)


def is_ambiguous_uri(uri: str) -> bool:
    """Whether a URI has an ``@`` where a client need not take it for the end of the user information.

    A password that is not percent-encoded does that. Then a client may take a part of it for a host, and
    quote it.
    """
    rest = uri.partition("://")[2]
    end = _AUTHORITY_END.search(rest)
    authority = rest[: end.start()] if end else rest
    return "@" in rest[len(authority) :] or authority.count("@") > 1


def leads_elsewhere(uri: str) -> bool:
    """Whether a client would take a part of the user information for the host: it has a ``/`` or ``#``."""
    rest = uri.partition("://")[2]
    end = re.search("[/#]", rest.partition("?")[0])
    return end is not None and "@" in rest.partition("?")[0][end.start() :]


def redact_source(source: str) -> str:
    """Return the name of a source for a message: that of a path as it is, of a URI without credentials.

    A URI with a slip in it (``redis:/:password@host``) is taken for a path.
    """
    return redact_uri(source) if _SCHEME.match(source) else source


def redact_text(text: str) -> str:
    """Return a text without the credentials of the URIs in it; without ``://`` it is returned as it is."""
    if "://" not in text:
        return text
    # Greedy up to the last "@": a password may hold an unescaped "@", "/", "#" or space.
    text = _USER_INFO.sub(f"://{REDACTED}@", text)
    text = _AUTHORITY.sub(_redact_odd_authority, text)
    return _QUERY_PAIR.sub(_redact_secret_pair, text)


def _redact_odd_authority(match: re.Match[str]) -> str:
    """Conceal an authority that is no list of hosts, as in ``redis://:password`` without a host."""
    authority = match.group(1)
    return match.group(0) if authority == REDACTED or _HOST_LIST.fullmatch(authority) else f"://{REDACTED}"


def _redact_secret_pair(match: re.Match[str]) -> str:
    return f"{match.group(1)}{REDACTED}" if _SECRET.search(match.group(0)) else match.group(0)
