"""The digests of a campaign in one file, as opening each Parquet file takes longer than reading all digests.

Flows in: the digests of journals, as their Parquet files hold them. Flows out: ``digests.msgpack`` in the
folder of the campaign, and the digests in it that still hold.

An entry names the sizes and times of the journal and of its Parquet file. Where one of these is another, the
entry counts for nothing. So the file cannot go stale, and to remove it loses nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from flowprov.ids import new_journal_id
from flowprov.read.digest import VERSION, Digest, decode_digest, encode_digest
from flowprov.regular_files import open_regular

logger = logging.getLogger("flowprov")

NAME = "digests.msgpack"
_FEW = 8  # digests of a campaign: these are read as fast from their own files
_MAX_SIZE = 1 << 30  # bytes
_OTHERS_MAY = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


class FileState(NamedTuple):
    """What tells whether a file was written since: its size in bytes, and when it was written last."""

    size: int
    mtime_ns: int


class _Entry(msgspec.Struct, array_like=True):
    journal: FileState
    parquet: FileState
    digest: bytes


class _Content(msgspec.Struct):
    version: int
    entries: dict[str, _Entry]


_decoder = msgspec.msgpack.Decoder(_Content)


def known_digests(journals: Iterable[Path], parquet_path_of: Mapping[Path, Path]) -> dict[Path, Digest]:
    """Return the digests of journals that the files of their campaigns hold.

    Parameters
    ----------
    journals
        The journals.
    parquet_path_of
        The Parquet file of each of them.
    """
    contents: dict[Path, dict[str, _Entry]] = {}
    found = {}
    for journal in journals:
        folder = journal.parent.parent
        if folder not in contents:
            contents[folder] = _read(folder / NAME)
        entry = contents[folder].get(name_in_campaign(journal))
        if (
            entry is None
            or entry.journal != state_of(journal)
            or entry.parquet != state_of(parquet_path_of[journal])
        ):
            continue
        digest = decode_digest(entry.digest)
        if digest is not None and digest.version == VERSION:
            found[journal] = digest
    return found


def keep_digests(digests: Mapping[Path, Digest], parquet_path_of: Mapping[Path, Path]) -> None:
    """Write digests into the files of their campaigns, if they are many and the folders can be written.

    Parameters
    ----------
    digests
        By their journals, with which they agree.
    parquet_path_of
        The Parquet file of each journal.
    """
    by_folder: dict[Path, list[Path]] = {}
    for journal in digests:
        by_folder.setdefault(journal.parent.parent, []).append(journal)
    for folder, journals in by_folder.items():
        if len(journals) >= _FEW and os.access(folder, os.W_OK):
            with contextlib.suppress(OSError):  # of another user, or gone: then each file is opened again
                _write(folder, {journal: digests[journal] for journal in journals}, parquet_path_of)


def _write(folder: Path, digests: Mapping[Path, Digest], parquet_path_of: Mapping[Path, Path]) -> None:
    entries = {name: one for name, one in _read(folder / NAME).items() if (folder / name).exists()}
    mode = _OTHERS_MAY
    for journal, digest in digests.items():
        mode &= journal.stat().st_mode  # who may read the journals
        state, state_of_file = state_of(journal), state_of(parquet_path_of[journal])
        if state is not None and state_of_file is not None and state.size == digest.length:
            entries[name_in_campaign(journal)] = _Entry(state, state_of_file, encode_digest(digest))
    new = folder / f"{NAME}.{new_journal_id()}.new"
    try:
        new.touch(mode=0o600, exist_ok=False)
        new.write_bytes(msgspec.msgpack.encode(_Content(VERSION, entries)))
        new.chmod(mode)
        new.replace(folder / NAME)
    finally:
        new.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, _Entry]:
    """Return the entries of a file; none if there is no such file, or none of this version."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return {}
    try:
        size = os.fstat(descriptor).st_size
        content = _decoder.decode(os.pread(descriptor, size, 0)) if size <= _MAX_SIZE else None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):  # damaged, or of another version
        return {}
    finally:
        os.close(descriptor)
    return content.entries if content is not None and content.version == VERSION else {}


def name_in_campaign(journal: Path) -> str:
    """Return the path of a journal, or of a file beside it, in the folder of its campaign."""
    return f"{journal.parent.name}/{journal.name}"


def state_of(path: Path) -> FileState | None:
    """Return the state of a file; None if there is none, or it is no regular one."""
    try:
        found = os.stat(path)  # noqa: PTH116 - this is asked of thousands of files
    except OSError:
        return None
    return FileState(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
