"""What ``git status`` says of a working tree, without running a filter of the repository.

Flows in: a repository and a deadline. Flows out: how its files differ from the commit. What git cannot know,
as a filter would have to run, or a file changed only after the moment in question, is counted as unknown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flowprov.versioning.git_command import run_git
from flowprov.versioning.git_filters import (
    UnknownFiltersError,
    configured_filters,
    emptied,
    filtered_paths,
)

_STATUS = (
    "status",
    "--porcelain=v2",
    "-z",
    "--branch",
    "--no-ahead-behind",
    "--no-renames",
    "--untracked-files=normal",
    "--ignore-submodules=dirty",  # else git would run itself in them, with their filters
)
_PATH_AT = {b"1": 8, b"2": 9, b"u": 10}  # the field of an entry that is its path
_MAX_PATHS = 5_000  # changed files that are looked at one by one


class WorkingTree(NamedTuple):
    """How the files of a repository differ from its commit.

    Attributes
    ----------
    failure
        Why nothing is known; None if something is.
    commit
        The commit; None if there is none yet.
    changed
        Files that are changed, staged or not.
    untracked
        Paths that git does not track and does not ignore; a folder of such files is one.
    filtered
        Changed files of which only their filter could tell whether they differ.
    later
        Files that changed after the moment in question: whether they were changed before is not known.
    settings
        The settings that empty the filters.
    """

    failure: str | None = None
    commit: str | None = None
    changed: tuple[bytes, ...] = ()
    untracked: tuple[bytes, ...] = ()
    filtered: tuple[bytes, ...] = ()
    later: tuple[bytes, ...] = ()
    settings: tuple[str, ...] = ()


def read_status(folder: Path, deadline: float, moment: int | None = None) -> WorkingTree:
    """Return how the files of a repository differ from its commit.

    Parameters
    ----------
    folder
        The top of the working tree.
    deadline
        When git is killed, on the monotonic clock.
    moment
        Nanoseconds since the epoch: what changed from then on was not there yet. None for now.
    """
    try:
        filters = configured_filters(folder, deadline)
    except UnknownFiltersError as error:
        return WorkingTree(str(error))
    settings = tuple(emptied(filters))
    answer = run_git(folder, _STATUS, deadline, settings=settings)
    if answer.failure is not None:
        return WorkingTree(answer.failure)
    commit, staged, unstaged, untracked = _parse(answer.output)
    filtered: set[bytes] = set()
    if filters and unstaged:
        found = filtered_paths(folder, sorted(unstaged), filters, deadline)
        if not isinstance(found, set):
            return WorkingTree(found.failure, commit)
        filtered = found
    later = _changed_since(folder, unstaged - filtered, moment)
    return WorkingTree(
        None,
        commit,
        tuple(sorted(staged | (unstaged - filtered - later))),
        tuple(sorted(untracked)),
        tuple(sorted(filtered - staged)),
        tuple(sorted(later - staged)),
        settings,
    )


def _parse(output: bytes) -> tuple[str | None, set[bytes], set[bytes], set[bytes]]:
    """Return the commit, the files that are changed in the index, in the folder only, and not tracked."""
    commit = None
    staged: set[bytes] = set()
    unstaged: set[bytes] = set()
    untracked: set[bytes] = set()
    for kind, fields, path in _entries(output):
        if kind == b"#":
            if fields[:1] == [b"branch.oid"] and fields[1:] != [b"(initial)"]:
                commit = os.fsdecode(fields[1])
        elif kind == b"?":
            untracked.add(path)
        elif kind == b"u" or fields[:1] != [b".."]:
            in_index, in_folder = (b"U", b"U") if kind == b"u" else (fields[0][:1], fields[0][1:])
            is_submodule = fields[1][:1] == b"S"
            (unstaged if in_index == b"." and in_folder != b"." and not is_submodule else staged).add(path)
    return commit, staged, unstaged, untracked


def _entries(output: bytes) -> Iterator[tuple[bytes, list[bytes], bytes]]:
    """Yield kind, fields and path of each entry of ``--porcelain=v2 -z``."""
    parts = iter(output.split(b"\0"))
    for entry in parts:
        kind, _, rest = entry.partition(b" ")
        if kind == b"2":
            next(parts, b"")  # where a renamed file was before
        if kind in _PATH_AT:
            *fields, path = rest.split(b" ", _PATH_AT[kind] - 1)
            yield kind, fields, path
        elif kind == b"#":
            yield kind, rest.split(b" "), b""
        elif kind == b"?":
            yield kind, [], rest


def _changed_since(folder: Path, paths: set[bytes], moment: int | None) -> set[bytes]:
    """Return the files that changed at a moment or later."""
    if moment is None or len(paths) > _MAX_PATHS:
        return set()
    return {path for path in paths if _modified_at(folder / os.fsdecode(path)) >= moment}


def _modified_at(path: Path) -> int:
    """Return when a file was changed; of one that is gone, when its folder was; 0 if that is gone too."""
    existing = next((one for one in (path, path.parent) if os.path.lexists(one)), None)
    try:
        return 0 if existing is None else existing.lstat().st_mtime_ns
    except OSError:  # it went away just now
        return 0
