"""The packages of the Python environment, and its lock files.

Flows in: the folders from which this process imports. Flows out: the names and versions of what is installed
there, as pip lists them, and the digests of lock files. Names and versions stand in the names of folders
(``msgspec-0.19.0.dist-info``), so that no metadata is parsed.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from flowprov.environment.small_files import read_file
from flowprov.folder_listing import list_folder
from flowprov.regular_files import read_at_once
from flowprov.values import as_name
from flowprov.values.redaction import redactor

_INFO = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-.*)?\.(?:dist|egg)-info")
_MAX_PACKAGES = 20_000
_LOCKS = (
    "pixi.lock",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "conda-lock.yml",
    "environment.yml",
    "environment.yaml",
)
_REQUIREMENTS = re.compile(r"requirements.*\.txt")
_MAX_LISTED = 2_000  # entries of a folder in which requirements are looked for
_MAX_LOCK = 32 << 20


def installed_packages() -> bytes:
    """Return the packages, one a line, as ``name==version``, sorted.

    Behind a package that was installed from an address stands that address, without credentials, with the
    commit.
    """
    key = tuple((path, _changed_at(path)) for path in sys.path)
    if _known.get("key") != key:
        _known.update(key=key, packages=_list(path for path, changed_at in key if changed_at))
    packages: bytes = _known["packages"]
    return packages


_known: dict[str, Any] = {}


def lock_files(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return file and SHA-256 of the lock files in some folders."""
    found = []
    for folder in dict.fromkeys(folders):
        for path in sorted(_locks_in(folder)):
            digest = _sha256(path)
            if digest is not None:
                found.append({"file": as_name(path), "sha256": digest})
    return found


def _list(folders: Iterable[str]) -> bytes:
    packages: dict[str, str] = {}
    for folder in folders:
        for entry in _entries(folder):
            if found := _INFO.fullmatch(entry):
                name = re.sub(r"[-_.]+", "-", found["name"]).lower()
                packages.setdefault(name, f"{name}=={found['version']}{_origin(Path(folder, entry))}")
    return "".join(f"{as_name(line)}\n" for _, line in sorted(packages.items())).encode()


def _origin(info: Path) -> str:
    """Return from where a package was installed, if not from an index."""
    text = read_file(info / "direct_url.json")
    if not text:
        return ""
    try:
        document = msgspec.json.decode(text.encode("utf-8", "replace"))
        commit = document.get("vcs_info", {}).get("commit_id")
        address = f" @ {redactor().text(str(document['url']))}"
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, RecursionError):
        return ""
    return address if commit is None else f"{address}@{commit}"


def _entries(folder: str) -> list[str]:
    try:
        return [entry.name for entry in list_folder(folder, _MAX_PACKAGES)]
    except (OSError, ValueError):  # it went away, or may not be read
        return []


def _changed_at(path: str) -> int:
    """Return when a folder was changed; 0 if it is none."""
    try:
        folder = Path(path)
        return folder.stat().st_mtime_ns if folder.is_dir() else 0
    except (OSError, ValueError, TypeError):
        return 0


def _locks_in(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in _LOCKS)
    for entry in islice(_entries(str(folder)), _MAX_LISTED):
        if _REQUIREMENTS.fullmatch(entry):
            yield folder / entry


def _sha256(path: Path) -> str | None:
    try:
        content = read_at_once(path, _MAX_LOCK + 1)
    except (OSError, ValueError):
        return None
    return None if len(content) > _MAX_LOCK else hashlib.sha256(content).hexdigest()
