"""Credentials taken out of URIs before anybody sees them.

Flows in: any text. Flows out: the same text with user names, passwords and secret-looking query values
replaced. Where a text can be read in two ways, more of it is hidden rather than less.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_USER_INFO = re.compile(r"://.*@", re.DOTALL)
_BARE_USER_INFO = re.compile(r"\A.*@", re.DOTALL)
_NETWORK_PLACE = re.compile(r"://([^/?#@]*)")
_HOST = r"(?:[\w.\-]*|\[[0-9A-Fa-f:.%]+\])(?::\d*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_QUERY_PAIR = re.compile(r"([?&][^=&]*=)([^&]*)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|auth|cred|user|sig|%", re.IGNORECASE)


def redact_uri(uri: str) -> str:
    """Hide the credentials in one URI.

    Parameters
    ----------
    uri
        A URI, well formed or not. An ``@`` in an unescaped password is reckoned with.

    Returns
    -------
    str
        The URI with ``***`` for its user information and for query values whose pair looks secret.
    """
    if "://" not in uri:
        return _BARE_USER_INFO.sub(f"{HIDDEN}@", uri)
    return redact_text(uri)


def redact_text(text: str) -> str:
    """Hide the credentials of URIs that stand in a text; a text without ``://`` is returned as it is."""
    if "://" not in text:
        return text
    # Greedy up to the last "@": a password may hold "@", "/", "#" and blanks that nobody escaped.
    text = _USER_INFO.sub(f"://{HIDDEN}@", text)
    text = _NETWORK_PLACE.sub(_hide_odd_place, text)
    return _QUERY_PAIR.sub(_hide_secret_pair, text)


def _hide_odd_place(match: re.Match[str]) -> str:
    """Hide what stands where hosts belong and is none, as in ``redis://:password`` without its host."""
    place = match.group(1)
    return match.group(0) if place == HIDDEN or _HOSTS.fullmatch(place) else f"://{HIDDEN}"


def _hide_secret_pair(match: re.Match[str]) -> str:
    return f"{match.group(1)}{HIDDEN}" if _SECRET.search(match.group(0)) else match.group(0)
