"""The user, the Python environment and the code repository of a workflow.

Flows in: this process. Flows out: descriptions as JSON values. No process is started to find them (no
``git``). Of the environment variables, only the name of the active environment is recorded. Each part may be
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
    """Return the name of the user, None if the system does not know one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def environment_id() -> str:
    """Return the name of the Python environment: conda's name for it, else the interpreter's prefix."""
    return os.environ.get("CONDA_DEFAULT_ENV") or sys.prefix


@lru_cache(maxsize=1)
def code_repository() -> dict[str, Any] | None:
    """Return folder, commit, branch and remote of the git repository of the program, None if it has none.

    They are read from the files in ``.git``, which do not tell whether there are uncommitted changes.
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
    if git.is_file():  # in a worktree or a submodule, the file has the path of the real folder
        git = (folder / git.read_text().partition("gitdir:")[2].strip()).resolve()
    common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
    head = (git / "HEAD").read_text().strip()
    repository: dict[str, Any] = {"folder": str(folder)}
    if head.startswith("ref:"):
        reference = head.partition(":")[2].strip()
        repository["branch"] = reference.removeprefix("refs/heads/")
        repository["commit"] = _read_commit(common, reference)
    else:
        repository["commit"] = head
    config = common / "config"
    if config.exists() and (url := re.search(r"^\s*url\s*=\s*(\S+)", config.read_text(), re.MULTILINE)):
        repository["remote"] = redact_urls(url[1])
    return repository


def _read_commit(git: Path, reference: str) -> str | None:
    loose = git / reference
    if loose.exists():
        return loose.read_text().strip()
    packed = git / "packed-refs"
    if packed.exists():
        for line in packed.read_text().splitlines():
            if line.endswith(" " + reference):
                return line.split()[0]
    return None
