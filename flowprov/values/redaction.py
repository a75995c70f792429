"""Redaction: names that mean a secret, and credentials inside text.

Flows in: names of values, and text (strings, reprs, messages). Flows out: whether a name means a secret, and
the same text without credentials. A name is split into words, so that `hf_token` is a secret, while
`pad_token`, which every tokenizer has, is none.
"""

from __future__ import annotations

import re
from itertools import pairwise

NOT_SECRET, TOKEN_LIKE, SECRET = 0, 1, 2
"""How far a name means a secret. TOKEN_LIKE: text is a secret, a number is a token of a language model."""

REDACTED = "***"

_MAX_CACHED = 4096
_MAX_NAME = 200  # characters of a name that are looked at
_URL_LOOKAHEAD = 4096  # characters that are read beyond a cut, so that the cut never halves a credential

# One word of a name: an acronym before a capitalized word, a word in either case, a number.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEY_OWNERS = _words(
    "access account anthropic api app auth aws azure client consumer deploy encryption gcp github gpg "
    "hf hmac master openai pgp private rsa secret service session shared signing ssh ssl subscription "
    "tls wandb"
)
_PASS_OWNERS = _words("admin db ldap mail mongo mysql pg postgres redis root smtp ssh sudo user")
_SECRET_WORDS = (
    _words(
        "password passwords passwd passphrase passcode pwd secret secrets credential credentials creds "
        "authorization cookie cookies bearer jwt connectionstring"
    )
    | {owner + end for owner in _KEY_OWNERS for end in ("key", "keys")}
    | {f"{owner}pass" for owner in _PASS_OWNERS}
)
# Searched inside words too (`dbpassword`, `clientsecret`), but not found in secretary, secreted, secretion.
_SECRET_PART = re.compile(
    r"password|passwd|passphrase|credential|authorization|(?:api|private|access)key|secret(?!ar|e|i|o)"
)

_TOKEN_OWNERS = _words("access api auth bearer github gitlab hf oauth refresh secret session slack")
_TOKEN_WORDS = {owner + end for owner in _TOKEN_OWNERS for end in ("token", "tokens")} | {
    f"{owner}token" for owner in _words("bot csrf gh git hub huggingface id security wandb xsrf")
}
_AFTER_TOKEN = _words("header secret string value")
# A word before "token" that makes it a token of text.
_TEXT_TOKEN = _words(
    "additional answer any assistant audio begin blank boa boi bos class cls context continuation "
    "cross current decoder dist distillation domain draft dummy each encoder end eoa eod eoi eom eos "
    "eot filler fim first forced generated image img input is label lang language last latent mask "
    "max memory middle min n negative new newline next no num out output pad padding patch per "
    "placeholder positive predicted prefix prev previous prompt query reasoning register sampled sep "
    "separator single sot source space special speech src start stop sub subword suffix system target "
    "text tgt think thinking tool trigger true unk unknown user video vision vocab word yes"
)

_secrecy_cache: dict[str, int] = {}


def secrecy_of(name: str) -> int:
    """Return how far a name means a secret: `NOT_SECRET`, `TOKEN_LIKE` or `SECRET`."""
    secrecy = _secrecy_cache.get(name)
    if secrecy is None:
        secrecy = _rate_name(name)
        if len(_secrecy_cache) >= _MAX_CACHED:
            _secrecy_cache.clear()
        _secrecy_cache[name] = secrecy
    return secrecy


def is_secret_key(name: str) -> bool:
    """Whether a value of this name is taken for a secret.

    Case and separators do not matter: `api_key`, `API-KEY`, `apiKey` and `apikey` are the same name. Names of
    text models (`pad_token`, `max_tokens`, `token_ids`, `tokenizer`) and of attention (`key`,
    `key_padding_mask`) are no secrets.
    """
    return secrecy_of(name) != NOT_SECRET


def _rate_name(name: str) -> int:
    if "://" in name:  # a URL is no name of a value; its credentials are concealed as in any text
        return NOT_SECRET
    words = [word.lower() for word in _WORD.findall(name[:_MAX_NAME])]
    if not words:
        return NOT_SECRET
    pairs = [first + second for first, second in pairwise(words)]
    terms = {*words, *pairs}
    if terms & _SECRET_WORDS or words[-1] == "auth" or any(_SECRET_PART.search(word) for word in words):
        return SECRET
    if terms & _TOKEN_WORDS:
        return TOKEN_LIKE
    if words[-1] in _AFTER_TOKEN:
        words.pop()
    if words and words[-1] == "token" and not _TEXT_TOKEN.intersection(words):
        return TOKEN_LIKE
    return NOT_SECRET


