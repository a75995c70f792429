"""Arguments of a command line without the secrets in them.

Flows in: arguments. Flows out: the same as texts, each through the redactor; and what stands behind an option
that is named like a secret (``--token X``) is concealed, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise

from flowprov.values.names import as_name
from flowprov.values.redaction import redactor
from flowprov.values.secret_names import NOT_SECRET
from flowprov.values.url_credentials import REDACTED

_MAX_ARGUMENTS = 1_000
_REVEALS_NOTHING = frozenset({"", "true", "false", "none", "null"})


def redact_arguments(arguments: Iterable[object]) -> list[str]:
    """Return arguments as texts, without secrets.

    Concealed are the value behind an option (``--token X``, ``--api-key=X``), that of an override
    (``a.password=X``, ``+a.password=X``), credentials in addresses, and what looks like a secret.
    """
    texts = [as_name(argument, "") for argument in islice(arguments, _MAX_ARGUMENTS)]
    for position, (option, value) in enumerate(pairwise(texts), 1):
        if _is_secret_option(option) and not value.startswith("--") and value.lower() not in _REVEALS_NOTHING:
            texts[position] = REDACTED
    return texts


def _is_secret_option(text: str) -> bool:
    return text.startswith("-") and "=" not in text and redactor().secrecy(text.lstrip("-")) != NOT_SECRET
