"""Files that MLflow gets with a run: small ones that the run generated and that are still what they were.

Flows in: the artifacts of a run. Flows out: artifacts in MLflow, in the folder ``files``. Each has a part of
its digest in its name, so that what is there is known by its name and its size, and is not sent again.

What is sent is a copy that was hashed while it was made: a program may change the file meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowprov.errors import SinkRefusedError
from flowprov.export.mlflow.store import Store, StoredRun
from flowprov.read.artifacts.catalog import GENERATED
from flowprov.regular_files import open_regular

FOLDER = "files"
UPLOADED = "flowprov.uploaded"
"""The tag with a fingerprint of the files that were considered; it is written when all of them are there."""

NOT_UPLOADED = "flowprov.not_uploaded"
"""The tag with the files that could not be uploaded, and why."""

_FOREIGN = re.compile(r"[^\w.\-=+]", re.ASCII)
_MAX_STEM, _MAX_SUFFIX = 100, 20
_CHUNK = 1 << 20


class Uploadable(NamedTuple):
    """A file that may be uploaded.

    Attributes
    ----------
    path
        Where it lies.
    name
        The name that it has in MLflow.
    size, sha256
        As they were recorded.
    changed_at
        When it was written last, in nanoseconds: a file that was put back is looked at again.
    """

    path: Path
    name: str
    size: int
    sha256: str
    changed_at: int


class UploadResult(NamedTuple):
    """What an upload did.

    Attributes
    ----------
    uploaded
        How many files are new in MLflow.
    failed
        Why files could not be uploaded, by their names.
    fingerprint
        What the tag says then: empty if something failed, so that the next export tries again; None if there
        was nothing to do.
    """

    uploaded: int
    failed: dict[str, str]
    fingerprint: str | None


def uploadables_of(artifacts: Iterable[Mapping[str, Any]], largest: int) -> list[Uploadable]:
    """Return the files of at most so many bytes that were generated and still have their size.

    Parameters
    ----------
    artifacts
        Artifacts, with ``role``, ``path``, ``size`` and ``sha256``.
    largest
        Bytes; of 0 there are no files.
    """
    found: dict[str, Uploadable] = {}
    for one in artifacts if largest else ():
        path, size, digest = one["path"], one["size"], one["sha256"]
        if one["role"] != GENERATED or path is None or digest is None or size is None or size > largest:
            continue
        place = Path(path)
        try:
            status = place.stat()
        except (OSError, ValueError):  # it is gone, lies on another machine, or holds a NUL
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size == size:
            name = _name_of(place, digest)
            found[name] = Uploadable(place, name, size, digest, status.st_mtime_ns)
    return [found[name] for name in sorted(found)]


def upload(store: Store, stored: StoredRun, uploadables: list[Uploadable]) -> UploadResult:
    """Upload the files that MLflow does not hold yet.

    Raises
    ------
    SinkUnavailableError
        If MLflow cannot be reached. A file that it refuses, or that cannot be read, ends nothing.
    """
    fingerprint = sha256(msgspec.json.encode([one[1:] for one in uploadables])).hexdigest()
    if not uploadables or stored.tags.get(UPLOADED) == fingerprint:
        return UploadResult(0, {}, None)
    known = dict(store.artifacts(stored.mlflow_id, FOLDER))
    uploaded, failed = 0, {}
    for one in uploadables:
        if known.get(f"{FOLDER}/{one.name}") == one.size:
            continue
        try:
            with _copy_of(one) as copy:
                if copy is not None:
                    store.log_file(stored.mlflow_id, copy, FOLDER)
                    uploaded += 1
        except SinkRefusedError as error:
            failed[one.name] = str(error)
        except OSError as error:
            failed[one.name] = f"{one.path}: {error.strerror or error}"
    return UploadResult(uploaded, failed, "" if failed else fingerprint)


@contextmanager
def _copy_of(one: Uploadable) -> Iterator[Path | None]:
    """Yield a copy of a file under the name that it has in MLflow; None if it holds something else now."""
    with tempfile.TemporaryDirectory(prefix="flowprov-") as folder:
        copy = Path(folder) / one.name
        digest, left = sha256(usedforsecurity=False), one.size
        with os.fdopen(open_regular(one.path), "rb") as source, copy.open("wb") as target:
            while left > 0 and (part := source.read(min(_CHUNK, left))):
                digest.update(part)
                target.write(part)
                left -= len(part)
            is_same = not left and not source.read(1) and digest.hexdigest() == one.sha256
        yield copy if is_same else None


def _name_of(path: Path, digest: str) -> str:
    """Return the name of a file in MLflow: its own, with eight digits of its digest."""
    stem, suffix = (_FOREIGN.sub("_", part) for part in (path.stem, path.suffix))
    return f"{stem[:_MAX_STEM].lstrip('.')}-{digest[:8]}{suffix[:_MAX_SUFFIX]}"


__all__ = ["FOLDER", "NOT_UPLOADED", "UPLOADED", "UploadResult", "Uploadable", "upload", "uploadables_of"]
