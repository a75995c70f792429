"""The switch that turns flowprov off for a process, whatever the settings say.

Flows in: ``FLOWPROV_DISABLED``. Flows out: yes or no.
"""

from __future__ import annotations

import os

DISABLED_VARIABLE = "FLOWPROV_DISABLED"
_NO = frozenset(("", "0", "false", "f", "no", "n", "off", "none", "null", "~"))


def disabled_by_environment() -> bool:
    """Whether ``FLOWPROV_DISABLED`` turns flowprov off: by any value but one that says no.

    Who sets it wants flowprov off, and people type ``1``, ``y``, ``True``, ``on`` and more.
    """
    value = os.environ.get(DISABLED_VARIABLE)
    return value is not None and value.strip().lower() not in _NO
