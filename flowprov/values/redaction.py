"""What looks like a secret: keys that name one, and credentials inside text.

Flows in: names of values, and text (strings, reprs, messages). Flows out: whether a name means a secret, and
the same text without credentials. Names are read as words, so that `hf_token` is a secret and `pad_token`,
which every tokenizer has, is not.
"""

from __future__ import annotations

import re
from itertools import pairwise

NOT_SECRET, TOKEN_LIKE, SECRET = 0, 1, 2
"""TOKEN_LIKE: a secret where it is text; a number is taken for a token of a language model."""

CONCEALED = "***"

_MEMO_SIZE = 4096
_NAME_READ = 200  # characters of a name that are read
_URL_READ_ON = 4096  # characters read past the part that is kept, so that a cut never halves a credential

# One word of a name: an acronym before a capitalised word, a word in either case, a number.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEY_OWNERS = _set(
    "access account anthropic api app auth aws azure client consumer deploy encryption gcp github gpg "
    "hf hmac master openai pgp private rsa secret service session shared signing ssh ssl subscription "
    "tls wandb"
)
_PASS_OWNERS = _set("admin db ldap mail mongo mysql pg postgres redis root smtp ssh sudo user")
_SECRET_WORDS = (
    _set(
        "password passwords passwd passphrase passcode pwd secret secrets credential credentials creds "
        "authorization cookie cookies bearer jwt connectionstring"
    )
    | {owner + end for owner in _KEY_OWNERS for end in ("key", "keys")}
    | {f"{owner}pass" for owner in _PASS_OWNERS}
)
# Found inside one word too (`dbpassword`, `clientsecret`), but not in secretary, secreted, secretion.
_SECRET_PART = re.compile(
    r"password|passwd|passphrase|credential|authorization|(?:api|private|access)key|secret(?!ar|e|i|o)"
)

_TOKEN_OWNERS = _set("access api auth bearer github gitlab hf oauth refresh secret session slack")
_TOKEN_WORDS = {owner + end for owner in _TOKEN_OWNERS for end in ("token", "tokens")} | {
    f"{owner}token" for owner in _set("bot csrf gh git hub huggingface id security wandb xsrf")
}
_AFTER_TOKEN = _set("header secret string value")
# What stands before "token" where it means a piece of text.
_TEXT_TOKEN = _set(
    "additional answer any assistant audio begin blank boa boi bos class cls context continuation "
    "cross current decoder dist distillation domain draft dummy each encoder end eoa eod eoi eom eos "
    "eot filler fim first forced generated image img input is label lang language last latent mask "
    "max memory middle min n negative new newline next no num out output pad padding patch per "
    "placeholder positive predicted prefix prev previous prompt query reasoning register sampled sep "
    "separator single sot source space special speech src start stop sub subword suffix system target "
    "text tgt think thinking tool trigger true unk unknown user video vision vocab word yes"
)

_LEVELS: dict[str, int] = {}


def secret_level(name: str) -> int:
    """Say how far a name means a secret: `NOT_SECRET`, `TOKEN_LIKE` or `SECRET`."""
    level = _LEVELS.get(name)
    if level is None:
        level = _read_level(name)
        if len(_LEVELS) >= _MEMO_SIZE:
            _LEVELS.clear()
        _LEVELS[name] = level
    return level


def is_secret_key(name: str) -> bool:
    """Say whether a value of this name is taken for a secret.

    Case and separators do not matter: `api_key`, `API-KEY`, `apiKey` and `apikey` are one. Names that belong
    to text models (`pad_token`, `max_tokens`, `token_ids`, `tokenizer`) and to attention (`key`,
    `key_padding_mask`) are no secrets.
    """
    return secret_level(name) != NOT_SECRET


def _read_level(name: str) -> int:
    if "://" in name:  # an address as a key names nothing; credentials in it are concealed as in any text
        return NOT_SECRET
    words = [word.lower() for word in _WORD.findall(name[:_NAME_READ])]
    if not words:
        return NOT_SECRET
    pairs = [first + second for first, second in pairwise(words)]
    known = {*words, *pairs}
    if known & _SECRET_WORDS or words[-1] == "auth" or any(_SECRET_PART.search(word) for word in words):
        return SECRET
    if known & _TOKEN_WORDS:
        return TOKEN_LIKE
    if words[-1] in _AFTER_TOKEN:
        words.pop()
    if words and words[-1] == "token" and not _TEXT_TOKEN.intersection(words):
        return TOKEN_LIKE
    return NOT_SECRET


