"""The files that changed between two commits.

Flows in: what two workflows recorded of their repositories. Flows out: the files, each with the short ids of
its two contents.

Git compares two trees that it has stored. It looks at no working tree, runs nothing that the repository's
configuration names, and fetches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowprov.versioning.code_state import deadline_in
from flowprov.versioning.git_command import run_git

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1, or SHA-256
_COMMAND = ("diff-tree", "-r", "-z", "--raw", "--abbrev=10", "--no-renames", "--no-ext-diff", "--no-textconv")
_MAX_WAIT_S = 10.0
_MOST = 1_000  # files


def changed_files(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """Return the files that differ between the commits of two repositories.

    Parameters
    ----------
    a, b
        What was recorded of the repositories: ``folder`` and ``commit``.

    Returns
    -------
    dict
        For each path the short id of its content in `a` and in `b`; None where it is not there. Nothing if
        git is not installed, or no folder of the two is a repository that has both commits.
    """
    commits = [str(one.get("commit")) for one in (a, b)]
    if commits[0] == commits[1] or not all(map(_COMMIT.fullmatch, commits)):
        return {}
    for folder in dict.fromkeys(str(one.get("folder")) for one in (a, b)):
        if (found := _compare(folder, *commits)) is not None:
            return found
    return {}


def _compare(folder: str, before: str, after: str) -> dict[str, list[str | None]] | None:
    """Return the files that changed; None if git cannot say."""
    if "\0" in folder or not Path(folder).is_dir():
        return None
    answer = run_git(folder, [*_COMMAND, before, after, "--"], deadline_in(_MAX_WAIT_S))
    return None if answer.failure is not None else dict(_parse(answer.output.decode("utf-8", "replace")))


def _parse(output: str) -> Iterator[tuple[str, list[str | None]]]:
    """Yield path and contents of each change: ``:100644 100644 0cfbf08 89e5b2e M`` NUL ``path`` NUL."""
    parts = output.split("\0")
    for change, path in list(zip(parts[::2], parts[1::2], strict=False))[:_MOST]:
        fields = change.split(" ")
        if len(fields) == 5:
            yield path, [None if set(content) == {"0"} else content for content in fields[2:4]]
