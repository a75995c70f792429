"""The user, the Python environment and the code repository of a workflow.

Flows in: this process. Flows out: descriptions as JSON values. No process is started to find them (no
``git``). Of the environment variables, only the name of the active environment is recorded. Each part may be
missing without the others.
"""

from __future__ import annotations

import getpass
import os
import sys
from functools import lru_cache

from flowprov.environment.program import script_folder, working_folder
from flowprov.environment.repository import Repository, find_repository


@lru_cache(maxsize=1)
def user() -> str | None:
    """Return the name of the user, None if the system does not know one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def environment_id() -> str:
    """Return the name of the Python environment: conda's name for it, else the interpreter's prefix."""
    return os.environ.get("CONDA_DEFAULT_ENV") or sys.prefix


def repository_of_program() -> Repository | None:
    """Return the repository in which the script lies, else that of the current folder; None without any."""
    for folder in (script_folder(), working_folder()):
        if folder is not None and (found := find_repository(folder)) is not None:
            return found
    return None
