"""Say why a server could not be used, without a word that a client library found in its address.

Flows in: an error of a client library, and the address. Flows out: a reason for people.

A password that is not percent-encoded can be read as a host, a port, a database or an option. Client
libraries quote these in their messages, so a message about a connection is never quoted. What a server
answers is quoted, unless the address can be misread.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator

from flowprov.settings import is_ambiguous_uri, redact_text

_MESSAGE_LENGTH = 300
_TIMEOUTS = re.compile(r" \(configured timeouts:[^)]*\)|, Timeout: .*", re.DOTALL)
_TLS = re.compile(r"\[(?:SSL|X509): ([A-Z_]+)\]")
_ERRNO = re.compile(r"\[Errno (\d+)\]|\bError (\d+) |\((\d+), ['\"]")
_NAME_NOT_KNOWN, _TIMED_OUT = "its name is not known", "no answer in time"
# What the message of a client library says besides the address, and what is said in its place.
_REASONS = {
    "name or service not known|name resolution|nodename|getaddrinfo|dns": _NAME_NOT_KNOWN,
    "timed? ?out|timeout": _TIMED_OUT,
    "refused": os.strerror(errno.ECONNREFUSED),
    "loading": "it is loading its data",
    "max number of clients|too many connections": "it has too many clients",
    "closed|reset|broken pipe|eof": "the connection was closed",
    "no primary|not (a )?(master|primary)|no replica set members|no servers": "it has no primary",
    "certificate|ssl|tls|handshake": "TLS failed",
}


def connection_reason(error: BaseException) -> str:
    """Return why there is no connection, in words that hold no part of an address."""
    reason = next(filter(None, map(_reason_of_cause, _causes(error))), None)
    if reason is not None:
        return reason
    text = _TIMEOUTS.sub("", str(error))
    if match := _TLS.search(text):
        return f"TLS failed ({match[1]})"
    if match := _ERRNO.search(text):
        return os.strerror(int(next(filter(None, match.groups()))))
    reasons = (reason for words, reason in _REASONS.items() if re.search(words, text, re.IGNORECASE))
    return next(reasons, type(error).__name__)


def _reason_of_cause(cause: BaseException) -> str | None:
    if isinstance(cause, socket.gaierror):
        return _NAME_NOT_KNOWN
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or type(cause).__name__})"
    if isinstance(cause, TimeoutError):
        return _TIMED_OUT
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else None


def answer_reason(error: BaseException, uri: str, text: str) -> str:
    """Return what a server answered; only the type of the error if its address can be misread.

    Parameters
    ----------
    error
        The error.
    uri
        The address.
    text
        The message of the error, without the records that it quotes.
    """
    if is_ambiguous_uri(uri):
        code = getattr(error, "code", None)
        return type(error).__name__ + (f" {code}" if isinstance(code, int) else "")
    text = redact_text(text) or type(error).__name__
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]}…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
