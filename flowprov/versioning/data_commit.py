"""A version of data: ``dvc add`` or ``dvc commit``, and a commit of what DVC wrote, and of nothing else.

Flows in: paths of data in a repository. Flows out: their digests before and after, and the commit. Nothing is
pushed. Hooks of the repository do not run, as one of them might push.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from flowprov.environment.repository import Repository, find_repository
from flowprov.errors import FlowprovError, UsageError
from flowprov.versioning.code_state import deadline_in, list_dvc_files
from flowprov.versioning.dvc_files import InvalidDvcFileError, declared_in
from flowprov.versioning.git_command import find_git

_SECONDS = 30.0  # for reading what there is
_GIT = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


class Data(NamedTuple):
    """Data that DVC keeps, or is going to.

    Attributes
    ----------
    path
        Where it lies.
    file
        The file of DVC that declares it.
    stage
        The stage of which it is an output; None if it has a file of its own.
    md5
        What that file says; None before it is there.
    """

    path: Path
    file: Path
    stage: str | None
    md5: str | None


def find_data(paths: Sequence[Path]) -> tuple[Repository, list[Data]]:
    """Return the repository in which some data lies, and what DVC says of each.

    Raises
    ------
    UsageError
        If there is no such data, or if it lies in no repository, or in several.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(
                f"flowprov.data_commit(): there is no {path}; give the paths of files or folders"
            )
    found = {repository for path in paths if (repository := find_repository(path.parent)) is not None}
    if len(found) != 1:
        where = "in no git repository" if not found else "in several git repositories"
        raise UsageError(
            f"flowprov.data_commit(): {', '.join(map(str, paths))} lies {where}; data of one is committed"
        )
    (repository,) = found
    declared = _declared_outputs(repository)
    return repository, [_data_of(path, declared) for path in paths]


def update_data(repository: Repository, data: Sequence[Data]) -> list[Data]:
    """Have DVC take in data as it is now; return what its files say then.

    Raises
    ------
    FlowprovError
        If DVC is not installed, or fails.
    """
    added = [str(one.path) for one in data if one.stage is None]
    if added:
        _run([*_dvc(), "add", "--", *added], repository)
    for one in data:
        if one.stage is not None:
            _run([*_dvc(), "commit", "--force", f"{one.file.with_name('dvc.yaml')}:{one.stage}"], repository)
    declared = _declared_outputs(repository, [one.file for one in data])
    return [_data_of(one.path, declared) for one in data]


def commit_files(repository: Repository, files: Sequence[Path], message: str) -> str | None:
    """Commit some files, and nothing of what is staged; return the commit, None if nothing has changed.

    Raises
    ------
    FlowprovError
        If git fails.
    """
    names = [str(file) for file in files]
    if not _run([*_git(), "status", "--porcelain", "--ignored=no", "--", *names], repository).strip():
        return None
    _run([*_git(), "add", "--", *names], repository)
    _run([*_git(), "commit", "-q", "--only", "--no-verify", "-m", message, "--", *names], repository)
    return _run([*_git(), "rev-parse", "HEAD"], repository).strip()


def is_changed(repository: Repository, file: Path) -> bool:
    """Whether a file differs from the commit, or is not in it."""
    return bool(_run([*_git(), "status", "--porcelain", "--", str(file)], repository).strip())


def _declared_outputs(repository: Repository, files: Sequence[Path] = ()) -> dict[Path, Data]:
    """Return the outputs that the repository's files of DVC declare, by their paths."""
    listed = list_dvc_files(repository.folder, deadline_in(_SECONDS)) or []
    found: dict[Path, Data] = {}
    for file in dict.fromkeys([*(repository.folder / name for name in listed), *files]):
        try:
            entries = declared_in(file, repository.folder)
        except InvalidDvcFileError:  # DVC will say what is wrong with it
            continue
        for entry in entries:
            if entry["role"] == "out":
                path = repository.folder / entry["path"]
                found[path] = Data(path, file, entry["stage"], entry["md5"])
    return found


def _data_of(path: Path, declared: dict[Path, Data]) -> Data:
    """Return the data to which a path belongs: declared, itself or as a folder around it; or new data."""
    known = next((declared[one] for one in (path, *path.parents) if one in declared), None)
    return known or Data(path, path.with_name(f"{path.name}.dvc"), None, None)


def _dvc() -> list[str]:
    beside = shutil.which("dvc", path=str(Path(sys.executable).parent)) or shutil.which("dvc")
    if beside is not None:
        return [beside]
    if find_spec("dvc") is not None:
        return [sys.executable, "-m", "dvc"]
    raise FlowprovError("flowprov.data_commit() needs DVC: pip install dvc")


def _git() -> list[str]:
    git = find_git()
    if git is None:
        raise FlowprovError("flowprov.data_commit() needs git, and it is not installed")
    return [git, *_GIT]


def _run(command: Sequence[str], repository: Repository) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git and DVC, on behalf of the user
            command,
            cwd=repository.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise FlowprovError(f"flowprov.data_commit() cannot start {command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        name = Path(command[0]).name
        raise FlowprovError(f"flowprov.data_commit(): {name} ended with status {done.returncode}: {said}")
    return done.stdout
