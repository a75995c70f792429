"""The program that this process runs.

Flows in: the arguments of the process. Flows out: the path of its script.
"""

from __future__ import annotations

import os
import sys


def script_path() -> str | None:
    """Return the path of the program, as it was given; None if there is none.

    A process that embeds Python may have no arguments, and a program may put anything into them.
    """
    arguments = getattr(sys, "argv", None)
    first = arguments[0] if isinstance(arguments, (list, tuple)) and arguments else None
    return os.fsdecode(first) or None if isinstance(first, (str, bytes, os.PathLike)) else None
