"""Filters of a git repository: programs that its configuration names, which never run for us.

Flows in: a repository. Flows out: settings that empty them, and the files whose content git cannot compare
then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from flowprov.versioning.git_command import GitAnswer, run_git

_LIST = ("config", "--null", "--name-only", "--get-regexp", r"^filter\.")
_NO_MATCH = "git ended with status 1"
_BATCH = 500  # paths in one command
_NO_FILTER = (b"unspecified", b"unset", b"set")


class UnknownFiltersError(Exception):
    """The filters cannot be listed or emptied, so that a command might run one."""


def configured_filters(folder: Path, deadline: float) -> set[str]:
    """Return the names of the filters that are configured.

    Raises
    ------
    UnknownFiltersError
        If that is not known, or if one of them cannot be emptied.
    """
    answer = run_git(folder, _LIST, deadline)
    if answer.failure not in (None, _NO_MATCH):
        raise UnknownFiltersError(answer.failure)
    names = set()
    for variable in filter(None, answer.output.split(b"\0")):
        name = os.fsdecode(variable).removeprefix("filter.").rpartition(".")[0]
        if "=" in name:  # on the command line the name would end there
            raise UnknownFiltersError(f"the filter {name!r} of the repository cannot be switched off")
        names.add(name)
    return names


def emptied(filters: set[str]) -> list[str]:
    """Return the settings that empty filters."""
    return [
        setting
        for name in sorted(filters)
        for setting in (f"filter.{name}.clean=", f"filter.{name}.process=", f"filter.{name}.required=false")
    ]


def filtered_paths(
    folder: Path, paths: Sequence[bytes], filters: set[str], deadline: float
) -> set[bytes] | GitAnswer:
    """Return those of some paths that a configured filter would change; the failure if git cannot say."""
    found: set[bytes] = set()
    rest = iter(paths)
    while batch := list(islice(rest, _BATCH)):
        names = [os.fsdecode(path) for path in batch]
        answer = run_git(folder, ["check-attr", "-z", "filter", "--", *names], deadline)
        if answer.failure is not None:
            return answer
        found.update(path for path, name in _attributes(answer.output) if _is_in(name, filters))
    return found


def _attributes(output: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield path and value: ``path`` NUL ``filter`` NUL ``value`` NUL."""
    parts = output.split(b"\0")
    return zip(parts[::3], parts[2::3], strict=False)


def _is_in(name: bytes, filters: set[str]) -> bool:
    return name not in _NO_FILTER and os.fsdecode(name) in filters