# --- text -------------------------------------------------------------------------------------------------

_STRETCH = re.compile(r"[^\s\"'<>]*")
_PARAMETER = re.compile(r"([?&;#])([^=&;#?\s]{1,64})=([^&;#\s]+)")
_SCHEME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
_PARAMETER_NAMES = _set("auth key sig")  # secrets in a query (`?key=`), ordinary names elsewhere
_AUTHORITY_END = re.compile(r"[/?#]|$")


def redact_urls(text: str) -> str:
    """Conceal the credentials of every URL-shaped piece of a text; the rest stays as it is.

    Concealed are `user:password` before the host (for http and https a user alone too, as tokens are handed
    over that way) and the values of parameters that are named like secrets: `?password=`, `&token=`, `;sig=`.

    Parameters
    ----------
    text
        Any text; time is linear in its length.
    """
    return _redact_up_to(text, len(text))


def redact_start(text: str, limit: int) -> str:
    """Conceal the credentials in the first `limit` characters, also in a URL that only begins there."""
    return _redact_up_to(text[: limit + _URL_READ_ON], limit)[:limit]


def _redact_up_to(text: str, limit: int) -> str:
    at = text.find("://")
    if at < 0:
        return text
    pieces: list[str] = []
    done = stretch_end = 0
    while 0 <= at < limit:
        start = at + 3
        if start >= stretch_end:
            stretch = _STRETCH.match(text, start)
            stretch_end = stretch.end() if stretch else start
        end = stretch_end
        following = text.find("://", start, end)
        if following >= 0:  # another URL in the same stretch: in a list, or as a parameter of this one
            end = following
            while end > start and text[end - 1] in _SCHEME_CHARACTERS:
                end -= 1
        web = text[max(0, at - 5) : at].lower().endswith(("http", "https"))
        pieces += (text[done:start], _without_credentials(text[start:end], web=web))
        done = end
        at = following if following >= 0 else text.find("://", end)
    pieces.append(text[done:])
    return "".join(pieces)


def _without_credentials(body: str, *, web: bool) -> str:
    found = _AUTHORITY_END.search(body)
    end = found.start() if found else len(body)
    at = body.rfind("@", 0, end)
    if at >= 0:
        user = body[:at]
        if not (web or ":" in user or "%3a" in user.lower()):
            at = -1
    elif _password_holds_delimiter(body[:end]):
        at = body.rfind("@")
    if at >= 0:
        body = CONCEALED + body[at:]
    return _PARAMETER.sub(_conceal_parameter, body)


def _password_holds_delimiter(authority: str) -> bool:
    # redis://:pa/ss@host is no valid URL, but people write it; host:8080/a@b must stay.
    host, colon, port = authority.partition(":")
    return bool(colon) and not authority.startswith("[") and (not host or bool(port and not port.isdigit()))


def _conceal_parameter(match: re.Match[str]) -> str:
    mark, name, _ = match.groups()
    lowered = name.lower()
    if lowered in _PARAMETER_NAMES or lowered.endswith("signature") or is_secret_key(name):
        return f"{mark}{name}={CONCEALED}"
    return match.group()


_ASSIGNED = re.compile(r"(?<![\w-])([A-Za-z_][\w-]{0,63})['\"]?\s{0,2}[=:]\s{0,2}")
_ASSIGNED_VALUE = re.compile(
    r"(?:[Bb]earer|[Bb]asic)\s+\S+|b?'(?:[^'\\]|\\.)*'?|b?\"(?:[^\"\\]|\\.)*\"?|[^\s,;)}\]]+"
)


def redact_repr(text: str, limit: int) -> str:
    """Conceal credentials in the first `limit` characters of a repr: URLs, `password='...'`."""
    text = _redact_up_to(text[: limit + _URL_READ_ON], limit + _URL_READ_ON)
    pieces: list[str] = []
    done = 0
    for assigned in _ASSIGNED.finditer(text):
        start = assigned.end()
        if start <= done or start > limit or not is_secret_key(assigned[1]):
            continue
        value = _ASSIGNED_VALUE.match(text, start)
        if value:
            pieces += (text[done:start], CONCEALED)
            done = value.end()
    pieces.append(text[done:])
    return "".join(pieces)[:limit]
