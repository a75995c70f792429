"""Paths as people write them: with ``~`` and with the variables of the environment.

Flows in: a path as it was given. Flows out: the path that is meant, or a variable that is not set.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


class ExpandedPath(NamedTuple):
    """A path with its variables replaced.

    Attributes
    ----------
    path
        The path; a variable that is not set stands in it as it was given.
    unset
        The first variable that is not set, or is empty, as it was given; None if all are set.
    """

    path: str
    unset: str | None


def expand_variables(path: str, environ: Mapping[str, str]) -> ExpandedPath:
    """Return a path with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced.

    An empty variable counts as one that is not set: ``$SCRATCH/prov`` must not become ``/prov``.
    """
    unset: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        name, _, default = (match[1] or "").partition(":-")
        value = environ.get(match[2] or name) or default
        if not value:
            unset.append(match[0])
            return match[0]
        return value

    expanded = _VARIABLE.sub(value_of, path)
    return ExpandedPath(expanded, unset[0] if unset else None)


def expand_existing(path: str) -> str:
    """Return the path that is meant by one that should exist: as it is if it does, else expanded."""
    if os.path.exists(path):  # noqa: PTH110 - pathlib raises for a NUL
        return path
    expanded = expand_variables(path, os.environ)
    try:
        return path if expanded.unset else os.path.expanduser(expanded.path)  # noqa: PTH111 - the same
    except ValueError:  # no user can have that name
        return path


def fallback_folder() -> str:
    """Return the buffer folder of last resort; one per user, as users share the temporary folder."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:  # nothing can be written anywhere: whoever tries says so
        temporary = "/tmp"  # noqa: S108 - the folder in it is checked before it is used
    return os.path.join(temporary, f"flowprov_buffer_{os.getuid()}")  # noqa: PTH118 - a text, as all of these
