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

from flowprov.environment.program import script_path
from flowprov.environment.small_files import read_file
from flowprov.values import as_name
from flowprov.values.redaction import redactor

_URL = re.compile(r"^\s*url\s*=\s*(\S+)", re.MULTILINE)
_MAX_REFS = 4 << 20  # some 60,000 branches and tags; of more, the commit is not looked for


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

    They are read from the files in ``.git``, which do not tell whether there are uncommitted changes. A file
    that cannot be read, or is none, leaves out what it would say, and nothing else.
    """
    script = script_path()
    try:
        start = Path.cwd() if script is None else Path(script).resolve().parent
    except (OSError, ValueError, RuntimeError):  # a folder that was deleted, a loop of links
        return None
    for folder in (start, *start.parents):
        if os.path.lexists(folder / ".git"):
            return _describe_repository(folder)
    return None


def _describe_repository(folder: Path) -> dict[str, Any]:
    git = folder / ".git"
    if pointer := read_file(git):  # in a worktree or a submodule, the file has the path of the real folder
        git = folder / pointer.partition("gitdir:")[2].strip()
    common = git / read_file(git / "commondir").strip()
    head = read_file(git / "HEAD").strip()
    repository: dict[str, Any] = {"folder": as_name(folder)}
    if head.startswith("ref:"):
        reference = head.partition(":")[2].strip()
        repository["branch"] = as_name(reference.removeprefix("refs/heads/"))
        repository["commit"] = _read_commit(common, reference)
    else:
        repository["commit"] = as_name(head) or None
    if url := _URL.search(read_file(common / "config")):
        repository["remote"] = as_name(redactor().text(url[1]))
    return repository


def _read_commit(git: Path, reference: str) -> str | None:
    if loose := read_file(git / reference).strip():
        return as_name(loose)
    packed = read_file(git / "packed-refs", _MAX_REFS)
    found = re.search(rf"^(\S+) {re.escape(reference)}$", packed, re.MULTILINE)
    return as_name(found[1]) if found else None
