"""Settings in the environment: ``FLOWPROV__A__B=value``, and ``FLOWPROV_PROFILE=name``.

Flows in: the environment. Flows out: the keys and values of the settings in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flowprov.settings.key_tree import all_paths
from flowprov.settings.report import closest
from flowprov.settings.sources import PROFILE_KEY
from flowprov.settings.yaml_text import parse_value

ENVIRONMENT_PREFIX = "FLOWPROV__"
PROFILE_VARIABLE = "FLOWPROV_PROFILE"
_PREFIX = "FLOWPROV_"
_OTHERS = (
    PROFILE_VARIABLE,
    "FLOWPROV_DISABLED",
    "FLOWPROV_SETTINGS_PATH",
    "FLOWPROV_CAMPAIGN_ID",
    "FLOWPROV_WORKFLOW_ID",
    "FLOWPROV_PARENT_TASK_ID",
    "FLOWPROV_SCOREBOARDS",
    "FLOWPROV_RANK_OF",
)
"""The variables that flowprov reads, besides those of single keys."""
_CLOSE = 0.85


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Read the settings in the environment.

    Yields
    ------
    tuple
        The variable's name, the path of the key in lower case, the value. Shorter paths come first, so that a
        variable for a whole section does not undo one for a key in it. An empty variable counts as not set:
        that is how compose files and scripts pass on what they were not given.
    """
    names = [name for name in environ if name.upper().startswith(ENVIRONMENT_PREFIX)]
    for name in sorted(names, key=lambda name: (name.count("__"), name)):
        value = environ[name]
        if isinstance(value, str) and not value.strip():
            continue
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        yield name, path, parse_value(value) if isinstance(value, str) else value
    if (profile := environ.get(PROFILE_VARIABLE, "")).strip():
        yield PROFILE_VARIABLE, (PROFILE_KEY,), parse_value(profile)


def variable_of(path: Iterable[str]) -> str:
    """Return the variable of the environment that sets a key."""
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def slips(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield variables that flowprov does not read, each with the one that it probably means.

    An empty one counts as not set.
    """
    known = {name.lower(): name for name in (*_OTHERS, *map(variable_of, all_paths()))}
    for name, value in environ.items():
        is_ours = name.startswith(ENVIRONMENT_PREFIX) or name.lower() in known
        if name.startswith(_PREFIX) and not is_ours and value.strip():
            meant = closest(name, known, cutoff=_CLOSE)
            if meant is not None:
                yield name, known[meant]
