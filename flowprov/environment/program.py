"""The program that this process runs.

Flows in: the arguments of the process. Flows out: its script and arguments, and the folders in which its code
may lie.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def script_path() -> str | None:
    """Return the path of the program, as it was given; None if there is none.

    A process that embeds Python may have no arguments, and a program may put anything into them.
    """
    arguments = getattr(sys, "argv", None)
    first = arguments[0] if isinstance(arguments, (list, tuple)) and arguments else None
    return os.fsdecode(first) or None if isinstance(first, (str, bytes, os.PathLike)) else None


def arguments() -> list[object]:
    """Return the arguments of the program, without its path."""
    given = getattr(sys, "argv", None)
    return list(given[1:]) if isinstance(given, (list, tuple)) else []


def script_folder() -> Path | None:
    """Return the folder of the script; None if there is none, or if it is gone."""
    script = script_path()
    if script is None or script in ("-c", "-m"):
        return None
    try:
        return Path(script).resolve().parent
    except (OSError, ValueError, RuntimeError):  # a folder that was deleted, a loop of links
        return None


def working_folder() -> Path | None:
    """Return the current folder; None if it is gone."""
    try:
        return Path.cwd()
    except (OSError, ValueError):
        return None
