"""Where a workflow ran: the user, the environment and the code, as far as that is free to tell.

Flows in: this process. Flows out: JSON-able descriptions. Nothing is started to find them out (no ``git``, no
probes), no environment variable is recorded but the name of the active environment, and each part may be
missing without the others.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from flowprov.values import redact_urls


@lru_cache(maxsize=1)
def user() -> str | None:
    """Name the user, None where the system does not know one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def environment_id() -> str:
    """Name the Python environment: conda's name for it, else the folder of the interpreter's prefix."""
    return os.environ.get("CONDA_DEFAULT_ENV") or sys.prefix


@lru_cache(maxsize=1)
def code_repository() -> dict[str, Any] | None:
    """Describe the git repository of the running program: commit, branch and address.

    It is read from the files of ``.git``; whether there are uncommitted changes is not known from these.
    """
    try:
        start = Path(sys.argv[0]).resolve().parent if sys.argv and sys.argv[0] else Path.cwd()
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return _describe_repository(folder)
    except (OSError, ValueError, IndexError):
        return None
    return None


def _describe_repository(folder: Path) -> dict[str, Any]:
    git = folder / ".git"
    if git.is_file():  # a worktree or a submodule: the file says where the real one is
        git = (folder / git.read_text().partition("gitdir:")[2].strip()).resolve()
    common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
    head = (git / "HEAD").read_text().strip()
    found: dict[str, Any] = {"folder": str(folder)}
    if head.startswith("ref:"):
        reference = head.partition(":")[2].strip()
        found["branch"] = reference.removeprefix("refs/heads/")
        found["commit"] = _resolve(common, reference)
    else:
        found["commit"] = head
    config = common / "config"
    if config.exists() and (address := re.search(r"^\s*url\s*=\s*(\S+)", config.read_text(), re.MULTILINE)):
        found["remote"] = redact_urls(address[1])
    return found


def _resolve(git: Path, reference: str) -> str | None:
    loose = git / reference
    if loose.exists():
        return loose.read_text().strip()
    packed = git / "packed-refs"
    if packed.exists():
        for line in packed.read_text().splitlines():
            if line.endswith(" " + reference):
                return line.split()[0]
    return None
