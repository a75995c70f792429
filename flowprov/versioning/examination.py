"""The examination of a program's code, data and environment at a moment.

Flows in: where the program runs, the settings, the moment, and a deadline. Flows out: what a version record
holds, and what is kept beside it. It takes as long as git does, so it runs in the background.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flowprov.environment.program import arguments, script_folder, script_path, working_folder
from flowprov.environment.repository import Repository
from flowprov.settings import VersionSettings
from flowprov.values import as_name
from flowprov.values.arguments import redact_arguments
from flowprov.versioning.code_state import CodeState, read_code_state
from flowprov.versioning.data_state import read_data_state
from flowprov.versioning.function_sources import function_sources
from flowprov.versioning.packages import installed_packages, lock_files

_MAX_DATA = 1_000  # entries in one record
_STAGE = {
    "name": "DVC_STAGE",
    "folder": "DVC_ROOT",
    "experiment": "DVC_EXP_NAME",
    "baseline": "DVC_EXP_BASELINE_REV",
}


class Surroundings(NamedTuple):
    """Where a program runs, as it was when the workflow opened or ended."""

    script: str | None
    script_folder: Path | None
    arguments: tuple[str, ...]
    working_folder: Path | None
    repository: Repository | None


class Examination(NamedTuple):
    """What was found.

    Attributes
    ----------
    fields
        The fields of the version record.
    packages, patch
        What is to be kept beside it.
    """

    fields: dict[str, Any]
    packages: bytes | None = None
    patch: bytes | None = None


def surroundings(repository: Repository | None) -> Surroundings:
    """Return where the program runs now, given the repository of its code."""
    given = tuple(redact_arguments(arguments()))
    return Surroundings(script_path(), script_folder(), given, working_folder(), repository)


def examine(
    where: Surroundings,
    settings: VersionSettings,
    deadline: float,
    *,
    moment: int | None = None,
    buffer: Path | None = None,
) -> Examination:
    """Examine code, data and environment.

    Parameters
    ----------
    where
        Where the program runs.
    settings
        What is examined.
    deadline
        When to stop, on the monotonic clock.
    moment
        Nanoseconds since the epoch: of what changed from then on, the state is unknown. None for now.
    buffer
        The folder into which flowprov itself writes.
    """
    begun = time.monotonic_ns()
    fields = _program(where)
    state = CodeState({})
    if settings.code or settings.data:
        state = read_code_state(
            where.repository, deadline, moment=moment, patch=settings.patch and settings.code, ignored=buffer
        )
    if settings.code:
        fields["code"] = state.described
        fields["functions"] = function_sources() or None
    if settings.data:
        fields |= _data(where, settings, state, deadline, moment)
    packages = None
    if settings.packages:
        packages = installed_packages()
        fields["packages_sha256"] = hashlib.sha256(packages).hexdigest()
        fields["locks"] = lock_files(_folders(where)) or None
    fields["took_ns"] = time.monotonic_ns() - begun
    return Examination(fields, packages, state.patch)


def _program(where: Surroundings) -> dict[str, Any]:
    script = where.script
    if script is not None and where.script_folder is not None:
        script = str(where.script_folder / Path(script).name)
    return {
        "script": as_name(script),
        "arguments": list(where.arguments),
        "working_folder": as_name(where.working_folder),
    }


def _data(
    where: Surroundings, settings: VersionSettings, state: CodeState, deadline: float, moment: int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"stage": _running_stage(os.environ)}
    if where.repository is None or state.dvc_files == []:
        return found
    if state.dvc_files is None:
        reason = state.described.get("reason") or "git could not list the files of DVC"
        return {**found, "data": [{"file": None, "state": "unchecked", "reason": reason}]}
    data = read_data_state(
        where.repository.folder, state.dvc_files, deadline, check=settings.check_data, moment=moment
    )
    if len(data) > _MAX_DATA:
        more = {"file": None, "state": "unchecked", "reason": f"{len(data) - _MAX_DATA} more entries"}
        data = [*data[:_MAX_DATA], more]
    return {**found, "data": data}


def _running_stage(variables: Mapping[str, str]) -> dict[str, str | None] | None:
    """Return the stage of DVC that runs this program; None if none does."""
    found = {name: as_name(variables[key]) for name, key in _STAGE.items() if variables.get(key)}
    return found or None


def _folders(where: Surroundings) -> list[Path]:
    """Return the folders in which lock files may lie."""
    top = None if where.repository is None else where.repository.folder
    return [folder for folder in (top, where.script_folder, where.working_folder) if folder is not None]
