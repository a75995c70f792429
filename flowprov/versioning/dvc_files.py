"""What ``.dvc`` files and ``dvc.lock`` declare of data.

Flows in: such a file, which may be anybody's. Flows out: one entry for each file or folder that it declares.

All scalars are read as text: YAML would take an unquoted md5 of digits for a number, and ``1e-5`` for text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowprov.environment.small_files import read_file
from flowprov.lazy_imports import import_lazily
from flowprov.values import as_name
from flowprov.values.redaction import redactor
from flowprov.versioning.dvc_digest import MD5_DOS2UNIX

_MAX_BYTES = 4 << 20
_MAX_ENTRIES = 10_000
# Beyond these the parser in C might nest deeper than its stack is.
_MAX_LINE, _MAX_BRACKETS = 1_000, 500
_CHECKSUMS = ("md5", "etag", "checksum")
_VERSIONS = ("version_id", "etag")


class InvalidDvcFileError(Exception):
    """The file is no ``.dvc`` file and no ``dvc.lock``."""


def declared_in(file: Path, root: Path) -> list[dict[str, Any]]:
    """Return what a file of DVC declares.

    Parameters
    ----------
    file
        The file.
    root
        The top of the repository: paths start there.

    Returns
    -------
    list of dict
        ``file``, ``path``, ``hash``, ``md5``, ``size``, ``nfiles``, ``stage``, ``role`` (``out`` or ``dep``),
        and what there is of ``rev_lock``, ``version_id``, ``etag`` and ``url``.

    Raises
    ------
    InvalidDvcFileError
        If it is invalid; the message says why.
    """
    document = _load(file)
    own = {"file": as_name(_relative(file, root))}
    entries = _of_lock(document, file) if file.name == "dvc.lock" else _of_dvc_file(document, file)
    found: list[dict[str, Any]] = []
    for folder, entry, role, stage in entries:
        if len(found) >= _MAX_ENTRIES:
            raise InvalidDvcFileError(f"it declares more than {_MAX_ENTRIES} files")
        found.append({**own, **_entry(entry, folder, root), "stage": as_name(stage), "role": role})
    return found


_Entry = tuple[Path, Mapping[str, Any], str, str | None]


def _of_dvc_file(document: Mapping[str, Any], file: Path) -> Iterator[_Entry]:
    folder = file.parent / _text(document.get("wdir"), ".")
    origin: dict[str, Any] = {}
    for dep in _mappings(document.get("deps"), "deps"):
        repo, path = dep.get("repo"), dep.get("path")
        if isinstance(repo, Mapping):  # `dvc import`: the output comes from this commit of another repository
            origin = {"url": repo.get("url"), "rev_lock": repo.get("rev_lock")}
        elif isinstance(path, str) and "://" in path:  # `dvc import-url`
            origin = {"url": path, **{name: dep[name] for name in _VERSIONS if name in dep}}
        else:
            yield folder, dep, "dep", None
    for out in _mappings(document.get("outs"), "outs"):
        yield folder, {**out, **origin}, "out", None


def _of_lock(document: Mapping[str, Any], file: Path) -> Iterator[_Entry]:
    stages = document.get("stages", {} if "schema" in document else document)
    if not isinstance(stages, Mapping):
        raise InvalidDvcFileError("its stages are no mapping")
    folders = _stage_folders(file)
    for name, stage in stages.items():
        if not isinstance(stage, Mapping):
            raise InvalidDvcFileError(f"stage {name!r} is no mapping")
        folder = file.parent / folders.get(str(name).partition("@")[0], ".")
        for key, role in (("outs", "out"), ("deps", "dep")):
            for entry in _mappings(stage.get(key), key):
                yield folder, entry, role, str(name)


def _stage_folders(lock: Path) -> dict[str, str]:
    """Return the folders in which stages run: only ``dvc.yaml`` has them."""
    try:
        document = _load(lock.with_name("dvc.yaml"))
    except InvalidDvcFileError:
        return {}
    stages = document.get("stages")
    folders = {}
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        definition = stage.get("do", stage) if isinstance(stage, Mapping) else {}
        folder = definition.get("wdir") if isinstance(definition, Mapping) else None
        if isinstance(folder, str) and "${" not in folder:
            folders[str(name)] = folder
    return folders


def _entry(entry: Mapping[str, Any], folder: Path, root: Path) -> dict[str, Any]:
    path = entry.get("path")
    if not isinstance(path, str) or not path:
        raise InvalidDvcFileError("an entry has no path")
    is_remote = "://" in path
    described: dict[str, Any] = {
        "path": _address(path) if is_remote else as_name(_relative(folder / path, root)),
        **_digest(entry),
        "size": _number(entry.get("size")),
        "nfiles": _number(entry.get("nfiles")),
    }
    if isinstance(files := entry.get("files"), list):  # versions in the cloud: each file has its own
        sizes = [_number(file.get("size")) for file in files if isinstance(file, Mapping)]
        described["nfiles"] = len(files)
        described["size"] = sum(filter(None, sizes)) if None not in sizes else None
    cloud = entry.get("cloud")
    remotes = (
        [one for one in cloud.values() if isinstance(one, Mapping)] if isinstance(cloud, Mapping) else []
    )
    for holder in (entry, *remotes):
        for name in _VERSIONS:
            if isinstance(value := holder.get(name), str):
                described[name] = as_name(value)
    if isinstance(url := entry.get("url"), str):
        described["url"] = _address(url)
    if isinstance(commit := entry.get("rev_lock"), str):
        described["rev_lock"] = as_name(commit)
    return described


def _digest(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digest and how it was made; DVC 2 did not write how."""
    value = entry.get("md5")
    if isinstance(value, str):
        return {"hash": as_name(_text(entry.get("hash"), MD5_DOS2UNIX)), "md5": as_name(value)}
    other = next((name for name in _CHECKSUMS if isinstance(entry.get(name), str)), None)
    return {"hash": other, "md5": None}


def _load(file: Path) -> Mapping[str, Any]:
    text = read_file(file, _MAX_BYTES)
    if not text.strip():
        raise InvalidDvcFileError("it cannot be read, is empty, or is larger than 4 MiB")
    yaml = import_lazily("yaml")
    is_flat = text.count("[") + text.count("{") <= _MAX_BRACKETS and all(
        len(line) <= _MAX_LINE for line in text.splitlines()
    )
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader) if is_flat else yaml.BaseLoader
    try:
        document = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidDvcFileError(_first_line(error)) from error
    if not isinstance(document, Mapping):
        raise InvalidDvcFileError("it is no mapping")
    return document


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem}{where}"


def _mappings(value: Any, name: str) -> list[Mapping[str, Any]]:
    if value in (None, ""):
        return []
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise InvalidDvcFileError(f"its {name} are no list of mappings")
    return value


def _relative(path: Path, root: Path) -> str:
    """Return a path as seen from the repository; one outside of it stays absolute."""
    plain = os.path.normpath(path)
    inside = os.path.relpath(plain, root)
    return plain if inside.startswith("..") else inside.replace(os.sep, "/")


def _address(text: str) -> str | None:
    return as_name(redactor().text(text))


def _text(value: Any, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _number(value: Any) -> int | None:
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19
    return int(value) if digits else None
