"""Arguments of a command line without the secrets in them, as a list and by name.

Flows in: arguments. Flows out: the same as texts, each through the redactor; and what stands behind an option
that is named like a secret (``--token X``) is concealed, too. Of these texts, what has a name: ``--lr 0.1``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Any

from flowprov.values.names import as_name
from flowprov.values.redaction import redactor
from flowprov.values.secret_names import NOT_SECRET
from flowprov.values.url_credentials import REDACTED

_MAX_ARGUMENTS = 1_000
_MAX_NAMED = 200
_REVEALS_NOTHING = frozenset({"", "true", "false", "none", "null"})
_OPTION = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)
_OVERRIDE = re.compile(r"\+{0,2}([A-Za-z_][\w./@-]*)=(.*)", re.DOTALL)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_MAX_NUMBER = 40  # characters


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


def named_arguments(arguments: Iterable[object]) -> dict[str, Any]:
    """Return the arguments that have a name, without secrets: the first 200 names.

    Named are ``--key value``, ``--key=value`` and ``key=value``, as Hydra's overrides are; an option without
    a value is True. Dashes in the names of options become underscores, as in argparse. Numbers are numbers,
    and what is given several times, or as several numbers, is a list.
    """
    found: dict[str, list[Any]] = {}
    texts = redact_arguments(arguments)
    position = 0
    while position < len(texts) and texts[position] != "--":  # behind it nothing is an option
        text = texts[position]
        position += 1
        option = _OPTION.fullmatch(text)
        if option is not None and option[2] is None:
            values = _values_behind(texts, position)
            position += len(values)
            _add(found, option[1].replace("-", "_"), values or [True])
        elif option is not None:
            _add(found, option[1].replace("-", "_"), [_number_or_text(option[2])])
        elif (override := _OVERRIDE.fullmatch(text)) is not None:
            _add(found, override[1], [_number_or_text(override[2])])
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _values_behind(texts: list[str], position: int) -> list[Any]:
    """Return the values of an option: what stands behind it and has no name itself, and further numbers."""
    values: list[Any] = []
    for text in texts[position:]:
        value = _number_or_text(text)
        is_number = not isinstance(value, str)
        if not is_number and (values or text.startswith("-") or _OVERRIDE.fullmatch(text)):
            break
        values.append(value)
        if not is_number:
            break
    return values


def _number_or_text(text: str) -> int | float | str:
    """Return a number as such; one with leading zeros is none."""
    if len(text) > _MAX_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and math.isfinite(float(text)) else text


def _add(found: dict[str, list[Any]], name: str, values: list[Any]) -> None:
    if name in found or len(found) < _MAX_NAMED:
        found.setdefault(name, []).extend(values)
