"""Names that mean a secret.

Flows in: names of values, fields and parameters. Flows out: how far each means a secret. A name is split into
words, so that `hf_token` is a secret, while `pad_token`, which every tokenizer has, is none.
"""

from __future__ import annotations

import re
from itertools import pairwise

NOT_SECRET, TOKEN_LIKE, SECRET, SERVICE = 0, 1, 2, 3
"""How far a name means a secret. TOKEN_LIKE: text is one, a number is a token of a language model, or an
index. SERVICE: the name of a service; a text is a secret if it looks like a key of that service."""

_MAX_NAME = 200  # characters of a name that are looked at

# One word of a name: an acronym before a capitalized word, a word in either case, a number.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEY_OWNERS = _words(
    "access account anthropic api app auth aws azure client consumer deploy encryption gcp github gpg "
    "hf hmac master openai pgp private rsa secret service session shared signing ssh ssl subscription "
    "tls wandb"
)
_PASS_OWNERS = _words(
    "admin db key keystore ldap mail mongo mysql pg postgres redis root smtp ssh store sudo user"
)
_SECRET_WORDS = (
    _words(
        "password passwords passwd passphrase passcode pwd secret secrets credential credentials creds "
        "authorization cookie cookies bearer jwt connectionstring connstring connstr connectionstr "
        "seedphrase recoverycode recoverycodes backupcodes"
    )
    | {owner + end for owner in _KEY_OWNERS for end in ("key", "keys")}
    | {f"{owner}pass" for owner in _PASS_OWNERS}
)
# Searched inside words too (`dbpassword`, `clientsecret`), but not found in secretary, secreted, secretion.
_SECRET_PART = re.compile(
    r"password|passwd|passphrase|credential|authorization|(?:api|private|access)key|secret(?!ar|e|i|o)"
)
_LAST_SECRET_WORDS = _words("auth authentication otp totp hotp")
_LAST_SECRET_PAIRS = {
    *(f"{owner}pin" for owner in _words("access account card login my security sim unlock user")),
    *(first + second for first in ("otp", "totp", "pin") for second in ("code", "codes", "seed")),
}

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
# Words of a name that ends in "key" and means no secret: a column, an index, a field, the key of attention.
_PLAIN_KEY = _words(
    "action agent alternate anchor annotation answer any arrow attention attn audio batch bbox bias "
    "block bucket cache candidate caption category cell checkpoint child chunk class cluster column "
    "common composite config context coord count cross current dask data dataset date default "
    "dependency desc dest destination device dict dim document down edge element embedding embeddings "
    "encoder enter entity env event example experiment extra feature features field file filter first "
    "flag foreign frame from function graph group groupby hash head header heads hidden hot id idx "
    "image img index indices info input item jax job join json key label language last latent layer "
    "left length level line link list log logits lookup loss map mapping mask match merge message meta "
    "metadata metric modality mode model module monitor n name natural negative nested neuron new next "
    "node num number numpy object obs observation old one op option options order other out output "
    "padding parameter parent partition past patch path pixel placement pointer positive pred "
    "prediction preferred prefix press primary prng proj projection prompt property pub public qkv "
    "query question random range rank raw record ref reference release remote replica request response "
    "result return reward right ring rng root routing row run s3 sample schema scope score search "
    "second section seed segment self sentence sequence series shape shard shortcut sort source spec "
    "special split src state static step storage store str string struct sub subject summary surrogate "
    "system table tag target task template temporal tensor test text tgt time title to token tokens top "
    "track train trainer transform tree trial turn two type uid unique unit up uuid v val valid "
    "validation value values var variable vector version video view weight with word worker workflow x "
    "y z zip zset"
)
_SERVICES = _words("wandb comet neptune clearml cohere datadog mistral mixpanel algolia fastly")
# Of a service, but written out for everybody.
_PUBLIC_PARTS = _words(
    "commit digest dir entity experiment hash id name path project revision run sha url version"
)


def rate_name(name: str) -> int:
    """Return how far a name means a secret."""
    if "://" in name:  # a URL is no name of a value; its credentials are concealed as in any text
        return NOT_SECRET
    words = [word.lower() for word in _WORD.findall(name[:_MAX_NAME])]
    if not words:
        return NOT_SECRET
    pairs = [first + second for first, second in pairwise(words)]
    terms = {*words, *pairs}
    if (
        not terms.isdisjoint(_SECRET_WORDS)
        or words[-1] in _LAST_SECRET_WORDS
        or words == ["pin"]
        or (pairs and pairs[-1] in _LAST_SECRET_PAIRS)
        or any(_SECRET_PART.search(word) for word in words)
    ):
        return SECRET
    if not terms.isdisjoint(_TOKEN_WORDS) or _is_token(words) or _is_key(words):
        return TOKEN_LIKE
    is_service = not _SERVICES.isdisjoint(words) and _PUBLIC_PARTS.isdisjoint(words)
    return SERVICE if is_service else NOT_SECRET


def _is_token(words: list[str]) -> bool:
    last = -2 if len(words) > 1 and words[-1] in _AFTER_TOKEN else -1
    return words[last] == "token" and _TEXT_TOKEN.isdisjoint(words)


def _is_key(words: list[str]) -> bool:
    """Whether a name ends in "key" behind words that no column, field or index has."""
    *owners, last = words
    return last == "key" and bool(owners) and not any(len(w) == 1 or w in _PLAIN_KEY for w in owners)


_SERVICE_KEY = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{8}|[0-9a-f]{32})?|[A-Za-z0-9]{40}")


def looks_like_service_key(text: str) -> bool:
    """Whether a text may be the key of a service whose keys have no prefix: hex, or letters and digits."""
    return _SERVICE_KEY.fullmatch(text) is not None
