"""Mappings of named values, whatever a program gives where one is expected.

Flows in: what the program gives as ``used``, ``generated`` or ``custom_metadata``. Flows out: a mapping.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from flowprov.asynchronous import interrupted_reading
from flowprov.values.budget import Budget, Limits
from flowprov.values.omegaconf import config_entries
from flowprov.values.redaction import redactor

_RESOLVING_S = 0.0005  # seconds of processor time, for the interpolations of one configuration


def as_mapping(values: Any, name: str) -> Mapping[Any, Any]:
    """Return named values as a mapping; it never raises.

    Parameters
    ----------
    values
        A mapping, which is returned itself, but for a configuration of OmegaConf, whose interpolations are
        recorded as those of any value; pairs of names and values; or None for no values.
    name
        The name under which anything else is kept.
    """
    if values is None:
        return {}
    try:
        cls = type(values)
        if is_mapping(values):
            return dict(entries_of_config(values)) or values
        if issubclass(cls, (list, tuple)) and all(type(pair) in (tuple, list) for pair in values):
            return dict(values)
    except BaseException as error:  # the code of its class, or a list that holds something else than pairs
        if interrupted_reading(error):
            raise
        return {name: values}
    return {name: values}


def is_mapping(value: object) -> bool:
    """Whether a value is a mapping whose entries may be recorded. The environment never is, whole."""
    return issubclass(type(value), Mapping) and value is not os.environ


def entries_of_config(value: object) -> list[tuple[Any, Any]]:
    """Return the entries of a configuration of OmegaConf, resolved while there is time; none of others."""
    budget = Budget(Limits(max_seconds=_RESOLVING_S), sys.maxsize)
    entries, _ = config_entries(value, sys.maxsize, redactor().secrecy, budget)
    return list(entries)


def as_dict(values: Any, name: str) -> dict[Any, Any]:
    """Return named values as a new dictionary; it never raises. The parameters are those of `as_mapping`."""
    try:
        return dict(as_mapping(values, name))
    except BaseException as error:  # the mapping's own code
        if interrupted_reading(error):
            raise
        return {name: values}
