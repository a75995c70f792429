"""``data_commit``: a new version of data, recorded as a task.

Flows in: paths of data that the program has written. Flows out: a commit of what DVC says of them, and a task
with their digests before and after.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.capture.task_scope import task_scope
from flowprov.capture.version_records import finish_versions
from flowprov.errors import UsageError
from flowprov.versioning.data_commit import Data, commit_files, find_data, is_changed, update_data


def data_commit(*paths: str | os.PathLike[str], message: str | None = None) -> str | None:
    """Have DVC take in data as it is now, and commit what DVC writes of it.

    ``dvc add`` is run, or ``dvc commit`` for the output of a stage, and then git commits the ``.dvc`` file or
    ``dvc.lock``, and ``.gitignore``. What else is changed or staged stays as it is. Nothing is pushed, and no
    hook runs. It is recorded as a task ``data_commit``: ``used.md5`` is the digest before, ``generated.md5``
    the new one and ``generated.commit`` the commit. Of several paths, the digests are recorded by path.

    Parameters
    ----------
    *paths
        Files or folders in one git repository in which DVC is set up.
    message
        The message of the commit.

    Returns
    -------
    str or None
        The commit; None if the data is the same as before.

    Raises
    ------
    UsageError
        If there is no such data, or if it lies in no repository.
    FlowprovError
        If DVC or git is not installed, or fails; the message has what it said.
    """
    if not paths:
        raise UsageError("flowprov.data_commit() takes the paths of the data: flowprov.data_commit('data')")
    with guard.guarded("finding out versions before a commit of data"):
        finish_versions()  # they are of the data as it was declared until now
    given = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - links stay as they are
    repository, before = find_data(given)
    message = message or f"Data: {', '.join(path.name for path in given)}"
    used = {
        "paths": [str(path) for path in given],
        "md5": _md5(before, repository.folder),
        "message": message,
    }
    with task_scope("data_commit", used=used) as task:
        ignoring = {one.path.with_name(".gitignore") for one in before}
        own_changes = {file for file in ignoring if file.exists() and is_changed(repository, file)}
        after = update_data(repository, before)
        files = {one.file for one in after} | {file for file in ignoring - own_changes if file.exists()}
        commit = commit_files(repository, sorted(files), message)
        task.set_generated(md5=_md5(after, repository.folder), commit=commit)
    if own_changes:
        guard.warn_once(
            "gitignore",
            "flowprov.data_commit() left %s as it is: it has changes of yours that are not committed.",
            ", ".join(map(str, sorted(own_changes))),
        )
    return commit


def _md5(data: Sequence[Data], top: Path) -> Any:
    """Return the digest of data; of several, by their paths."""
    if len(data) == 1:
        return data[0].md5
    return {os.path.relpath(one.path, top): one.md5 for one in data}
