"""The folder of the journals, as other processes find it too: absolute, with variables replaced.

Flows in: ``journal.path`` as somebody wrote it. Flows out: an absolute path, or a problem.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from flowprov import guard
from flowprov.settings.paths import expand_variables, fallback_folder
from flowprov.settings.report import Problems, SourceLocation, shorten

_RELATIVE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)([^/:].*)")
JOURNAL_PATH = ("journal", "path")


def expand_journal_path(
    path: str,
    location: SourceLocation,
    environ: Mapping[str, str],
    problems: Problems,
    *,
    was_loaded: bool,
    shown: str,
) -> str:
    """Return ``journal.path`` with variables replaced; one that is not set is a problem.

    Parameters
    ----------
    path
        The path.
    location
        Where it stands.
    environ
        The variables.
    problems
        Receives what is wrong.
    was_loaded
        Whether it comes from settings that were loaded before. Then a ``$`` in an absolute path is part of a
        name.
    shown
        The path as messages quote it.
    """
    expanded, unset = expand_variables(path, environ)
    if unset is not None and not (was_loaded and path.startswith("/")):
        variable = shorten(unset) if shown == path else f"in {shorten(shown)}"
        message = f"the variable {variable} is not set in this environment, or it is empty"
        problems.add(location, JOURNAL_PATH, message, hint=lambda: "set it, or write the path out")
    return expanded


def absolute_journal_path(
    path: str, location: SourceLocation, cwd: Path | None, problems: Problems, *, shown: str
) -> str:
    """Return ``journal.path`` as an absolute path, so that other processes find the same folder.

    Parameters
    ----------
    path
        The path, with variables replaced.
    location
        Where it stands.
    cwd
        Where a relative path starts; None if the current folder is gone.
    problems
        Receives what is wrong.
    shown
        The path as it stands there, which messages quote: what a variable holds may be a secret.
    """
    add_problem = functools.partial(problems.add, location, JOURNAL_PATH)
    try:
        expanded = os.path.expanduser(path)  # noqa: PTH111  pathlib raises for an unknown home folder
    except ValueError:  # no user can have that name
        expanded = path
    if "\0" in path:
        add_problem("found a NUL character, expected the path of a folder")
    elif "://" in path:  # as a folder its credentials would stand in every record
        message = "found an address, expected the path of a folder"
        add_problem(message, hint=lambda: "sinks.redis.uri and sinks.mongodb.uri take servers")
    elif expanded.startswith("~"):
        message = f"the home folder of {shorten(shown.partition('/')[0])} is not known"
        add_problem(message, hint=lambda: "write the path out")
    elif not os.path.isabs(expanded):  # noqa: PTH117  the text is joined, not a path object
        if cwd is None or not _is_utf_8(str(cwd)):
            return _instead_of_relative(shown, cwd)
        expanded = str(cwd / expanded)
    if not _is_utf_8(expanded):
        message = f"the folder {shorten(expanded if path == shown else shown)} has a name that is not UTF-8"
        add_problem(message, hint=lambda: "give an absolute path that is UTF-8")
    return expanded


def _is_utf_8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instead_of_relative(shown: str, cwd: Path | None) -> str:
    """Return the folder of last resort: the program's own folder is gone, or cannot be told to others."""
    instead = fallback_folder()
    guard.warn_once(
        "no current folder",
        "flowprov: journal.path is relative (%s), and the current folder %s. This run is recorded in %s "
        "instead. Give an absolute path.",
        shorten(shown),
        "is gone" if cwd is None else "has a name that is not UTF-8",
        instead,
    )
    return instead


def absolute_database_uri(uri: str, cwd: Path | None) -> str:
    """Return the URI of a database; of a file with an absolute path, as another process opens it."""
    match = _RELATIVE_FILE.fullmatch(uri)
    return uri if match is None or cwd is None else f"{match[1]}{cwd / match[2]}"
