"""The state of the code of a program: its commit, and how far its files differ from that.

Flows in: a repository, a deadline, and the moment that is asked about. Flows out: a description as JSON
values, the patch if it is asked for, and the paths of what DVC keeps in git. What is unknown is None, and
``reason`` says why.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowprov.environment.repository import (
    Repository,
    find_repository,
    head_of,
    is_shallow,
    linked_worktree,
    operation_of,
    remote_and_upstream,
    submodule_paths,
)
from flowprov.values import as_name
from flowprov.versioning.git_command import NOT_INSTALLED, TIMEOUT, run_git
from flowprov.versioning.git_status import WorkingTree, read_status

_DIFF = (
    "diff",
    *("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty"),
    *("--submodule=short", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/", "-U3", "-M"),
    "--diff-algorithm=myers",
    "HEAD",
    "--",
)
_DVC_FILES = ("ls-files", "-z", "--", "*.dvc", "dvc.lock", "*/dvc.lock")
_DESCRIBE = ("describe", "--tags", "--always", "--long", "--abbrev=12", "HEAD")
_MAX_PATCH = 32 << 20
_MAX_EXCLUDED = 500  # files that are left out of a patch
_MAX_SUBMODULES = 50
_NO_REPOSITORY = "neither the script nor the current folder lies in a git repository"


class CodeState(NamedTuple):
    """What is known of the code.

    Attributes
    ----------
    described
        The description.
    patch
        What is changed in files that git tracks; None if that was not asked, or is not known.
    dvc_files
        The files of DVC, by their paths in the repository; None if git could not say.
    """

    described: dict[str, Any]
    patch: bytes | None = None
    dvc_files: list[str] | None = None


def read_code_state(
    repository: Repository | None,
    deadline: float,
    *,
    moment: int | None = None,
    patch: bool = False,
    ignored: Path | None = None,
) -> CodeState:
    """Return the state of the code in a repository.

    Parameters
    ----------
    repository
        The repository; None if there is none.
    deadline
        When git is killed, on the monotonic clock.
    moment
        Nanoseconds since the epoch: what changed from then on is unknown. None for now.
    patch
        Whether the patch itself is wanted, and not only its digest.
    ignored
        A folder of files that git does not track, and that do not count: our own buffer.
    """
    if repository is None:
        return CodeState({"vcs": None, "state": "none", "reason": _NO_REPOSITORY}, dvc_files=[])
    code = _from_files(repository)
    if repository.is_bare:
        code |= {"state": "bare", "reason": "a bare repository has no files of its own"}
        return CodeState(code, dvc_files=[])
    tree = read_status(repository.folder, deadline, moment)
    if tree.failure is not None:
        return CodeState(code | {"state": _state_of(tree.failure), "reason": as_name(tree.failure)})
    code["commit"] = as_name(tree.commit)
    untracked = [path for path in tree.untracked if not _is_ignored(repository.folder, path, ignored)]
    code |= {"changed": len(tree.changed), "untracked": len(untracked)}
    dvc_files = list_dvc_files(repository.folder, deadline, tree.untracked)
    submodules, changed_submodules, unknown = _read_submodules(repository, deadline, moment)
    if submodules:
        code["submodules"] = submodules
    if tree.commit is None:
        code |= {"state": "no_commits", "reason": "the repository has no commit to compare with"}
        return CodeState(code, dvc_files=dvc_files)
    code |= {"state": "ok", **_dirty(tree, changed_submodules, unknown)}
    taken = _describe_changes(code, repository, tree, deadline)
    described = run_git(repository.folder, _DESCRIBE, deadline)
    code["describe"] = None if described.failure else as_name(os.fsdecode(described.output.strip()))
    return CodeState(code, taken if patch else None, dvc_files)


def _from_files(repository: Repository) -> dict[str, Any]:
    """Return what the files of a repository say without git."""
    branch, commit = head_of(repository)
    remote, upstream = remote_and_upstream(repository, branch)
    return {
        "folder": as_name(repository.folder),
        "vcs": "git",
        "commit": commit,
        "branch": as_name(branch),
        "dirty": None,
        "changed": None,
        "untracked": None,
        "diff_sha256": None,
        "diff_bytes": None,
        "describe": None,
        "remote": remote,
        "upstream": upstream,
        "worktree": linked_worktree(repository),
        "submodules": {},
        "shallow": is_shallow(repository),
        "operation": operation_of(repository),
        "state": "ok",
        "reason": None,
    }


def _state_of(failure: str) -> str:
    if failure == NOT_INSTALLED:
        return "no_git"
    if failure == TIMEOUT:
        return "timeout"
    if "dubious ownership" in failure or "unsafe repository" in failure:
        return "not_owned"
    return "failed"


def _dirty(tree: WorkingTree, changed_submodules: int, unknown: list[str]) -> dict[str, Any]:
    """Return whether files are changed; None with the reason where what is known does not tell."""
    if tree.filtered:
        unknown.append(f"{_count(tree.filtered)} may differ: only a filter of the repository could tell")
    if tree.later:
        unknown.append(f"{_count(tree.later)} changed after the workflow had begun")
    if tree.changed or changed_submodules:
        return {"dirty": True, "reason": "; ".join(unknown) or None}
    return {"dirty": None, "reason": "; ".join(unknown)} if unknown else {"dirty": False}


def _count(paths: tuple[bytes, ...]) -> str:
    return "1 file" if len(paths) == 1 else f"{len(paths)} files"


def _describe_changes(
    code: dict[str, Any], repository: Repository, tree: WorkingTree, deadline: float
) -> bytes | None:
    """Add the digest of the patch to a description; return the patch."""
    excluded = (*tree.filtered, *tree.later)
    if not tree.changed or len(excluded) > _MAX_EXCLUDED:
        return None
    paths = [f":(top,literal,exclude){os.fsdecode(path)}" for path in excluded]
    diff = [*_DIFF, *((":/", *paths) if paths else ())]
    answer = run_git(repository.folder, diff, deadline, settings=tree.settings, max_output=_MAX_PATCH)
    if answer.failure is not None:
        reasons = [code["reason"], f"the patch is not known: {answer.failure}"]
        code["reason"] = as_name("; ".join(filter(None, reasons)))
        return None
    code["diff_sha256"] = hashlib.sha256(answer.output).hexdigest()
    code["diff_bytes"] = len(answer.output)
    return answer.output


def _read_submodules(
    repository: Repository, deadline: float, moment: int | None
) -> tuple[dict[str, str | None], int, list[str]]:
    """Return the commits of the submodules, how many have changed files, and of which that is not known."""
    commits: dict[str, str | None] = {}
    changed, unknown = 0, []
    for path in submodule_paths(repository)[:_MAX_SUBMODULES]:
        name = as_name(path, "")
        folder = repository.folder / path
        inner = find_repository(folder) if (folder / ".git").exists() else None
        if inner is None or inner.folder != folder:
            commits[name] = None  # it is not checked out
            continue
        commits[name] = head_of(inner)[1]
        tree = read_status(inner.folder, deadline, moment)
        changed += bool(tree.changed)
        if tree.failure is not None or tree.filtered or tree.later:
            unknown.append(f"submodule {name}: {tree.failure or 'some files cannot be compared'}")
    return commits, changed, unknown


def list_dvc_files(folder: Path, deadline: float, untracked: Sequence[bytes] = ()) -> list[str] | None:
    """Return the files of DVC in a repository; None if git cannot say. Nothing walks into the data.

    Parameters
    ----------
    folder
        The top of the working tree.
    deadline
        When git is killed, on the monotonic clock.
    untracked
        What git does not track: files of DVC among it count.
    """
    found = run_git(folder, _DVC_FILES, deadline)
    if found.failure is not None:
        return None
    new = [path for path in untracked if path.endswith(b".dvc") or path.rpartition(b"/")[2] == b"dvc.lock"]
    return [os.fsdecode(path) for path in sorted({*filter(None, found.output.split(b"\0")), *new})]


def _is_ignored(folder: Path, path: bytes, ignored: Path | None) -> bool:
    return ignored is not None and folder / os.fsdecode(path.rstrip(b"/")) == ignored


def deadline_in(seconds: float) -> float:
    """Return the deadline for what may take so many seconds, on the monotonic clock."""
    return time.monotonic() + seconds
