"""The state of the data that DVC keeps: what its files declare, and what lies beside them.

Flows in: the files of DVC in a repository, a deadline, and the moment that is asked about. Flows out: one
entry for each file or folder that is declared, with its state. A file that is invalid says so, and costs
nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from flowprov.values import as_name
from flowprov.versioning.dvc_digest import (
    MD5,
    MD5_DOS2UNIX,
    Counted,
    NotCountableError,
    OutOfTimeError,
    count_files,
    dvc_digest,
)
from flowprov.versioning.dvc_files import InvalidDvcFileError, declared_in

Check: TypeAlias = Literal["stat", "digest", "off"]

_MAX_FILES = 1_000  # files of DVC
_RUNNING = "the stage is running: until it ends, dvc.lock has what it used before"


def read_data_state(
    root: Path, files: Sequence[str], deadline: float, *, check: Check, moment: int | None = None
) -> list[dict[str, Any]]:
    """Return what the files of DVC declare, each with the state of the data beside it.

    Parameters
    ----------
    root
        The top of the repository.
    files
        The paths of ``.dvc`` files and ``dvc.lock`` in it.
    deadline
        On the monotonic clock; what was not looked at by then is ``unchecked``.
    check
        What is compared: sizes and numbers of files, digests, or nothing.
    moment
        Nanoseconds since the epoch: data that changed from then on is ``unchecked``. None for now.
    """
    found: list[dict[str, Any]] = []
    for file in files[:_MAX_FILES]:
        if time.monotonic() > deadline:
            found.append({"file": as_name(file), "state": "unchecked", "reason": "there was no time left"})
            continue
        try:
            entries = declared_in(root / file, root)
        except InvalidDvcFileError as error:
            found.append({"file": as_name(file), "state": "unchecked", "reason": f"invalid: {error}"})
            continue
        found += [{**entry, **_state(entry, root, deadline, check, moment)} for entry in entries]
    if len(files) > _MAX_FILES:
        more = len(files) - _MAX_FILES
        found.append({"file": None, "state": "unchecked", "reason": f"{more} more files of DVC"})
    return found


def _state(
    entry: dict[str, Any], root: Path, deadline: float, check: Check, moment: int | None
) -> dict[str, Any]:
    """Return the state of what one entry declares, and what is there."""
    path = entry["path"]
    if check == "off" or "://" in path:
        return {"state": "unchecked", **({} if check == "off" else {"reason": "it lies elsewhere"})}
    is_hashed = check == "digest" and entry["hash"] in (MD5, MD5_DOS2UNIX)
    try:
        found = (
            dvc_digest(root / path, entry["hash"], deadline)
            if is_hashed
            else count_files(root / path, deadline)
        )
    except FileNotFoundError:
        return _missing(root / path, moment)
    except OutOfTimeError:
        return {"state": "unchecked", "reason": "it would take longer than versions.timeout"}
    except (NotCountableError, OSError) as error:
        return {"state": "unchecked", "reason": as_name(getattr(error, "strerror", None) or error)}
    return {**_compare(entry, found, moment), **_actual(entry, found)}


def _actual(entry: dict[str, Any], found: Counted) -> dict[str, Any]:
    nfiles = None if entry["nfiles"] is None and found.nfiles == 1 else found.nfiles
    actual = {"actual_size": found.size, "actual_nfiles": nfiles, "actual_md5": found.md5}
    return {name: value for name, value in actual.items() if value is not None}


def _compare(entry: dict[str, Any], found: Counted, moment: int | None) -> dict[str, Any]:
    declared = (entry["size"], entry["nfiles"] or 1, entry["md5"])
    actual = (found.size, found.nfiles, found.md5)
    pairs = [(before, now) for before, now in zip(declared, actual, strict=True) if None not in (before, now)]
    if os.environ.get("DVC_STAGE") and os.environ["DVC_STAGE"] == entry["stage"]:
        return {"state": "unchecked", "reason": _RUNNING}
    if found.md5 is not None and found.md5 == entry["md5"]:
        return {"state": "matches"}
    if all(before == now for before, now in pairs):
        return {"state": "unchecked"}
    if moment is not None and found.changed_at >= moment:
        return {"state": "unchecked", "reason": "it changed after the workflow had begun"}
    return {"state": "modified"}


def _missing(path: Path, moment: int | None) -> dict[str, Any]:
    """Return the state of what is not there: something may have taken it away after the moment."""
    if moment is not None:
        try:
            gone_at = path.parent.stat().st_mtime_ns
        except OSError:
            gone_at = 0
        if gone_at >= moment:
            return {"state": "unchecked", "reason": "it may have been removed after the workflow had begun"}
    return {"state": "missing"}
