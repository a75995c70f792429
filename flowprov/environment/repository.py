"""The git repository around a folder, as the files in ``.git`` describe it; no git is started.

Flows in: a folder. Flows out: where its repository is, and its commit, branch, remote and the like. The files
are read at each call, as a program may commit while it runs. A file that cannot be read, or is none, leaves
out what it would say, and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flowprov.environment.small_files import read_file
from flowprov.values import as_name
from flowprov.values.redaction import redactor

_MAX_REFS = 4 << 20  # some 60,000 branches and tags; of more, the commit is not looked for
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1, or SHA-256
_SECTION = re.compile(r'\[\s*([\w.-]+)\s*(?:"((?:[^"\\]|\\.)*)")?\s*\]')
_VARIABLE = re.compile(r"([A-Za-z][\w-]*)\s*=\s*(.*)")
_OPERATIONS = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}


class Repository(NamedTuple):
    """Where a repository is.

    Attributes
    ----------
    folder
        The top of its working tree; of a bare repository, itself.
    git
        The folder with its HEAD and its index.
    common
        The folder with its references and its configuration: of a linked worktree, another one.
    is_bare
        Whether it has no working tree.
    """

    folder: Path
    git: Path
    common: Path
    is_bare: bool = False


def find_repository(start: Path) -> Repository | None:
    """Return the repository in which a folder lies; None if it lies in none."""
    for folder in (start, *start.parents):
        git = folder / ".git"
        if os.path.lexists(git):
            if pointer := read_file(git):  # of a worktree or a submodule: the path of the real folder
                git = folder / pointer.partition("gitdir:")[2].strip()
            return Repository(folder, git, git / read_file(git / "commondir").strip())
        if all(map(os.path.exists, (folder / "objects", folder / "refs", folder / "HEAD"))):
            return Repository(folder, folder, folder, is_bare=True)
    return None


def describe_repository(repository: Repository) -> dict[str, Any]:
    """Return folder, branch, commit and remote of a repository."""
    described: dict[str, Any] = {"folder": as_name(repository.folder)}
    branch, commit = head_of(repository)
    if branch is not None:
        described["branch"] = as_name(branch)
    described["commit"] = commit
    remote, _ = remote_and_upstream(repository, branch)
    if remote is not None:
        described["remote"] = remote
    return described


def head_of(repository: Repository) -> tuple[str | None, str | None]:
    """Return the branch and the commit; None for what there is not."""
    head = read_file(repository.git / "HEAD").strip()
    if not head.startswith("ref:"):
        return None, _commit_in(head)
    reference = head.partition(":")[2].strip()
    commit = _commit_in(read_file(repository.git / reference)) or _commit_in(
        read_file(repository.common / reference)
    )
    if commit is None:
        packed = read_file(repository.common / "packed-refs", _MAX_REFS)
        found = re.search(rf"^(\S+) {re.escape(reference)}$", packed, re.MULTILINE)
        commit = _commit_in(found[1]) if found else None
    return reference.removeprefix("refs/heads/"), commit


def remote_and_upstream(repository: Repository, branch: str | None) -> tuple[str | None, str | None]:
    """Return the address of the remote, without credentials, and the branch that is followed there.

    The remote is that of the branch, else ``origin``, else the only one. The address is the one that the
    configuration holds as text: git would replace a part of it (``insteadOf``), which may hold a token.
    """
    urls: dict[str, str] = {}
    name = followed = None
    for section, sub, key, value in _variables(read_file(repository.common / "config")):
        if section == "remote" and key == "url" and sub:
            urls.setdefault(sub, value)
        elif section == "branch" and sub == branch and key == "remote":
            name = value
        elif section == "branch" and sub == branch and key == "merge":
            followed = value.removeprefix("refs/heads/")
    upstream = f"{name}/{followed}" if name and followed else None
    if name not in urls:
        name = "origin" if "origin" in urls else next(iter(urls), None) if len(urls) == 1 else None
    address = as_name(redactor().text(urls[name])) if name is not None else None
    return address, as_name(upstream)


def linked_worktree(repository: Repository) -> str | None:
    """Return the name of a linked worktree; None for the main one."""
    is_linked = repository.git.parent.name == "worktrees" and repository.git != repository.common
    return as_name(repository.git.name) if is_linked else None


def is_shallow(repository: Repository) -> bool:
    """Whether the repository holds only a part of its history."""
    return (repository.common / "shallow").exists()


def operation_of(repository: Repository) -> str | None:
    """Return what git has not finished: a merge, a rebase and the like; None if there is nothing."""
    names = (word for file, word in _OPERATIONS.items() if os.path.lexists(repository.git / file))
    return next(names, None)


def submodule_paths(repository: Repository) -> list[str]:
    """Return the paths of the submodules that ``.gitmodules`` names."""
    variables = _variables(read_file(repository.folder / ".gitmodules"))
    return [value for section, _, key, value in variables if section == "submodule" and key == "path"]


def _commit_in(text: str) -> str | None:
    text = text.strip()
    return text if _COMMIT.fullmatch(text) else None


def _variables(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield section, subsection, name and value of each variable of a configuration of git."""
    section = sub = ""
    for line in text.splitlines():
        stripped = line.strip()
        if found := _SECTION.match(stripped):
            section, sub = found[1].lower(), re.sub(r"\\(.)", r"\1", found[2] or "")
            stripped = stripped[found.end() :].strip()
        if found := _VARIABLE.match(stripped):
            yield section, sub, found[1].lower(), _value(found[2])


def _value(text: str) -> str:
    """Return the value of a variable without its quotes, and without a comment behind it."""
    value, quoted, characters = "", False, iter(text)
    for character in characters:
        if character == "\\":
            value += next(characters, "")
        elif character == '"':
            quoted = not quoted
        elif character in "#;" and not quoted:
            break
        else:
            value += character
    return value.rstrip()