# --- text -------------------------------------------------------------------------------------------------

_URL_RUN = re.compile(r"[^\s\"'<>]*")
_PARAMETER = re.compile(r"([?&;#])([^=&;#?\s]{1,64})=([^&;#\s]+)")
_SCHEME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
_PARAMETER_NAMES = _words("auth key sig")  # secrets in a query (`?key=`), but ordinary names elsewhere
_AUTHORITY_END = re.compile(r"[/?#]|$")


def redact_urls(text: str) -> str:
    """Return a text with the credentials of everything in it that looks like a URL concealed.

    Concealed are `user:password` before the host, and the values of parameters that are named like secrets:
    `?password=`, `&token=`, `;sig=`. For http and https a user without a password is concealed too, because
    it may be a token.

    Parameters
    ----------
    text
        Any text. The time is linear in its length.
    """
    return _redact_up_to(text, len(text))


def redact_start(text: str, limit: int) -> str:
    """Return the first `limit` characters without credentials, even of a URL that only begins in them."""
    return _redact_up_to(text[: limit + _URL_LOOKAHEAD], limit)[:limit]


def _redact_up_to(text: str, limit: int) -> str:
    separator = text.find("://")
    if separator < 0:
        return text
    pieces: list[str] = []
    copied_to = run_end = 0
    while 0 <= separator < limit:
        start = separator + 3
        if start >= run_end:
            run = _URL_RUN.match(text, start)
            run_end = run.end() if run else start
        end = run_end
        next_separator = text.find("://", start, end)
        if next_separator >= 0:  # a second URL right behind: in a list, or as a parameter of the first
            end = next_separator
            while end > start and text[end - 1] in _SCHEME_CHARACTERS:
                end -= 1
        is_http = text[max(0, separator - 5) : separator].lower().endswith(("http", "https"))
        pieces += (text[copied_to:start], _redact_after_scheme(text[start:end], is_http=is_http))
        copied_to = end
        separator = next_separator if next_separator >= 0 else text.find("://", end)
    pieces.append(text[copied_to:])
    return "".join(pieces)


def _redact_after_scheme(text: str, *, is_http: bool) -> str:
    """Return what follows `scheme://` in a URL, without credentials."""
    authority_end = _AUTHORITY_END.search(text)
    end = authority_end.start() if authority_end else len(text)
    at_sign = text.rfind("@", 0, end)
    if at_sign >= 0:
        user = text[:at_sign]
        if not (is_http or ":" in user or "%3a" in user.lower()):
            at_sign = -1
    elif _password_holds_delimiter(text[:end]):
        at_sign = text.rfind("@")
    if at_sign >= 0:
        text = REDACTED + text[at_sign:]
    return _PARAMETER.sub(_redact_parameter, text)


def _password_holds_delimiter(authority: str) -> bool:
    # redis://:pa/ss@host is not a valid URL, but people write it. host:8080/a@b must stay as it is.
    host, colon, port = authority.partition(":")
    return bool(colon) and not authority.startswith("[") and (not host or bool(port and not port.isdigit()))


def _redact_parameter(match: re.Match[str]) -> str:
    delimiter, name, _ = match.groups()
    lowered = name.lower()
    if lowered in _PARAMETER_NAMES or lowered.endswith("signature") or is_secret_key(name):
        return f"{delimiter}{name}={REDACTED}"
    return match.group()


_ASSIGNMENT = re.compile(r"(?<![\w-])([A-Za-z_][\w-]{0,63})['\"]?\s{0,2}[=:]\s{0,2}")
_ASSIGNED_VALUE = re.compile(
    r"(?:[Bb]earer|[Bb]asic)\s+\S+|b?'(?:[^'\\]|\\.)*'?|b?\"(?:[^\"\\]|\\.)*\"?|[^\s,;)}\]]+"
)


def redact_repr(text: str, limit: int) -> str:
    """Return the first `limit` characters of a repr without credentials: in URLs, and as `password='...'`."""
    text = _redact_up_to(text[: limit + _URL_LOOKAHEAD], limit + _URL_LOOKAHEAD)
    pieces: list[str] = []
    copied_to = 0
    for assignment in _ASSIGNMENT.finditer(text):
        start = assignment.end()
        if start <= copied_to or start > limit or not is_secret_key(assignment[1]):
            continue
        value = _ASSIGNED_VALUE.match(text, start)
        if value:
            pieces += (text[copied_to:start], REDACTED)
            copied_to = value.end()
    pieces.append(text[copied_to:])
    return "".join(pieces)[:limit]
